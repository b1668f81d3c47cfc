"""Plans the crops of a photo, and cuts them.

Parts of the mask that are close together are filled together; distant parts become separate
patches, so that each is filled at full resolution. A patch treats *every* masked pixel in its crop
as unknown, including its neighbours', and pastes back only its own: patches never copy from each
other's unwanted objects, and the order of pasting does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stages.arrays import BoolMask, UInt8Array
from stages.pixels.boxes import Box, bounds_of, context_box
from stages.pixels.effects import effects_reach_px
from stages.pixels.masks import blend_mask
from stages.recipe.options import CropOptions

#: Parts are separated on a grid of this cell size, which makes planning cheap on large photos.
#: Parts closer than two cells are always merged.
_CELL_PX = 8


@dataclass(frozen=True, slots=True)
class PlannedPatch:
    """One patch before its pixels are cut.

    Attributes:
        bounds: bounds of the patch's own masked pixels, inside the photo.
        crop: what is cut, inside the photo.
        own: ``(bounds.height, bounds.width)`` bool, the patch's own masked pixels.
    """

    bounds: Box
    crop: Box
    own: BoolMask


def group_into_patches(
    mask: BoolMask,
    options: CropOptions,
    *,
    feather_px: int,
    effects_reach: float = 0.0,
    max_side_px: int = 0,
    multiple_px: int = 1,
) -> list[PlannedPatch]:
    """Group the masked pixels and place a crop around each group.

    Args:
        mask: ``(h, w)`` bool, the hole of the whole photo.
        options: context, and how near parts are merged.
        feather_px: parts whose soft edges could meet are merged too, and each crop shows more
            than its soft edge.
        effects_reach: each crop shows at least this many times the longer side of its hole on
            each side.
        max_side_px: crops are not merged into one that is longer, and would lose resolution; 0:
            however long.
        multiple_px: sides of the crops become multiples of this where the photo has room for it.

    Returns:
        Patches from top to bottom whose ``own`` pixels are disjoint and together are the mask.
        None if the mask is empty.
    """
    height, width = mask.shape

    def crop_of(bounds: Box) -> Box:
        return context_box(
            bounds,
            width,
            height,
            context=options.context,
            min_context_px=options.min_context_px,
            aspect=options.aspect,
            needed=bounds.grown(
                max(feather_px, math.ceil(effects_reach_px(bounds, effects_reach))) + 1
            ),
            multiple_px=multiple_px,
        )

    cells = _any_in_cell(mask)
    merge_px = max(options.merge_px, 2 * (feather_px + 1))
    labels, count = _group_cells(cells, merge_px)
    while count > options.max_patches:
        merge_px = 2 * merge_px + _CELL_PX
        labels, count = _group_cells(cells, merge_px)
    parts = [_bounds(mask, labels, group) for group in range(1, count + 1)]
    groups = _merge_where_cheaper(
        [(bounds, [i + 1]) for i, bounds in enumerate(parts)], crop_of, max_side_px
    )
    return [
        PlannedPatch(bounds, crop_of(bounds), _own_pixels(mask, labels, members, bounds))
        for bounds, members in sorted(groups, key=lambda group: (group[0].y0, group[0].x0))
    ]


def cut_mask(mask: BoolMask, box: Box) -> UInt8Array:
    """Cut the hole, uint8: 255 where the photo is filled."""
    return np.asarray(mask[box.slices].view(np.uint8) * 255, np.uint8)


def crop_blend(patch: PlannedPatch, feather_px: int) -> UInt8Array:
    """The blend mask of a patch, uint8 0 to 255, as large as its crop."""
    own = np.zeros((patch.crop.height, patch.crop.width), np.bool_)
    own[patch.bounds.shifted(-patch.crop.x0, -patch.crop.y0).slices] = patch.own
    return blend_mask(own, feather_px)


def _any_in_cell(mask: BoolMask) -> UInt8Array:
    """Shrink by :data:`_CELL_PX`: 1 where any pixel of the cell is masked."""
    height, width = mask.shape
    rows, columns = -(-height // _CELL_PX), -(-width // _CELL_PX)
    padded = np.zeros((rows * _CELL_PX, columns * _CELL_PX), np.bool_)
    padded[:height, :width] = mask
    blocks = padded.reshape(rows, _CELL_PX, columns, _CELL_PX)
    by_rows = np.bitwise_or.reduce(blocks, axis=1)  # one axis at a time is seven times as fast
    return np.asarray(by_rows.any(axis=2), np.uint8)


def _group_cells(cells: UInt8Array, reach_px: int) -> tuple[npt.NDArray[np.int32], int]:
    """Number the groups of cells no farther apart than ``reach_px``: 1 to count, 0 elsewhere."""
    # Two cells join when their dilations touch: each grows by half the reach, and one cell more
    # because the pixels in a cell may lie at its far side.
    radius = -(-reach_px // (2 * _CELL_PX)) + 1
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    count, labels = cv2.connectedComponents(cv2.dilate(cells, kernel), connectivity=8)
    return np.where(cells > 0, labels, 0).astype(np.int32), count - 1


def _bounds(mask: BoolMask, labels: npt.NDArray[np.int32], group: int) -> Box:
    """The tight bounds, in px, of a group of cells."""
    cells = bounds_of(labels == group)
    assert cells is not None
    outer = Box(*(_CELL_PX * edge for edge in (cells.x0, cells.y0, cells.x1, cells.y1)))
    outer = outer.clipped(mask.shape[1], mask.shape[0])
    inner = bounds_of(_own_pixels(mask, labels, [group], outer))
    assert inner is not None
    return inner.shifted(outer.x0, outer.y0)


def _own_pixels(
    mask: BoolMask, labels: npt.NDArray[np.int32], members: list[int], bounds: Box
) -> BoolMask:
    """The masked pixels inside ``bounds`` that belong to the groups ``members``."""
    first_row, first_column = bounds.y0 // _CELL_PX, bounds.x0 // _CELL_PX
    cells = labels[first_row : -(-bounds.y1 // _CELL_PX), first_column : -(-bounds.x1 // _CELL_PX)]
    mine = np.isin(cells, members).repeat(_CELL_PX, axis=0).repeat(_CELL_PX, axis=1)
    y, x = bounds.y0 - first_row * _CELL_PX, bounds.x0 - first_column * _CELL_PX
    own: BoolMask = mine[y : y + bounds.height, x : x + bounds.width] & mask[bounds.slices]
    return own


def _merge_where_cheaper(
    groups: list[tuple[Box, list[int]]], crop_of: Callable[[Box], Box], max_side_px: int
) -> list[tuple[Box, list[int]]]:
    """Merge groups while one crop around both is no larger than the two crops apart."""

    def side(box: Box) -> int:
        return max(box.width, box.height)

    merged = list(groups)
    changed = True
    while changed:
        changed = False
        for i in range(len(merged)):
            for j in range(len(merged) - 1, i, -1):
                both = merged[i][0].union(merged[j][0])
                first, second, one = (crop_of(b) for b in (merged[i][0], merged[j][0], both))
                blurs = side(one) > max(max_side_px, side(first), side(second)) and max_side_px
                if one.area <= first.area + second.area and not blurs:
                    merged[i] = (both, merged[i][1] + merged[j][1])
                    del merged[j]
                    changed = True
    return merged
