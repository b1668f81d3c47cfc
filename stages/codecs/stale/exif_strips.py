"""Uncompressed thumbnails: strips of RGB, YCbCr or grey samples (TIFF 6.0, DCF)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.codecs.stale.tiff import Directory, Tiff

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 0x100, 0x101, 0x102, 0x103, 0x106
_OFFSETS, _SAMPLES, _COUNTS, _PLANAR, _SUBSAMPLING = 0x111, 0x115, 0x117, 0x11C, 0x212
_TILE_OFFSETS, _TILE_COUNTS = 0x144, 0x145
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCC = 0, 1, 2, 6

Samples = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Strips:
    """Where a directory's samples lie, and what they are.

    Attributes:
        ranges: of bytes, in order.
        size: width and height, px.
        photometric: TIFF's number of the colours; -1 where we cannot write the samples anew.
        across: luma samples for one of chroma, horizontally.
        down: the same vertically.
    """

    ranges: list[tuple[int, int]]
    size: tuple[int, int]
    photometric: int
    across: int
    down: int

    def read(self, data: bytes) -> Image.Image | None:
        """The picture; None if it is of a kind that cannot be written anew."""
        if self.photometric < 0:
            return None
        samples = np.frombuffer(b"".join(data[start:end] for start, end in self.ranges), np.uint8)
        width, height = self.size
        if self.photometric == _RGB:
            return Image.fromarray(samples.reshape(height, width, 3))
        if self.photometric == _YCC:
            return Image.fromarray(self._from_units(samples), "YCbCr")
        grey = samples if self.photometric == _BLACK_IS_ZERO else 255 - samples
        return Image.fromarray(grey.reshape(height, width))

    def write(self, picture: Image.Image, block: bytearray) -> None:
        """Put a picture of the same size in the old one's place."""
        if self.photometric == _YCC:
            samples = self._as_units(np.asarray(picture.convert("YCbCr")))
        else:
            samples = np.asarray(picture.convert("RGB" if self.photometric == _RGB else "L"))
            samples = 255 - samples if self.photometric == _WHITE_IS_ZERO else samples
        data, position = samples.tobytes(), 0
        for start, end in self.ranges:
            block[start:end] = data[position : position + end - start]
            position += end - start

    def clear(self, block: bytearray) -> None:
        """Zero the samples."""
        for start, end in self.ranges:
            block[start:end] = bytes(end - start)

    def _cells(self) -> tuple[int, int]:
        """Rows and columns of units: the luma samples that share their chroma."""
        return -(-self.size[1] // self.down), -(-self.size[0] // self.across)

    def _from_units(self, samples: Samples) -> Samples:
        """``(rows * columns * unit,)`` as stored -> ``(h, w, 3)``."""
        rows, columns = self._cells()
        units = samples.reshape(rows, columns, self.down * self.across + 2)
        luma = units[..., :-2].reshape(rows, columns, self.down, self.across).swapaxes(1, 2)
        chroma = units[..., -2:].repeat(self.down, axis=0).repeat(self.across, axis=1)
        planes = np.dstack([luma.reshape(chroma.shape[:2]), chroma])
        return np.ascontiguousarray(planes[: self.size[1], : self.size[0]])

    def _as_units(self, pixels: Samples) -> Samples:
        """``(h, w, 3)`` -> as stored."""
        rows, columns = self._cells()
        pad = ((0, rows * self.down - self.size[1]), (0, columns * self.across - self.size[0]))
        full = np.pad(pixels, (*pad, (0, 0)), mode="edge")
        cells = full.reshape(rows, self.down, columns, self.across, 3).swapaxes(1, 2)
        luma = cells[..., 0].reshape(rows, columns, -1)
        chroma = np.rint(cells[..., 1:].mean(axis=(2, 3))).astype(np.uint8)
        return np.concatenate([luma, chroma], axis=2)


def find_strips(tiff: Tiff, directory: Directory) -> Strips | None:
    """The samples that a directory describes; None if there are none, or not where it says."""
    starts = tiff.integers(directory, _OFFSETS) or tiff.integers(directory, _TILE_OFFSETS)
    sizes = tiff.integers(directory, _COUNTS) or tiff.integers(directory, _TILE_COUNTS)
    if not starts or len(starts) != len(sizes):
        return None
    ranges = [(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    if any(start < 8 or end > len(tiff.data) for start, end in ranges) or not sum(sizes):
        return None
    if _overlap([*ranges, *_taken(tiff)]):
        return None  # damaged: clearing it would clear the directories
    size = (tiff.integer(directory, _WIDTH), tiff.integer(directory, _HEIGHT))
    across, down = [*tiff.integers(directory, _SUBSAMPLING), 2, 2][:2]
    kind = tiff.integer(directory, _PHOTOMETRIC, -1)
    strips = Strips(ranges, size, kind, across, down)
    if _is_plain(tiff, directory) and sum(sizes) == _bytes_of(strips):
        return strips
    return Strips(ranges, size, -1, across, down)


def _is_plain(tiff: Tiff, directory: Directory) -> bool:
    """Whether the samples are 8 bits each, neither compressed nor by plane nor in tiles."""
    grey = tiff.integer(directory, _PHOTOMETRIC) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    return (
        set(tiff.integers(directory, _BITS)) == {8}
        and tiff.integer(directory, _COMPRESSION, 1) == 1
        and tiff.integer(directory, _PLANAR, 1) == 1
        and tiff.integer(directory, _SAMPLES, 1) == (1 if grey else 3)
        and _OFFSETS in directory.entries
    )


def _bytes_of(strips: Strips) -> int:
    """How many bytes samples of that kind and size have; 0: none that we know."""
    width, height = strips.size
    if strips.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        return width * height
    if strips.photometric == _RGB:
        return 3 * width * height
    if strips.photometric == _YCC and {strips.across, strips.down} <= {1, 2, 4}:
        units = -(-width // strips.across) * -(-height // strips.down)
        return units * (strips.across * strips.down + 2)
    return 0


def _taken(tiff: Tiff) -> list[tuple[int, int]]:
    """Where the directories lie."""
    chain = tiff.chain()
    inner = [each for tag in (0x8769, 0x8825) for each in tiff.below(chain[0], tag)]
    return [(each.position, each.end) for each in (*chain, *inner)]


def _overlap(ranges: list[tuple[int, int]]) -> bool:
    ranges = sorted(ranges)
    return any(start < end for (_, end), (start, _) in pairwise(ranges))
