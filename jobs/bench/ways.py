"""The ways to run a network: the loop that people write, and ours with the options of a recipe."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline
from PIL import Image

from jobs.bench.networks import make_flux_fill, make_lama, save_torchscript
from manifests.errors import RowError
from stages.lama import Lama
from stages.masks import Bytes
from stages.options import FluxFillOptions, LamaOptions
from stages.refiners import loading
from stages.refiners.batches import scheduler_as_is
from stages.refiners.flux_fill import FluxFill
from stages.refiners.prompts import Prompt, to_floats

Network = Literal["lama", "flux-fill"]

#: A picture at a time, as the libraries' own pages show it.
PLAIN = "plain loop"

#: The ways by name, with the options that a recipe would set.
WAYS: dict[Network, dict[str, dict[str, Any]]] = {
    "lama": {
        PLAIN: {},
        "float32": {"dtype": "float32"},
        "bfloat16": {"dtype": "bfloat16"},
        "float16": {"dtype": "float16"},
        "compile": {"dtype": "bfloat16", "compile": True},
    },
    "flux-fill": {
        PLAIN: {},
        "float32": {"dtype": "float32"},
        "bfloat16": {},
        "cudnn attention": {"attention": "_native_cudnn"},
        "flash attention": {"attention": "_native_flash"},
        "compile": {"compile": True},
        "fp8": {"fp8": True},
        "fp8, compile": {"fp8": True, "compile": True},
    },
}


@dataclass(frozen=True, slots=True)
class Way:
    """A network on its device, ready to run.

    Attributes:
        run: takes pictures, ``(h, w, 3)`` uint8, and masks, ``(h, w)`` uint8, through the network;
            returns new pixels, or why there are none, for each.
    """

    run: Callable[[Sequence[Bytes], Sequence[Bytes]], Sequence[Bytes | RowError]]


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of each network.

    Attributes:
        device: where.
        batch: pictures at once, at most.
        tiny: take tiny networks, and few steps.
    """

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


def make(network: Network, way: str, load: Load) -> Way:
    """Build a network with random weights, and the way to run it.

    Raises:
        WeightsError: ``model.unavailable``: a switch that cannot be had here.
        torch.OutOfMemoryError: it does not fit.
    """
    options = WAYS[network][way]
    if network == "lama":
        return _simple_lama(load) if way == PLAIN else _lama(options, load)
    return _diffusers(load) if way == PLAIN else _flux_fill(options, load)


def _simple_lama(load: Load) -> Way:
    """simple-lama-inpainting, which reads the file that an environment variable names."""
    from simple_lama_inpainting import SimpleLama  # noqa: PLC0415 - takes half a second

    before = os.environ.get("LAMA_MODEL")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # it is as it is
        path = save_torchscript(make_lama(tiny=load.tiny), Path(folder) / "big-lama.pt")
        os.environ["LAMA_MODEL"] = str(path)
        try:
            lama = SimpleLama(load.device)
        finally:
            del os.environ["LAMA_MODEL"]
            if before is not None:
                os.environ["LAMA_MODEL"] = before

    def run(pixels: Sequence[Bytes], masks: Sequence[Bytes]) -> Sequence[Bytes]:
        pairs = zip(pixels, masks, strict=True)
        return [np.asarray(lama(Image.fromarray(p), Image.fromarray(m))) for p, m in pairs]

    return Way(run)


def _lama(options: dict[str, Any], load: Load) -> Way:
    chosen = LamaOptions(**options, batch_size=load.batch)
    return Way(Lama(make_lama(tiny=load.tiny), chosen, load.device).fill)


def _diffusers(load: Load) -> Way:
    """FluxFillPipeline as its page shows it, but that the prompt is encoded already."""
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15
    )
    pipe = make_flux_fill(scheduler, load.device, torch.bfloat16, tiny=load.tiny)
    embeds, pooled = _random_prompt(pipe, load)

    def run(pixels: Sequence[Bytes], masks: Sequence[Bytes]) -> Sequence[Bytes]:
        return [paint(p, m) for p, m in zip(pixels, masks, strict=True)]

    def paint(pixels: Bytes, mask: Bytes) -> Bytes:
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

    return Way(run)


def _flux_fill(options: dict[str, Any], load: Load) -> Way:
    chosen = FluxFillOptions(**options, batch_size=load.batch, steps=load.steps)
    dtype = loading.dtype_of(chosen.dtype, load.device)
    fp8 = loading.fp8_config(dtype, load.device) if chosen.fp8 else None
    pipe = make_flux_fill(scheduler_as_is(), load.device, dtype, tiny=load.tiny)
    if fp8:
        from torchao.quantization import quantize_  # noqa: PLC0415 - not every installation has it

        quantize_(pipe.transformer, fp8.get_apply_tensor_subclass())
    refiner = FluxFill.switched(pipe, chosen, load.device, dtype)
    embeds, pooled = map(to_floats, _random_prompt(pipe, load))
    prompt = Prompt(embeds, pooled, np.zeros((0, 0), np.float32), "")

    def run(pixels: Sequence[Bytes], masks: Sequence[Bytes]) -> Sequence[Bytes | RowError]:
        return refiner.refine(pixels, masks, [prompt] * len(pixels), range(len(pixels)))

    return Way(run)


def _random_prompt(pipe: FluxFillPipeline, load: Load) -> tuple[torch.Tensor, torch.Tensor]:
    """A prompt's embeddings, of the right shapes, on the CPU in bfloat16."""
    config = pipe.transformer.config
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(load.text_tokens, config.joint_attention_dim, generator=generator)
    pooled = torch.randn(config.pooled_projection_dim, generator=generator)
    return embeds.bfloat16(), pooled.bfloat16()
