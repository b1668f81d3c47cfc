"""Sample arrays of photos, and their colour spaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from stages.arrays import Float32Array, Samples, UInt8Array

#: What the channels mean; CMYK as Pillow has it, 0: no ink.
ColourModel = Literal["grey", "rgb", "cmyk"]

_STRIP_SAMPLES = 1 << 20

_CHANNELS: dict[ColourModel, int] = {"grey": 1, "rgb": 3, "cmyk": 4}


@dataclass(frozen=True, slots=True)
class ColourSpace:
    """The colour space of a photo's samples.

    Attributes:
        model: meaning of the colour channels; alpha may follow them.
        icc: the embedded profile; empty if there is none.
        premultiplied: whether colours are multiplied by alpha.
    """

    model: ColourModel
    icc: bytes = b""
    premultiplied: bool = False

    @property
    def channels(self) -> int:
        """Number of colour channels: 1, 3 or 4."""
        return _CHANNELS[self.model]


def to_8_bits(samples: Samples) -> UInt8Array:
    """Convert samples to 8 bits, rounded to the nearest level."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    reduced = np.empty(samples.shape, np.uint8)
    for rows in strips(samples.shape):
        reduced[rows] = (samples[rows].astype(np.uint32) * 255 + 32767) // 65535
    return reduced


def composite_on(level: int, colours: UInt8Array, alpha: UInt8Array) -> UInt8Array:
    """Composite a picture on an even background, rounded to the nearest level.

    Args:
        level: of all channels of the background, 0 to 255.
        colours: ``(h, w, c)``.
        alpha: ``(h, w, 1)``, 0 where transparent.
    """
    composite = np.empty_like(colours)
    for rows in strips(colours.shape):
        opacity = alpha[rows].astype(np.uint16)  # a product of two levels, and half of 255, fits
        part = colours[rows] * opacity + np.uint16(level) * (255 - opacity)
        composite[rows] = (part + 127) // 255
    return composite


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of an array, some megabytes at a time: sums take several times the memory."""
    step = max(1, _STRIP_SAMPLES // max(1, int(np.prod(shape[1:]))))
    return (slice(at, at + step) for at in range(0, shape[0], step))


def to_lab(pixels: UInt8Array) -> Float32Array:
    """Convert ``(h, w, 3)`` uint8 sRGB to float32 Lab, L 0 to 100."""
    return np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
