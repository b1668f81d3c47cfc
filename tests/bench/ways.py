"""The ways to run a network: the loop that people write, and ours with the options of a recipe."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline
from PIL import Image

from manifests.errors import RowError
from stages.models.lama import Lama
from stages.models.refiners import loading
from stages.models.refiners.batches import unshifted_scheduler
from stages.models.refiners.flux_fill import FluxFill
from stages.models.refiners.prompts import Prompt, to_numpy
from stages.recipe.options import FluxFillOptions, LamaOptions
from tests.bench.common import Pixels
from tests.support import DEMO, upright_rgb
from tests.support.models.lama_networks import random_lama
from tests.support.models.networks import make_flux_fill, make_lama, save_torchscript

#: A picture at a time, as the libraries' own pages show it; and what the others are compared with.
PLAIN, REFERENCE = "plain loop", "float32"

#: The ways by name, with the options that a recipe would set; the reference goes first.
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "lama": {
        REFERENCE: {"dtype": "float32"},
        PLAIN: {},
        "bfloat16": {"dtype": "bfloat16"},
        "float16": {"dtype": "float16"},
        "compile": {"dtype": "bfloat16", "compile": True},
    },
    "flux-fill": {
        REFERENCE: {"dtype": "float32"},
        PLAIN: {},
        "bfloat16": {},
        "compile": {"compile": True},
        "fp8, compile": {"fp8": True, "compile": True},
        "fp8": {"fp8": True},
        "cudnn attention": {"attention": "_native_cudnn"},
        "flash attention": {"attention": "_native_flash"},
    },
}

PHOTO = DEMO / "photos" / "coffee-stray-coins.jpg"

#: Takes pictures and masks through a network; returns new pixels, or why there are none, for each.
Way = Callable[[Sequence[Pixels], Sequence[Pixels]], Sequence[Pixels | RowError]]


@dataclass(frozen=True, slots=True)
class Load:
    """Where, how many pictures at once at most, and whether networks are tiny and steps few."""

    device: torch.device
    batch: int
    tiny: bool

    @property
    def steps(self) -> int:
        """Of the refiner: those of the recipe ``clean``, unless it is tiny."""
        return 2 if self.tiny else FluxFillOptions().steps

    @property
    def text_tokens(self) -> int:
        """Of a prompt: all that T5 is given, unless it is tiny."""
        return 16 if self.tiny else 512


def make(network: str, way: str, load: Load) -> Way:
    """Build a network with random weights, the same for each way, and the way to run it.

    Raises:
        WeightsError: ``model.unavailable``: a switch that cannot be had here.
        torch.OutOfMemoryError: it does not fit.
    """
    torch.manual_seed(0)
    options = WAYS[network][way]
    if network == "lama":
        lama = make_lama(tiny=True) if load.tiny else random_lama(upright_rgb(PHOTO))
        if way == PLAIN:
            return _simple_lama(lama, load)
        return Lama(lama, LamaOptions(**options, batch_size=load.batch), load.device).fill
    return _diffusers(load) if way == PLAIN else _flux_fill(options, load)


def _simple_lama(network: Any, load: Load) -> Way:
    """simple-lama-inpainting, which reads the file that an environment variable names."""
    from simple_lama_inpainting import SimpleLama

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # it is as it is
        path = save_torchscript(network, Path(folder) / "big-lama.pt")
        with mock.patch.dict(os.environ, LAMA_MODEL=str(path)):
            lama = SimpleLama(load.device)

    def run(pixels: Sequence[Pixels], masks: Sequence[Pixels]) -> Sequence[Pixels]:
        pairs = zip(pixels, masks, strict=True)
        return [np.asarray(lama(Image.fromarray(p), Image.fromarray(m))) for p, m in pairs]

    return run


def _diffusers(load: Load) -> Way:
    """FluxFillPipeline as its page shows it, but that the prompt is encoded already."""
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15
    )
    pipe = make_flux_fill(scheduler, load.device, torch.bfloat16, tiny=load.tiny)
    embeds, pooled = _random_prompt(pipe, load)

    def paint(pixels: Pixels, mask: Pixels) -> Pixels:
        height, width = mask.shape
        painted = pipe(
            image=Image.fromarray(pixels),
            mask_image=Image.fromarray(mask),
            height=height,
            width=width,
            prompt_embeds=embeds[None].to(load.device),
            pooled_prompt_embeds=pooled[None].to(load.device),
            guidance_scale=FluxFillOptions().guidance,
            num_inference_steps=load.steps,
            generator=torch.Generator("cpu").manual_seed(0),
        ).images[0]
        return np.asarray(painted)

    return lambda pixels, masks: [paint(p, m) for p, m in zip(pixels, masks, strict=True)]


def _flux_fill(options: dict[str, Any], load: Load) -> Way:
    chosen = FluxFillOptions(**options, batch_size=load.batch, steps=load.steps)
    dtype: torch.dtype = getattr(torch, chosen.dtype)
    fp8 = loading.fp8_config(dtype, load.device) if chosen.fp8 else None
    # Drawn in bfloat16 for each way: in float32 other weights would be drawn.
    pipe = make_flux_fill(unshifted_scheduler(), load.device, torch.bfloat16, tiny=load.tiny).to(
        dtype
    )
    if fp8:
        from torchao.quantization import quantize_  # not every installation has it

        quantize_(pipe.transformer, fp8.get_apply_tensor_subclass())
    refiner = FluxFill(pipe, chosen, load.device, dtype)
    embeds, pooled = map(to_numpy, _random_prompt(pipe, load))
    prompt = Prompt(embeds, pooled, np.zeros((0, 0), np.float32), "")
    return lambda pixels, masks: refiner.refine(
        pixels, masks, [prompt] * len(pixels), range(len(pixels))
    )


def _random_prompt(pipe: FluxFillPipeline, load: Load) -> tuple[torch.Tensor, torch.Tensor]:
    """A prompt's embeddings, of the right shapes, on the CPU in bfloat16."""
    config = pipe.transformer.config
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(load.text_tokens, config.joint_attention_dim, generator=generator)
    pooled = torch.randn(config.pooled_projection_dim, generator=generator)
    return embeds.bfloat16(), pooled.bfloat16()
