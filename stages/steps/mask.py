"""From all that is marked to the region to fill."""

from __future__ import annotations

import hashlib

import numpy as np

from manifests.errors import RowError
from stages.photo import Photo
from stages.pixels.masks import Bits, fit_to_photo, generation_mask
from stages.pixels.shapes import rasterize_shapes
from stages.recipe import Recipe
from stages.steps.base import Work


def mask(recipe: Recipe) -> Work:
    """Make the step that turns all that is marked into the region to paint anew."""

    def work(photo: Photo) -> None:
        row = photo.lineage
        assert row.width is not None
        assert row.height is not None
        width, height, uri = row.width, row.height, row.image_uri
        drawn = rasterize_shapes(photo.marks.shapes, width, height, recipe.shapes, uri)
        for name, each in photo.marked.items():
            drawn |= fit_to_photo(each, width, height, recipe.mask, name)
        photo.marked = {}
        _refuse_specks(drawn, recipe.limits.min_mask_px, uri)
        row.region_sha256 = hashlib.sha256(np.packbits(drawn).tobytes()).hexdigest()
        photo.region = generation_mask(drawn, recipe.mask)
        row.masked_px = int(np.count_nonzero(photo.region))
        share = row.masked_px / photo.region.size
        if share > recipe.limits.max_mask_share:
            raise RowError(
                "mask.covers_photo",
                f"What is marked on the photo {row.image_uri}, grown, covers {share:.0%} of it.",
            )

    return work


def _refuse_specks(drawn: Bits, min_px: int, uri: str) -> None:
    """Refuse a region of a few pixels, of whatever kind its marks are; an empty one is none."""
    count = int(np.count_nonzero(drawn))
    least = min(min_px, drawn.size // 1000)
    if 0 < count < least:
        raise RowError(
            "mask.too_small",
            f"What is marked on the photo {uri} is {count} px in all, under {least}.",
        )
