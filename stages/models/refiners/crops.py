"""Crops to refine: checked, and several of one shape as tensors on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from stages.arrays import UInt8Array
from stages.models.refiners.prompts import Prompt, Values

#: Sides must be multiples of this: 8 px to a latent, 2 by 2 latents to a token.
SIDE_PX = 16

#: Encoded prompts that are kept on the device, some MB each.
_MAX_KEPT_PROMPTS = 8


@dataclass(frozen=True, slots=True)
class Item:
    """One crop: ``(h, w, 3)`` uint8 RGB, ``(h, w)`` uint8 mask (128 and above), prompt, seed.

    ``photo`` is like ``pixels``, but may show the object.
    """

    pixels: UInt8Array
    mask: UInt8Array
    prompt: Prompt
    seed: int
    photo: UInt8Array

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Items of one shape can run in one batch."""
        prompt = self.prompt
        arrays = (self.pixels, prompt.embeds, prompt.pooled, prompt.negative)
        return tuple(array.shape for array in arrays)


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of one shape as tensors on the device, n at once.

    Attributes:
        image: ``(n, 3, h, w)`` float32, -1 to 1.
        mask: ``(n, 1, h, w)`` float32, 1 where to regenerate, else 0.
        embeds: ``(n, tokens, dim)`` in the weights' precision.
        pooled: ``(n, dim)`` in the weights' precision.
        negative: ``(n, tokens, dim)`` in the weights' precision.
        generators: one per item, on the CPU, so that its noise is the same on every device and in
            every batch.
        photo: like ``image``, but may show the objects; ``image`` itself if the photos are not
            given.
    """

    image: torch.Tensor
    mask: torch.Tensor
    embeds: torch.Tensor
    pooled: torch.Tensor
    negative: torch.Tensor
    generators: list[torch.Generator]
    photo: torch.Tensor


def check(item: Item) -> None:
    """Raise ValueError if sizes or types are wrong."""
    height, width = item.mask.shape
    for pixels in (item.pixels, item.photo):
        if pixels.shape != (height, width, 3):
            raise ValueError(f"Pixels {pixels.shape} and mask {item.mask.shape} do not match.")
        if pixels.dtype != np.uint8 or item.mask.dtype != np.uint8:
            raise ValueError(f"{pixels.dtype} and {item.mask.dtype} must be uint8.")
    if not height or not width or height % SIDE_PX or width % SIDE_PX:
        raise ValueError(f"{width} x {height} px are not multiples of {SIDE_PX}.")


def batch_of(items: Sequence[Item], device: torch.device, dtype: torch.dtype) -> Batch:
    """Copy items of one shape to the device; the prompts in this number format."""
    texts = [_on_device(item.prompt, device, dtype) for item in items]
    embeds, pooled, negative = (torch.stack(arrays) for arrays in zip(*texts, strict=True))
    image = _images([item.pixels for item in items], device)
    has_photos = any(item.photo is not item.pixels for item in items)
    marked = torch.from_numpy(np.stack([item.mask >= 128 for item in items])).to(device)
    return Batch(
        image=image,
        mask=marked[:, None].float(),
        embeds=embeds,
        pooled=pooled,
        negative=negative,
        generators=[torch.Generator("cpu").manual_seed(item.seed) for item in items],
        photo=_images([item.photo for item in items], device) if has_photos else image,
    )


def _images(pixels: Sequence[UInt8Array], device: torch.device) -> torch.Tensor:
    """``(h, w, 3)`` uint8 each -> ``(n, 3, h, w)`` float32, -1 to 1, on the device."""
    stacked = torch.from_numpy(np.stack(pixels)).to(device)
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


@lru_cache(_MAX_KEPT_PROMPTS)
def _on_device(prompt: Prompt, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    """The prompt's ``embeds``, ``pooled`` and ``negative``; a kept prompt is not copied again."""

    def tensor(array: Values) -> torch.Tensor:
        values = torch.from_numpy(array)
        exact = values.view(torch.bfloat16) if values.dtype == torch.uint16 else values
        return exact.to(device, dtype)

    return [tensor(each) for each in (prompt.embeds, prompt.pooled, prompt.negative)]


def noise_of(generators: Sequence[torch.Generator], shape: Sequence[int]) -> torch.Tensor:
    """Draw ``(n, *shape)`` float32 on the CPU, each item from its own generator."""
    return torch.stack([torch.randn(tuple(shape), generator=each) for each in generators])
