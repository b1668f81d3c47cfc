"""The ways to run a network: the loop that people write, and ours with the options of a recipe."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.utils import logging as diffusers_logging
from PIL import Image

from manifests.errors import RowError
from stages.arrays import Float32Array
from stages.models.lama import Lama
from stages.models.osor import Osor
from stages.models.refiners import diffusers_folder
from stages.models.refiners.flow import FlowRefiner, unshifted_scheduler
from stages.models.refiners.flux2_klein import Flux2Klein, KleinPipeline
from stages.models.refiners.flux_fill import FillPipeline, FluxFill
from stages.models.refiners.prompts import Prompt, to_numpy
from stages.models.refiners.rorem import Rorem, RoremPipeline
from stages.models.refiners.z_image import ZImage, ZImagePipeline
from stages.models.upscaler import Upscaler
from stages.recipe import Recipe
from stages.recipe.refiners import Flux2KleinOptions, FluxFillOptions, UpscaleOptions, ZImageOptions
from stages.recipe.removal_methods import LamaOptions, OsorOptions, RoremOptions
from tests.bench.common import Pixels
from tests.support import DEMO, upright_rgb
from tests.support.models.lama_networks import random_lama, random_upscaler
from tests.support.models.networks import (
    SDXL_SCHEDULER,
    make_flux_fill,
    make_klein,
    make_lama,
    make_sdxl,
    make_z_image,
    save_torchscript,
)

#: A picture at a time, as the libraries' own pages show it; and what the others are compared with.
PLAIN, REFERENCE = "plain loop", "float32"

#: The ways by name, with the options that a recipe would set; the reference goes first, the rest by
#: their value to know. Those of `_NO_OPTIONS` are no options of recipes: see :func:`make_refiner`.
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "lama": {
        REFERENCE: {"dtype": "float32"},
        PLAIN: {},
        "bfloat16": {"dtype": "bfloat16"},
        "float16": {"dtype": "float16"},
        "compile": {"dtype": "bfloat16", "compile": True},
    },
    "upscaler": {
        REFERENCE: {"dtype": "float32"},
        "auto": {},
    },
    "flux-fill": {
        REFERENCE: {"dtype": "float32", "compile": False},
        "bfloat16": {"compile": False},
        "compile": {"compile": True},
        "fp8, compile": {"fp8": True, "compile": True},
        PLAIN: {},
        "cudnn attention, compile": {"attention": "_native_cudnn", "compile": True},
        "flash attention 3, compile": {"attention": "_flash_3", "compile": True},
        "fp8": {"fp8": True, "compile": False},
        "not fused": {"compile": False, "fused": False},
        "channels-last VAE": {"compile": False, "vae": torch.channels_last},
    },
    "flux2-klein": {
        REFERENCE: {"dtype": "float32", "compile": False},
        "bfloat16": {"compile": False},
        "compile": {"compile": True},
        "no reference, compile": {"reference": "none", "compile": True},
        "fp8, compile": {"fp8": True, "compile": True},
        "no reference": {"reference": "none", "compile": False},
        "small decoder": {"compile": False, "small_decoder": True},
    },
    "z-image": {
        REFERENCE: {"dtype": "float32", "compile": False},
        "bfloat16": {"compile": False},
        "compile": {"compile": True},
        "fp8, compile": {"fp8": True, "compile": True},
    },
    "osor": {
        REFERENCE: {"dtype": "float32"},
        "bfloat16": {"dtype": "bfloat16"},
    },
    "rorem": {
        REFERENCE: {"dtype": "float32"},
        "bfloat16": {"dtype": "bfloat16"},
        "float16": {"dtype": "float16"},
    },
}

_NO_OPTIONS = {"fused", "vae", "small_decoder"}

#: The recipe whose steps a model takes.
_RECIPES = {
    "flux-fill": "clean",
    "flux2-klein": "clean-apache",
    "z-image": "clean-z-image",
    "rorem": "rorem",
}

diffusers_logging.set_verbosity_error()  # it warns of each change of precision

PHOTO = DEMO / "photos" / "coffee-stray-coins.jpg"

#: Takes pictures and masks through a network; returns new pixels, or why there are none, for each.
Way = Callable[[Sequence[Pixels], Sequence[Pixels]], Sequence[Pixels | RowError]]


@dataclass(frozen=True, slots=True)
class Load:
    """Where, how many pictures at once at most, and whether networks are tiny and steps few."""

    device: torch.device
    batch: int
    tiny: bool
    size_px: int = 1024

    @property
    def place(self) -> torch.device:
        """Where weights are drawn: tiny ones on the CPU, so that each device has the same."""
        return torch.device("cpu") if self.tiny else self.device

    def steps_of(self, network: str, way: str) -> int:
        """Those of the recipes, unless it is tiny."""
        if network not in _RECIPES:
            return 1
        recipe = Recipe.load(_RECIPES[network])
        usual = getattr(recipe.refine or recipe.remove, "steps", 1)
        return 2 if self.tiny else int(WAYS[network][way].get("steps", usual))


def is_alike(network: str, way: str) -> bool:
    """Whether a way paints what the reference does, but for rounding."""
    starts_elsewhere = network == "flux-fill" and way == PLAIN  # diffusers' own loop, other noise
    return not starts_elsewhere and not WAYS[network][way].keys() & {"reference", "small_decoder"}


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
    if network in _MAKERS:
        return _MAKERS[network](options, load)
    if way == PLAIN:
        return _diffusers(load)
    refiner = make_refiner(network, way, load)
    prompt = random_prompt(refiner)
    return lambda pixels, masks: refiner.refine(
        pixels, masks, [prompt] * len(pixels), range(len(pixels))
    )


def make_refiner(network: str, way: str, load: Load, **more: Any) -> FlowRefiner:
    """Build a refiner; ``more`` are options. Errors: see :func:`make_refiner`."""
    given = WAYS[network][way] | more
    kind, options_kind, build = REFINERS[network]
    steps = load.steps_of(network, way)
    settings = {"batch_size": load.batch, "size_px": load.size_px, "steps": steps}
    names = given.keys() - _NO_OPTIONS
    options = options_kind(**(settings | {name: given[name] for name in names} | {"steps": steps}))
    dtype: torch.dtype = getattr(torch, options.dtype)
    parts = {"small_decoder": True} if given.get("small_decoder") else {}
    # Drawn in bfloat16 for each way: in float32 other weights would be drawn.
    pipe = build(unshifted_scheduler(), load.place, torch.bfloat16, tiny=load.tiny, **parts)
    pipe.to(dtype)
    pipe.vae.to(memory_format=given.get("vae", torch.contiguous_format))
    if given.get("fused", True):
        return kind.from_pipe(pipe, options, load.device, dtype)
    with mock.patch.object(diffusers_folder, "fuse_projections"):
        return kind.from_pipe(pipe, options, load.device, dtype)


REFINERS: dict[str, tuple[type[FlowRefiner], Any, Any]] = {
    "flux-fill": (FluxFill, FluxFillOptions, partial(make_flux_fill, kind=FillPipeline)),
    "flux2-klein": (Flux2Klein, Flux2KleinOptions, partial(make_klein, kind=KleinPipeline)),
    "z-image": (ZImage, ZImageOptions, partial(make_z_image, kind=ZImagePipeline)),
}


def random_prompt(refiner: FlowRefiner) -> Prompt:
    """A short text's encoding, of the right shapes, in bfloat16."""
    config, generator = refiner.pipe.transformer.config, torch.Generator().manual_seed(0)
    embeds = torch.randn(refiner.text_tokens, refiner.text_dim, generator=generator)
    pooled = torch.randn(config.get("pooled_projection_dim", 0), generator=generator)
    return Prompt(to_numpy(embeds.bfloat16()), to_numpy(pooled.bfloat16()), "")


