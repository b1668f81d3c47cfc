"""Enlarge crops with a super-resolution network, in tiles, and resample to the size wanted."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from spandrel import ImageModelDescriptor, UnsupportedDtypeError

from manifests.errors import RowError, WeightsError
from stages.arrays import Float32Array, UInt8Array
from stages.device_lock import DEVICE_LOCK
from stages.models.devices import (
    BatchLimit,
    choose_device,
    is_black,
    resolve_dtype,
    run_in_batches,
)
from stages.models.single_file import load_network
from stages.pixels.resize import resample
from stages.recipe.refiners import UpscaleOptions


class Upscaler:
    """A loaded super-resolution network.

    Args:
        network: the network as spandrel loads it, in float32.
        options: tiles and number format.
        device: None: a GPU if there is one.

    Attributes:
        scale: factor by which both sides grow.

    Raises:
        WeightsError: ``model.unavailable`` if the network does not support the requested dtype.
    """

    def __init__(
        self,
        network: ImageModelDescriptor[Any],
        options: UpscaleOptions,
        device: torch.device | str | None = None,
    ) -> None:
        self.scale: int = network.scale
        self.device = choose_device(device)
        if options.dtype == "auto":
            self.dtype = _auto_dtype(network, self.device)
        else:
            self.dtype = resolve_dtype(options.dtype, self.device)
        self._tile_px, self._overlap_px = options.tile_px, options.overlap_px
        # Rounding to 16 bits loses the exact weights: a copy for retries stays in main memory.
        self._exact = None if self.dtype == torch.float32 else copy.deepcopy(network).eval()
        try:
            self._network = network.to(self.device, self.dtype).eval()
        except UnsupportedDtypeError:
            name = network.architecture.name
            problem = f"The upscaler's network ({name}) cannot compute in {options.dtype}."
            raise WeightsError("model.unavailable", problem) from None

    @classmethod
    def load(
        cls, path: Path, options: UpscaleOptions, device: torch.device | str | None = None
    ) -> Self:
        """Read the weights of any super-resolution network that spandrel knows.

        Raises:
            WeightsError: ``weights.missing``; ``weights.unusable`` if the file is damaged, or of a
                network that does not enlarge RGB pictures; ``model.unavailable`` if it cannot
                compute in the dtype asked for.
        """
        found = load_network(path, "SR")
        assert isinstance(found, ImageModelDescriptor)
        return cls(found, options, device)

    def enlarge(self, pixels: UInt8Array) -> UInt8Array:
        """Enlarge ``(h, w, 3)`` uint8 RGB of any size to ``(h * scale, w * scale, 3)``.

        Raises:
            RowError: ``model.out_of_memory`` if a tile does not fit; ``model.bad_output`` if
                the output contains NaN or infinity, or is black, in float32, too.
        """
        enlarged = self._picture(self._network, pixels)
        if enlarged is None and self._exact is not None:
            with DEVICE_LOCK:  # other threads move the same network
                try:
                    enlarged = self._picture(self._exact.to(self.device), pixels)
                finally:
                    self._exact.to("cpu")
        if enlarged is None:
            raise RowError(
                "model.bad_output", "The upscaler's output contains NaN or infinity, or is black."
            )
        return enlarged

    def _picture(self, network: ImageModelDescriptor[Any], pixels: UInt8Array) -> UInt8Array | None:
        """Return the enlarged picture, or None if the output is not a picture."""
        (enlarged,) = run_in_batches(
            lambda _: [self._in_tiles(network, pixels)], [pixels], BatchLimit(1)
        )
        if isinstance(enlarged, RowError):
            raise enlarged
        if enlarged is None or is_black(enlarged, pixels):
            return None
        return enlarged

    @torch.inference_mode()
    def _in_tiles(
        self, network: ImageModelDescriptor[Any], pixels: UInt8Array
    ) -> UInt8Array | None:
        """Blend weighted tiles on the device into ``(h * scale, w * scale, 3)`` uint8.

        The tile size is never reduced when memory runs out, since it changes the result. spandrel's
        descriptor pads tiles. None: the output contains NaN or infinity.
        """
        height, width = pixels.shape[:2]
        image = torch.from_numpy(np.array(pixels)).to(self.device).permute(2, 0, 1)[None]
        canvas = torch.zeros(1, 3, height * self.scale, width * self.scale, device=self.device)
        total = torch.zeros_like(canvas[:, :1])
        for top, down in _spans(height, self._tile_px, self._overlap_px, self.scale):
            for left, across in _spans(width, self._tile_px, self._overlap_px, self.scale):
                tile = image[..., top : top + self._tile_px, left : left + self._tile_px]
                enlarged = network((tile.float() / 255).to(network.dtype)).float()
                y, x = top * self.scale, left * self.scale
                part = np.s_[..., y : y + len(down), x : x + len(across)]
                weights = torch.from_numpy(down[:, None] * across).to(self.device)
                canvas[part] += weights * enlarged
                total[part] += weights
        canvas /= total
        if not canvas.isfinite().all():
            return None
        levels = (canvas * 255).round_().clamp_(0, 255).to(torch.uint8)
        return np.ascontiguousarray(levels[0].permute(1, 2, 0).cpu().numpy())


def to_size(pixels: UInt8Array, width: int, height: int, upscaler: Upscaler | None) -> UInt8Array:
    """Resize ``(h, w, 3)`` uint8 to ``(height, width, 3)``; always a new array.

    A crop that must grow on either side is first enlarged by the upscaler, if there is one. It is
    then resampled to the exact size, each axis separately: area averages down, Lanczos (8 x 8) up,
    both with half-pixel centres, so that nothing moves.

    Raises:
        RowError: as in :meth:`Upscaler.enlarge`.
    """
    if upscaler is not None and (width > pixels.shape[1] or height > pixels.shape[0]):
        pixels = upscaler.enlarge(pixels)
    return resample(pixels, width, height, cv2.INTER_LANCZOS4)


def _auto_dtype(network: ImageModelDescriptor[Any], device: torch.device) -> torch.dtype:
    """Return 16 bits if network and device support it, else float32.

    float16 is preferred as the finer one: bfloat16 rounds bright pixels by up to a level.
    """
    if device.type == "cuda" and network.supports_half:
        return torch.float16
    return resolve_dtype("auto", device) if network.supports_bfloat16 else torch.float32


def _spans(
    length: int, tile_px: int, overlap_px: int, scale: int
) -> list[tuple[int, Float32Array]]:
    """Place tiles along one axis, with their blending weights.

    The outer quarter of an overlap is discarded, since the network lacks context there; over the
    middle half, one tile fades into the next. A network whose receptive field is within that
    quarter gives the same result as without tiles.

    Args:
        length: length of the axis, px.
        tile_px: side of a tile, px.
        overlap_px: minimum overlap; limited to half a tile.
        scale: the network's scale.

    Returns:
        ``(start, weights)`` of each tile: the first in px of the input, the second one float per
        px of the output.
    """
    tile = min(tile_px, length)
    overlap = min(overlap_px, tile // 2)
    count = 1 if length <= tile else -(-(length - overlap) // (tile - overlap))
    position = ((np.arange(tile * scale) + 0.5) / scale).astype(np.float32)
    ramp = ((position - overlap / 4) / max(overlap / 2, 1e-6)).clip(0, 1).astype(np.float32)
    plain = np.ones_like(ramp)
    spans = []
    for index in range(count):
        start = round(index * (length - tile) / max(count - 1, 1))
        rising = ramp if start > 0 else plain
        falling = ramp[::-1] if start + tile < length else plain
        spans.append((start, np.minimum(rising, falling)))
    return spans
