"""Scales to the working size of a fill, and back to the crop's size.

``cv2.resize`` maps pixel centres (half-pixel offsets) and rounds, so scaling down and up again does
not shift the picture.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from stages.arrays import UInt8Array

Values = TypeVar("Values", npt.NDArray[np.uint8], npt.NDArray[np.float32])


def limited_size(
    width: int, height: int, max_side_px: int, multiple_px: int = 1
) -> tuple[int, int]:
    """Width and height, px, with the longer side limited and the aspect kept.

    Args:
        width: px.
        height: px.
        max_side_px: a longer one is scaled to it; 0: never.
        multiple_px: sides that are scaled become multiples of this; none grows.
    """
    longest = max(width, height)
    if not max_side_px or longest <= max_side_px:
        return width, height
    steps = max_side_px / longest / multiple_px
    return (
        min(max(round(width * steps), 1) * multiple_px, width),
        min(max(round(height * steps), 1) * multiple_px, height),
    )


def resample(values: Values, width: int, height: int, growing: int) -> Values:
    """Bring ``(h, w, ...)`` to another size, each side for itself: one may shrink, the other grow.

    Args:
        values: uint8 or float32.
        width: wanted, px.
        height: wanted, px.
        growing: OpenCV's interpolation for sides that grow; area averages shrink the others.

    Returns:
        A new array.
    """
    smaller = min(width, values.shape[1]), min(height, values.shape[0])
    shrunk = cv2.resize(values, smaller, interpolation=cv2.INTER_AREA)
    grown = cv2.resize(shrunk, (width, height), interpolation=growing)
    return np.array(grown, values.dtype)


def scale_pixels(pixels: UInt8Array, width: int, height: int) -> UInt8Array:
    """Resample ``(h, w, 3)`` uint8: area averages down, bicubic up; a copy if the size is right."""
    return resample(pixels, width, height, cv2.INTER_CUBIC)


def scale_down(pixels: UInt8Array, factor: float) -> UInt8Array:
    """Scale ``(h, w, 3)`` uint8 by a factor below 1; no side becomes less than 1 px.

    Returns:
        A new array; the same one if the factor is 1 or more.
    """
    if factor >= 1:
        return pixels
    height, width = (max(round(side * factor), 1) for side in pixels.shape[:2])
    return scale_pixels(pixels, width, height)


def scale_mask(mask: UInt8Array, width: int, height: int) -> UInt8Array:
    """Scale ``(h, w)`` uint8 so that a pixel is 255 if the mask touches any part of it.

    The area average looks at just the pixels that :func:`scale_pixels` averages, so no colour of
    the object survives in a pixel that counts as known.
    """
    share = resample((mask > 0).astype(np.float32), width, height, cv2.INTER_AREA)
    return (share > 1e-6).astype(np.uint8) * 255
