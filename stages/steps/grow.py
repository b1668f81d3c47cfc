"""Finds the shadows of the objects to remove, which are then filled, too.

For removals without an alpha, see ``mask.effects`` = grow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from stages.arrays import BoolMask
from stages.photo import Photo
from stages.pixels.boxes import Box
from stages.pixels.effects import effects_reach_px
from stages.pixels.masks import distance_outside
from stages.pixels.shadows import find_shadow
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction
from stages.steps.cut import seen_by_models

#: Objects with a shorter longer side, px, are letters and specks: too small to judge.
_MIN_OBJECT_PX = 24

#: Shown around an object, relative to its reach: most of it should be background.
_SURROUNDINGS = 1.75

#: A hole and shadows that cover a larger share of the photo leave too little background to judge.
#: Not ``limits.max_mask_share``: limits reject rows, and change no result.
_MAX_SHARE = 0.8


def build_grow(recipe: Recipe) -> PhotoFunction:
    """Build the function that finds the shadows of the objects in the hole.

    An object is a connected part of the hole; of many, the largest ``crop.max_patches`` are
    looked at. A shadow that exceeds ``mask.effects_area``, or all that cover four fifths of the
    photo with the hole, are no shadows.
    """

    def process(photo: Photo) -> None:
        assert photo.hole is not None
        height, width = photo.hole.shape
        feather_px = recipe.mask.feather_for(width, height)
        shadows = np.zeros_like(photo.hole)
        for box, own in _objects(photo.hole, recipe.crop.max_patches):
            view, found = _shadow(photo, box, own, recipe, feather_px)
            shadows[view.slices] |= found
        share = np.count_nonzero(photo.hole | shadows) / shadows.size
        photo.shadow_mask = shadows if shadows.any() and share <= _MAX_SHARE else None

    return process


def _objects(hole: BoolMask, max_count: int) -> Iterator[tuple[Box, BoolMask]]:
    """Yield the bounds of each object, the largest first, and its pixels in them."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hole.view(np.uint8))
    largest = sorted(range(1, count), key=lambda label: -stats[label, cv2.CC_STAT_AREA])
    for label in largest[:max_count]:
        x, y, width, height = (int(number) for number in stats[label, :4])
        if max(width, height) >= _MIN_OBJECT_PX:
            box = Box(x, y, x + width, y + height)
            yield box, labels[box.slices] == label


def _shadow(
    photo: Photo, box: Box, own: BoolMask, recipe: Recipe, feather_px: int
) -> tuple[Box, BoolMask]:
    """Return a view of an object, and its shadow there, ``(h, w)`` bool."""
    assert photo.hole is not None
    height, width = photo.hole.shape
    options, soft_px = recipe.mask, feather_px + 1
    reach_px = effects_reach_px(box, options.effects_reach)
    view = box.grown(math.ceil(_SURROUNDINGS * reach_px)).clipped(width, height)
    seen, unknown = seen_by_models(photo, photo.hole, view)
    mine = np.zeros((view.height, view.width), np.bool_)
    mine[box.shifted(-view.x0, -view.y0).slices] = own
    borders = view.y0 == 0, view.y1 == height, view.x0 == 0, view.x1 == width
    found = find_shadow(seen, mine, unknown > 0, reach_px - soft_px, borders)
    from_object = distance_outside(mine)
    found = _joined(found & (from_object < reach_px - soft_px), mine)
    # With its soft edge, as it is pasted.
    added = (distance_outside(found | mine) < soft_px) & (from_object >= soft_px)
    if np.count_nonzero(added) > options.effects_area * np.count_nonzero(own):
        found[:] = False
    return view, found


def _joined(found: BoolMask, mine: BoolMask) -> BoolMask:
    """The part of what was found that touches the object."""
    _, labels = cv2.connectedComponents((found | mine).view(np.uint8))
    return np.asarray(found & np.isin(labels, np.unique(labels[mine])))