def _osor(options: dict[str, Any], load: Load) -> Way:
    settings = OsorOptions(**options, batch_size=load.batch)
    pipe = _sdxl(settings.dtype, load)
    first, last = pipe.unet.conv_in, pipe.unet.conv_out
    pipe.unet.conv_out = torch.nn.Conv2d(
        last.in_channels, 5, 3, padding=1, device=first.weight.device, dtype=first.weight.dtype
    )
    text = [torch.from_numpy(each)[None] for each in _sdxl_text(pipe)]
    scheduler = DDPMScheduler(**SDXL_SCHEDULER)
    osor = Osor(
        pipe.unet.to(load.device),
        pipe.vae.to(load.device),
        scheduler,
        text,
        options=settings,
        device=load.device,
    )

    def run(pixels: Sequence[Pixels], masks: Sequence[Pixels]) -> Sequence[Pixels | RowError]:
        erased = osor.fill(pixels, masks, range(len(pixels)))
        return [each if isinstance(each, RowError) else each.pixels for each in erased]

    return run


def _rorem(options: dict[str, Any], load: Load) -> Way:
    steps = load.steps_of("rorem", REFERENCE)
    settings = RoremOptions(**options, batch_size=load.batch, steps=steps)
    pipe = _sdxl(settings.dtype, load)
    if settings.dtype == "float16":
        pipe.vae.float()
    rorem = Rorem.from_pipe(pipe, settings, load.device, getattr(torch, settings.dtype))
    prompt = Prompt(*_sdxl_text(pipe), "")
    return lambda pixels, masks: rorem.refine(
        pixels, masks, [prompt] * len(pixels), range(len(pixels))
    )


