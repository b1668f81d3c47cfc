"""Measures how much fine detail the removal's fill lacks, compared with its surrounding ring.

A removal's fill is soft. On studio white, a gradient or a smooth table top this is invisible, and
a diffusion model would only add cost and risk.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.arrays import BoolMask, UInt8Array
from stages.pixels.boxes import bounds_of
from stages.pixels.masks import distance_outside

#: Gaussian sigma that separates fine detail, which a soft fill lacks, in px of the original photo.
_FINE_PX = 3.0

#: Width of the ring: this share of the hole's shorter side, and at least this many px.
_RING_SHARE, _MIN_RING_PX = 0.5, 16

#: Excluded next to the border, where detail is mixed with the step across it.
_BORDER_PX = 3.0

#: The rougher part of the ring decides: if a quarter of it has texture, the fill needs some.
_ROUGH_QUANTILE = 0.75


def lost_detail(pixels: UInt8Array, mask: UInt8Array) -> float:
    """Measure how much less fine detail the hole has than its surroundings, in 8-bit levels.

    Detail is the local standard deviation of brightness below 3 px. A step in brightness or
    colour across the border also counts, since a refiner repairs it.

    Args:
        pixels: ``(h, w, 3)`` uint8 sRGB at the photo's own resolution, filled.
        mask: ``(h, w)`` uint8, over 0 in the hole.

    Returns:
        Levels of 255, at least 0; infinite if nothing surrounds the hole.
    """
    hole = mask > 0
    bounds = bounds_of(mask)
    assert bounds is not None, "a patch has a hole"
    ring_px = max(_MIN_RING_PX, _RING_SHARE * min(bounds.width, bounds.height))
    outside, inside = distance_outside(hole), distance_outside(~hole)
    ring = (outside > _BORDER_PX) & (outside <= ring_px)
    core = inside > _BORDER_PX
    if not core.any():  # a thin mark
        core = hole
    if not ring.any():
        return float("inf")
    detail = _detail(pixels)
    lost = float(np.quantile(detail[ring], _ROUGH_QUANTILE) - np.quantile(detail[core], 0.5))
    return max(lost, _step(pixels, (outside > 0) & (outside <= 4), hole & (inside <= 4)), 0.0)


def _detail(pixels: UInt8Array) -> np.ndarray:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), _FINE_PX)
    return np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), _FINE_PX))


def _step(pixels: UInt8Array, outer: BoolMask, inner: BoolMask) -> float:
    """Difference of the mean colours on both sides of the border, in 8-bit levels."""
    if not outer.any():
        return 0.0
    return float(np.abs(pixels[outer].mean(axis=0) - pixels[inner].mean(axis=0)).max())
