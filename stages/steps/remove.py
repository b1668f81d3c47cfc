"""Fill the masked part of each patch."""

from __future__ import annotations

from collections.abc import Sequence

from manifests.errors import RowError
from stages.models.classical import load_fill
from stages.photo import Photo
from stages.recipe import Recipe
from stages.recipe.options import (
    LamaOptions,
)
from stages.steps.base import Together, Work, fail
from stages.weights.find import find


def fill_patches(recipe: Recipe) -> Work | Together:
    """Make the step that fills the masked part of each patch."""
    if isinstance(recipe.remove, LamaOptions):
        return _lama(recipe.remove)
    assert recipe.remove is not None
    fill = load_fill(recipe.remove)

    def work(photo: Photo) -> None:
        for patch in photo.patches:
            patch.pixels = fill(patch.pixels, patch.mask, patch.seed)

    return work


def _lama(options: LamaOptions) -> Together:
    """Suvorov et al., "Resolution-robust Large Mask Inpainting with Fourier Convolutions" (WACV
    2022): see :mod:`stages.models.lama`.
    """
    from stages.models.lama import Lama

    weights = find(options.weights, pin=options.weights_pin)
    lama = Lama.load(weights.path, options)

    def work(photos: Sequence[Photo]) -> None:
        owners = [photo for photo in photos for _ in photo.patches]
        patches = [patch for photo in photos for patch in photo.patches]
        filled = lama.fill([patch.pixels for patch in patches], [patch.mask for patch in patches])
        for photo, patch, made in zip(owners, patches, filled, strict=True):
            if not isinstance(made, RowError):
                patch.pixels = made
            elif photo.ok:
                fail(photo, made.code, str(made), "remove")
        for photo in photos:
            if photo.ok and photo.patches:
                photo.lineage.weights[weights.name] = weights.sha256

    return Together(work)
