"""Pictures to latents and back, with the autoencoders of diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from manifests.errors import RowError
from stages.arrays import UInt8Array
from stages.models.devices import is_black


def vae_dtype(dtype: torch.dtype) -> torch.dtype:
    """The number format of SDXL's autoencoder beside a network of ``dtype``.

    In float16 it overflows, when it encodes, too.
    """
    return torch.float32 if dtype is torch.float16 else dtype


def to_tensor(pixels: Sequence[UInt8Array], device: torch.device) -> torch.Tensor:
    """Stack ``(h, w, 3)`` uint8 pictures as ``(n, 3, h, w)`` float32, -1 to 1, on the device."""
    stacked = torch.from_numpy(np.stack(pixels)).to(device)
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


def decode(autoencoder: Any, latents: torch.Tensor) -> torch.Tensor:
    """Decode ``(c, h / 8, w / 8)`` latents to ``(3, h, w)`` float32, -1 to 1.

    A picture that overflows in 16 bits is decoded again in 32; the weights keep their format.

    Args:
        autoencoder: one of diffusers.
        latents: scaled as the decoder takes them.
    """
    dtype = autoencoder.dtype
    picture: torch.Tensor = autoencoder.decode(latents[None].to(dtype), return_dict=False)[0][0]
    if dtype is torch.float32 or _finite(picture) or not _finite(latents):
        return picture.float()
    try:
        autoencoder.to(torch.float32)
        picture = autoencoder.decode(latents[None].float(), return_dict=False)[0][0]
    finally:  # other batches use the same network, also after memory ran out
        autoencoder.to(dtype)
    return picture


def to_pixels(picture: torch.Tensor, source: UInt8Array) -> UInt8Array | RowError:
    """Convert ``(3, h, w)``, -1 to 1, to ``(h, w, 3)`` uint8.

    Args:
        picture: what a model painted.
        source: ``(h, w, 3)`` uint8, what it was painted from.

    Returns:
        The pixels; or, not raised, a RowError ``model.bad_output`` if they are not a picture.
    """
    if not _finite(picture):
        return RowError("model.bad_output", "The model's output contains NaN or infinity.")
    levels = (picture.clamp(-1, 1) + 1) * 127.5
    result: UInt8Array = levels.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    if is_black(result, source):
        return RowError("model.bad_output", "The model's output is black.")
    return np.ascontiguousarray(result)


def _finite(values: torch.Tensor) -> bool:
    return bool(torch.isfinite(values).all())
