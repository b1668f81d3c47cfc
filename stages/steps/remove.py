"""Fills the masked part of each patch with the recipe's removal method."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from manifests.errors import RowError
from stages.judging.retries import flag_row
from stages.models import Erased, Fill
from stages.photo import Patch, Photo, WindowPatch
from stages.pixels.effects import opacity_beyond
from stages.pixels.resize import resample, scale_mask
from stages.recipe import Recipe
from stages.steps.base import BatchWork, fail
from stages.weights.find import locate

#: A model whose alpha marks less than this share of the mask, at this level, left the object there.
_MIN_PAINTED, _PAINTED = 0.05, 128

#: Around effects, of the output: what scaling back mixes into them is not the old picture.
_MARGIN = (5, 5)


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
                _erase(photo, patch, result, recipe)
            elif not isinstance(result, RowError):
                patch.pixels = result
            elif photo.ok:
                fail(photo, result.code, str(result), "remove")
        for photo in photos:
            if photo.ok and photo.patches:
                photo.lineage.weights |= used

    return BatchWork(work)


def _erase(photo: Photo, patch: Patch, result: Erased, recipe: Recipe) -> None:
    """Take the masked part of a model's output, and what ``mask.effects`` allows beyond it.

    A loose mask may hold more than the object, but not much less. Else the row is flagged.
    """
    shown = patch.mask > 0
    if np.mean(result.alpha[shown] >= _PAINTED) < _MIN_PAINTED:
        flag_row(photo.lineage, "came_back")
    if recipe.mask.effects == "alpha":
        assert isinstance(patch, WindowPatch)
        assert patch.beyond is not None
        window = patch.window
        inside = patch.crop.shifted(-window.x0, -window.y0).slices
        alpha = resample(result.alpha, window.width, window.height, cv2.INTER_LINEAR)
        effects = opacity_beyond(
            alpha[inside],
            patch.blend,
            patch.beyond > 0,
            patch.reach_px,
            recipe.mask.effects_area,
        )
        if effects is None:
            flag_row(photo.lineage, "effects_dropped")
        elif effects.any():
            patch.effects = effects
            whole = np.zeros((window.height, window.width), np.uint8)
            whole[inside] = effects
            there = scale_mask(whole, shown.shape[1], shown.shape[0])
            shown |= cv2.dilate(there, np.ones(_MARGIN, np.uint8)) > 0
        patch.beyond = None
    patch.pixels = np.where(shown[..., None], result.pixels, patch.pixels)
