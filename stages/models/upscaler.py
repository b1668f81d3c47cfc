"""Enlarge crops with a super-resolution network, in tiles, and resample to the size wanted."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from spandrel import ImageModelDescriptor, ModelTiling

from manifests.errors import RowError, WeightsError
from stages.arrays import Float32Array, UInt8Array
from stages.models.devices import choose_device, is_black, resolve_dtype, run_in_batches
from stages.models.load import load_network
from stages.pixels.resize import resample
from stages.recipe.options import UpscaleOptions


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
        self.dtype = _network_dtype(network, options, self.device)
        self._tile_px, self._overlap_px = options.tile_px, options.overlap_px
        # Networks with internal tiling must get the whole picture.
        self._is_tiled = network.tiling is not ModelTiling.INTERNAL
        # Rounding to 16 bits loses the exact weights: a copy for retries stays in main memory.
        self._exact = None if self.dtype == torch.float32 else copy.deepcopy(network).eval()
        self._network = network.to(self.device, self.dtype).eval()

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
        found = load_network(path)
        if not isinstance(found, ImageModelDescriptor) or found.purpose != "SR" or found.scale < 2:
            raise WeightsError(
                "weights.unusable",
                f"{path} is of {found.architecture.name}, which is for {found.purpose}, "
                "not for enlarging.",
            )
        if (found.input_channels, found.output_channels) != (3, 3):
            raise WeightsError(
                "weights.unusable",
                f"{path} is of {found.architecture.name} for pictures of {found.input_channels} "
                "channels, not for RGB.",
            )
        return cls(found, options, device)

    def enlarge(self, pixels: UInt8Array) -> UInt8Array:
        """Enlarge ``(h, w, 3)`` uint8 RGB of any size to ``(h * scale, w * scale, 3)``.

        Raises:
            RowError: ``model.out_of_memory`` if a tile does not fit; ``model.bad_output`` if
                the output is not a number, or black, in float32 either.
        """
        enlarged = self._picture(self._network, pixels)
        if enlarged is None and self._exact is not None:
            try:
                enlarged = self._picture(self._exact.to(self.device), pixels)
            finally:
                self._exact.to("cpu")
        if enlarged is None:
            raise RowError("model.bad_output", "The upscaler's output is not a number, or black.")
        return enlarged

    def _picture(self, network: ImageModelDescriptor[Any], pixels: UInt8Array) -> UInt8Array | None:
        """Return the enlarged picture, or None if the output is not a picture."""
        (enlarged,) = run_in_batches(lambda _: [self._in_tiles(network, pixels)], [pixels], 1)
        if isinstance(enlarged, RowError):
            raise enlarged
        if not np.isfinite(enlarged).all():
            return None
        levels = np.rint(enlarged * 255).clip(0, 255).astype(np.uint8)
        return None if is_black(levels, pixels) else levels

    def _in_tiles(self, network: ImageModelDescriptor[Any], pixels: UInt8Array) -> Float32Array:
        """Blend weighted tiles into ``(h * scale, w * scale, 3)`` float32, 0 to 1.

        The tile size is never reduced when memory runs out, since it changes the result.
        """
        height, width = pixels.shape[:2]
        tile_px = self._tile_px if self._is_tiled else max(height, width)
        rows = _spans(height, tile_px, self._overlap_px, self.scale)
        columns = _spans(width, tile_px, self._overlap_px, self.scale)
        canvas = np.zeros((height * self.scale, width * self.scale, 3), np.float32)
        for top, row_weights in rows:
            for left, column_weights in columns:
                tile = self._run(network, pixels[top : top + tile_px, left : left + tile_px])
                y, x = top * self.scale, left * self.scale
                tile *= row_weights[:, None, None] * column_weights[None, :, None]
                canvas[y : y + tile.shape[0], x : x + tile.shape[1]] += tile
        return canvas

    def _run(self, network: ImageModelDescriptor[Any], pixels: UInt8Array) -> Float32Array:
        """Run one tile: ``(h * scale, w * scale, 3)`` float32; spandrel's descriptor pads it."""
        with torch.inference_mode():
            image = torch.from_numpy(np.array(pixels)).to(self.device)
            enlarged = network((image.permute(2, 0, 1)[None].float() / 255).to(network.dtype))
            out: Float32Array = enlarged[0].permute(1, 2, 0).float().contiguous().cpu().numpy()
        return out


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


def _network_dtype(
    network: ImageModelDescriptor[Any], options: UpscaleOptions, device: torch.device
) -> torch.dtype:
    """Return the number format; ``auto`` is 16 bits if network and device support it.

    float16 is preferred as the finer one: bfloat16 rounds bright pixels by up to a level.
    """
    declared = {
        torch.float32: True,
        torch.float16: network.supports_half,
        torch.bfloat16: network.supports_bfloat16,
    }
    if options.dtype == "auto":
        if device.type == "cuda" and network.supports_half:
            return torch.float16
        native = resolve_dtype("auto", device)
        return native if declared[native] else torch.float32
    dtype = resolve_dtype(options.dtype, device)
    if not declared[dtype]:
        raise WeightsError(
            "model.unavailable",
            f"The upscaler's network ({network.architecture.name}) cannot compute in "
            f"{options.dtype}.",
        )
    return dtype


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
        px of the output. The weights of all tiles sum to 1 everywhere.
    """
    tile = min(tile_px, length)
    overlap = min(overlap_px, tile // 2)
    count = 1 if length <= tile else -(-(length - overlap) // (tile - overlap))
    starts = [round(i * (length - tile) / max(count - 1, 1)) for i in range(count)]
    position = ((np.arange(tile * scale) + 0.5) / scale).astype(np.float32)
    total = np.zeros(length * scale, np.float32)
    spans: list[tuple[int, Float32Array]] = []
    for start in starts:
        inner: Float32Array = np.ones_like(position)
        if start > 0:
            inner = np.minimum(inner, _ramp(position, overlap))
        if start + tile < length:
            inner = np.minimum(inner, _ramp(position[::-1], overlap))
        total[start * scale : (start + tile) * scale] += inner
        spans.append((start, inner))
    return [
        (start, (inner / total[start * scale : (start + tile) * scale]).astype(np.float32))
        for start, inner in spans
    ]


def _ramp(distance: Float32Array, overlap: int) -> Float32Array:
    """Ramp from 0 at a quarter of the overlap from a tile's edge to 1 at three quarters."""
    if overlap == 0:
        return np.ones_like(distance)
    return ((distance - overlap / 4) / (overlap / 2)).clip(0, 1).astype(np.float32)
