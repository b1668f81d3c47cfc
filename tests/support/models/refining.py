"""What the tests of refiners share: small models, random crops and prompts, and distances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from manifests.errors import RowError
from stages.arrays import UInt8Array
from stages.models.refiners.flux2_klein import Flux2Klein
from stages.models.refiners.flux_fill import FluxFill
from stages.models.refiners.prompts import Prompt
from stages.recipe.refiners import Flux2KleinOptions, FluxFillOptions

_RNG = np.random.default_rng(0)


def load_flux(folder: Path, **options: Any) -> FluxFill:
    return FluxFill.load(folder, FluxFillOptions(**({"steps": 3, "dtype": "float32"} | options)))


def load_klein(folder: Path, **options: Any) -> Flux2Klein:
    options = {"steps": 3, "dtype": "float32"} | options
    return Flux2Klein.load(folder, Flux2KleinOptions(**options))


def make_prompts(count: int, dim: int = 32, tokens: int = 8) -> list[Prompt]:
    def floats(*shape: int) -> npt.NDArray[np.float32]:
        return _RNG.normal(size=shape).astype(np.float32)

    return [Prompt(floats(tokens, dim), floats(dim), f"{i}") for i in range(count)]


def make_crops(
    count: int, height: int = 48, width: int = 64
) -> tuple[list[UInt8Array], list[UInt8Array]]:
    pixels, masks = [], []
    for index in range(count):
        pixels.append(_RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))
        mask = np.zeros((height, width), np.uint8)
        mask[8 : 24 + 2 * index, 16 : 32 + 2 * index] = 255
        masks.append(mask)
    return pixels, masks


def pictures_of(results: list[UInt8Array | RowError]) -> list[npt.NDArray[np.int64]]:
    for result in results:
        assert not isinstance(result, RowError), result
    return [np.asarray(result, np.int64) for result in results]


def apart(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> float:
    """Mean difference in 8-bit levels."""
    return float(np.abs(one - other).mean())


def through_vae(refiner: FluxFill, crop: UInt8Array) -> npt.NDArray[np.int64]:
    """What a random VAE makes of a picture by itself, which is not the picture."""
    vae = refiner.pipe.vae
    with torch.no_grad():
        image = torch.from_numpy(crop).permute(2, 0, 1)[None] / 127.5 - 1
        back = vae.decode(vae.encode(image).latent_dist.mode()).sample[0]
    return np.asarray(((back.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0), np.int64)
