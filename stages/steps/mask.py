"""Combines masks and shapes into the hole."""

from __future__ import annotations

import hashlib

import numpy as np

from manifests.errors import RowError
from stages.arrays import BoolMask
from stages.codecs.encode import changes_format
from stages.photo import Photo
from stages.pixels.masks import fit_to_photo, hole_mask
from stages.pixels.shapes import rasterize_shapes
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction
from stages.steps.decode import use_repaired


def build_mask(recipe: Recipe) -> PhotoFunction:
    """Build the function that combines masks and shapes into the hole."""

    def process(photo: Photo) -> None:
        row = photo.lineage
        assert row.width is not None
        assert row.height is not None
        width, height, uri = row.width, row.height, row.image_uri
        marked = rasterize_shapes(photo.marks.shapes, width, height, recipe.shapes, uri)
        for name, each in photo.marked.items():
            marked |= fit_to_photo(each, width, height, recipe.mask, name)
        if photo.detected is not None:
            marked |= photo.detected
        photo.marked, photo.detected = {}, None
        _reject_specks(marked, recipe.limits.min_mask_px, uri)
        row.region_sha256 = hashlib.sha256(np.packbits(marked).tobytes()).hexdigest()
        photo.hole = hole_mask(marked, recipe.mask)
        row.masked_px = int(np.count_nonzero(photo.hole))
        share = row.masked_px / photo.hole.size
        limit = recipe.limits.max_mask_share
        if share > limit:
            raise RowError(
                "mask.covers_photo",
                f"The dilated mask of the photo {row.image_uri} covers {share:.6g} of it, more "
                f"than limits.max_mask_share = {limit:g}.",
            )
        if row.masked_px or changes_format(photo.original, recipe.output.format):
            use_repaired(photo, recipe)

    return process


def min_marked_px(marked: BoolMask, min_px: int) -> int:
    """Return the minimum number of marked px in a photo of this size.

    Args:
        marked: ``(h, w)``, of the photo's size.
        min_px: the number in a large photo, see ``limits.min_mask_px``.
    """
    return min(min_px, marked.size // 1000)


def _reject_specks(marked: BoolMask, min_px: int, uri: str) -> None:
    """Reject too few marked pixels; none at all are accepted."""
    count = int(np.count_nonzero(marked))
    limit = min_marked_px(marked, min_px)
    if 0 < count < limit:
        raise RowError(
            "mask.too_small",
            f"The marked region of the photo {uri} has {count} px, fewer than {limit}.",
        )
