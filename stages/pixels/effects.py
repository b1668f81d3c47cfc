"""What an object casts beyond its mask, a shadow or a reflection: where a fill may remove it.

A model that removes such effects returns an alpha: where it changed the picture. Here that becomes
the opacity with which its output is pasted beyond the mask, within bounds that follow from the mask
alone: a reach, no other masked pixels, and none that are nearer to another patch. So the effects of
patches never overlap; where one meets the soft edge of another patch, the later patch covers it.
"""

from __future__ import annotations

import math

import numpy as np

from stages.arrays import BoolMask, Float32Array, UInt8Array
from stages.pixels.boxes import Box
from stages.pixels.masks import distance_outside

#: Levels of alpha, 0 to 255: below the first, a model's haze, which covers the whole picture;
#: from the second on, its output is pasted as it is. Between them, the opacity rises evenly. An
#: output is the model's own mix already, so that its alpha says where it applies, not how much.
_HAZE, _CERTAIN = 16, 64

#: The opacity falls to 0 over this share of the reach, at its end.
_SOFT_SHARE = 0.25


def effects_reach_px(bounds: Box, reach: float) -> float:
    """Distance from the mask at which effects end, px.

    Args:
        bounds: bounds of the masked pixels that are filled together.
        reach: the distance, relative to the longer side of the bounds.
    """
    return reach * max(bounds.width, bounds.height)


def effects_zone(
    filled: BoolMask, bounds: Box, own: BoolMask, crop: Box, reach_px: float
) -> BoolMask:
    """Where effects of a patch may be removed: beyond its mask, nearer to it than to any other.

    Args:
        filled: ``(h, w)`` bool, all that is filled of the photo.
        bounds: bounds of the patch's own masked pixels.
        own: ``(bounds.height, bounds.width)`` bool, those pixels.
        crop: the patch's position; it shows the reach around the bounds.
        reach_px: distance from the mask at which effects end.

    Returns:
        ``(crop.height, crop.width)`` bool.
    """
    height, width = filled.shape
    # A pixel within reach may be nearer to another patch that lies outside the crop.
    seen = crop.grown(math.ceil(reach_px)).clipped(width, height)
    mine = np.zeros((seen.height, seen.width), np.bool_)
    mine[bounds.shifted(-seen.x0, -seen.y0).slices] = own
    distance = distance_outside(mine)
    to_others = distance_outside(filled[seen.slices] & ~mine)
    found = (distance > 0) & (distance < np.minimum(to_others, reach_px))
    return np.asarray(found[crop.shifted(-seen.x0, -seen.y0).slices])


def opacity_beyond(
    alpha: UInt8Array, blend: UInt8Array, beyond: BoolMask, reach_px: float, max_area: float
) -> UInt8Array | None:
    """Return the opacity of a model's output beyond the mask; None: it would cover too much.

    Args:
        alpha: ``(h, w)`` uint8 of a crop, where the model changed the picture.
        blend: ``(h, w)`` uint8, 255 on the mask, with its soft edge.
        beyond: ``(h, w)`` bool, see :func:`effects_zone`.
        reach_px: distance from the mask at which the opacity is 0.
        max_area: maximum area beyond mask and soft edge, relative to the mask's.

    Returns:
        ``(h, w)`` uint8, 0 outside of ``beyond``.
    """
    mask = blend == 255
    levels = (alpha.astype(np.float32) - _HAZE) / (_CERTAIN - _HAZE)
    opacity = np.clip(levels, 0, 1) * _fade(mask, reach_px)
    found = np.where(beyond, np.rint(opacity * 255), 0).astype(np.uint8)
    added = np.count_nonzero((found > 0) & (blend == 0))
    return found if added <= max_area * np.count_nonzero(mask) else None


def _fade(mask: BoolMask, reach_px: float) -> Float32Array:
    """1 near the mask, falling evenly to 0 where the reach ends."""
    soft_px = max(_SOFT_SHARE * reach_px, 1.0)
    return np.asarray(np.clip((reach_px - distance_outside(mask)) / soft_px, 0, 1), np.float32)
