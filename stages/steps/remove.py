"""Fills the masked part of each patch with the recipe's removal method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from manifests.errors import RowError
from stages.models import Erased, Fill
from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import BatchWork, fail
from stages.weights.find import locate


def fill_patches(recipe: Recipe) -> BatchWork:
    """Build the step that fills the masked part of each patch."""
    options = recipe.remove
    assert options is not None
    located, used = locate(recipe, "remove", options.part)
    fill: Fill = options.load_module().load(located)

    def work(photos: Sequence[Photo]) -> None:
        owned = [(photo, patch) for photo in photos for patch in photo.patches]
        filled = fill(
            [patch.pixels for _, patch in owned],
            [patch.mask for _, patch in owned],
            [patch.seed for _, patch in owned],
        )
        for (photo, patch), result in zip(owned, filled, strict=True):
            if isinstance(result, Erased):
                patch.pixels = np.where(patch.mask[..., None] > 0, result.pixels, patch.pixels)
            elif not isinstance(result, RowError):
                patch.pixels = result
            elif photo.ok:
                fail(photo, result.code, str(result), "remove")
        for photo in photos:
            if photo.ok and photo.patches:
                photo.lineage.weights |= used

    return BatchWork(work)