def _sdxl(dtype: str, load: Load) -> Any:
    """SDXL inpainting, drawn in bfloat16 for each way: see :func:`make_refiner`."""
    scheduler = EulerDiscreteScheduler(**SDXL_SCHEDULER)
    pipe = make_sdxl(scheduler, load.place, torch.bfloat16, tiny=load.tiny, kind=RoremPipeline)
    return pipe.to(getattr(torch, dtype))


def _sdxl_text(pipe: Any) -> tuple[Float32Array, Float32Array]:
    """A text's encoding, ``(77, dim)``, and its pooled vector, ``(dim,)``."""
    config, generator = pipe.unet.config, torch.Generator().manual_seed(0)
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    embeds = torch.randn(77, config.cross_attention_dim, generator=generator)
    return embeds.numpy(), torch.randn(pooled, generator=generator).numpy()


def _upscaler(options: dict[str, Any], load: Load) -> Way:
    with tempfile.TemporaryDirectory() as folder:
        path = random_upscaler(Path(folder) / "2x.pth")
        network = Upscaler.load(path, UpscaleOptions(**options), load.device)
    return lambda pixels, masks: [network.enlarge(each) for each in pixels]  # noqa: ARG005


#: How networks are made that are neither LaMa nor refiners.
_MAKERS = {"upscaler": _upscaler, "osor": _osor, "rorem": _rorem}


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
    pipe = make_flux_fill(scheduler, load.place, torch.bfloat16, tiny=load.tiny).to(load.device)
    config, tokens = pipe.transformer.config, 16 if load.tiny else 512  # its default
    embeds = torch.randn(1, tokens, config.joint_attention_dim, dtype=torch.bfloat16)
    pooled = torch.randn(1, config.pooled_projection_dim, dtype=torch.bfloat16)

    def paint(pixels: Pixels, mask: Pixels) -> Pixels:
        height, width = mask.shape
        painted = pipe(
            image=Image.fromarray(pixels),
            mask_image=Image.fromarray(mask),
            height=height,
            width=width,
            prompt_embeds=embeds.to(load.device),
            pooled_prompt_embeds=pooled.to(load.device),
            guidance_scale=FluxFillOptions().guidance,
            num_inference_steps=load.steps_of("flux-fill", PLAIN),
            generator=torch.Generator("cpu").manual_seed(0),
        ).images[0]
        return np.asarray(painted)

    return lambda pixels, masks: [paint(p, m) for p, m in zip(pixels, masks, strict=True)]
