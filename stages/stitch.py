"""Paste the filled part of a patch back into the photo, and nothing else."""

from __future__ import annotations

import cv2
import numpy as np

from stages.geometry import Box, bounds_of
from stages.masks import Bits, Bytes


def stitch(photo: Bytes, fill: Bytes, blend: Bytes, crop: Box) -> None:
    """Blend a filled crop into ``photo``, in place.

    A pixel becomes ``photo + (fill - photo) * blend / 255``, rounded. Where ``blend`` is 0 it
    stays as it is, to the bit; alpha is never touched.

    Args:
        photo: ``(h, w, c)`` uint8, c = 1, 2, 3 or 4; changed in place.
        fill: ``(crop.height, crop.width, 3)`` uint8 RGB.
        blend: ``(crop.height, crop.width)`` uint8, 0 to 255.
        crop: where the patch lies; what reaches outside the photo is left out.
    """
    inside = _painted(blend, crop).clipped(photo.shape[1], photo.shape[0])
    part = inside.shifted(-crop.x0, -crop.y0).slices
    colours = 1 if photo.shape[2] <= 2 else 3
    if colours == 1:
        grey = cv2.cvtColor(np.ascontiguousarray(fill[part]), cv2.COLOR_RGB2GRAY)
        paint: Bytes = np.asarray(grey, np.uint8)[..., None]
    else:
        paint = fill[part]
    weight = blend[part].astype(np.uint16)[..., None]
    mixed = photo[inside.slices][..., :colours] * (255 - weight)  # at most 255 * 255: 16 bits do
    mixed += paint * weight
    mixed += 127
    mixed //= 255
    photo[inside.slices][..., :colours] = mixed


def _painted(blend: Bytes, crop: Box) -> Box:
    """The part of a crop in which any paint is laid on; a pixel of it if there is none."""
    painted = bounds_of(blend) or Box(0, 0, 1, 1)
    return painted.shifted(crop.x0, crop.y0)


def mark_changed(changed: Bits, blend: Bytes, crop: Box) -> None:
    """Set ``(h, w)`` bool ``changed``, in place, where :func:`stitch` lays on any paint."""
    inside = crop.clipped(changed.shape[1], changed.shape[0])
    changed[inside.slices] |= blend[inside.shifted(-crop.x0, -crop.y0).slices] > 0


def as_rgb(pixels: Bytes) -> Bytes:
    """``(h, w, c)`` uint8 of c = 1, 2, 3 or 4 -> ``(h, w, 3)``: grey repeated, alpha left out."""
    if pixels.shape[2] <= 2:
        return np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])
