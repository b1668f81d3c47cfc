"""Fills the masked part of each patch with the recipe's removal method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from manifests.errors import RowError
from stages.arrays import BoolMask, UInt8Array
from stages.judging.retries import Flag, flag_row
from stages.models import FillFunction, FillWithAlpha
from stages.photo import Patch, Photo, WindowPatch
from stages.pixels.effects import opacity_beyond
from stages.pixels.resize import resample, scale_mask
from stages.recipe import Recipe
from stages.steps.base import BatchFunction, fail
from stages.weights.resolve import get_section_weights

#: A model whose alpha marks less than this share of the mask, at this level, left the object there.
_MIN_PAINTED, _PAINTED = 0.05, 128

#: Around effects, of the output: what scaling back mixes into them is not the old picture.
_MARGIN = (5, 5)


def build_remove(recipe: Recipe) -> BatchFunction:
    """Build the function that fills the masked part of each patch."""
    options = recipe.remove
    assert options is not None
    located, used = get_section_weights(recipe, "remove", options.part)
    fill: FillFunction = options.load_module().load(located)

    def process(photos: Sequence[Photo]) -> None:
        owned = [(photo, patch) for photo in photos for patch in photo.patches]
        filled = fill(
            [patch.pixels for _, patch in owned],
            [patch.mask for _, patch in owned],
            [patch.seed for _, patch in owned],
        )
        # No photo changes before all is computed: if one raises, each is tried alone.
        changes = [
            each if isinstance(each, RowError) else _change(patch, each, recipe)
            for (_, patch), each in zip(owned, filled, strict=True)
        ]
        for (photo, patch), change in zip(owned, changes, strict=True):
            if not isinstance(change, RowError):
                change.apply(photo, patch)
            elif photo.ok:
                fail(photo, change.code, str(change), "remove")
        for photo in photos:
            if photo.ok and photo.patches:
                photo.lineage.weights |= used

    return BatchFunction(process)


@dataclass(frozen=True, slots=True)
class _Change:
    """What a fill changes.

    Attributes:
        pixels: the patch's, filled.
        effects: the patch's.
        flags: why a person should look at the photo.
    """

    pixels: UInt8Array
    effects: UInt8Array | None
    flags: tuple[Flag, ...] = ()

    def apply(self, photo: Photo, patch: Patch) -> None:
        patch.pixels, patch.effects = self.pixels, self.effects
        if isinstance(patch, WindowPatch):
            patch.beyond = None
        for flag in self.flags:
            flag_row(photo.lineage, flag)


def _change(patch: Patch, result: UInt8Array | FillWithAlpha, recipe: Recipe) -> _Change:
    """Take the masked part of a model's output, and what ``mask.effects`` allows beyond it.

    A loose mask may hold more than the object, but not much less. Else the row is flagged.
    """
    if not isinstance(result, FillWithAlpha):
        return _Change(result, patch.effects)
    assert isinstance(patch, WindowPatch)
    flags: list[Flag] = []
    shown, effects, alpha = patch.mask > 0, patch.effects, _in_crop(patch, result.alpha)
    own = patch.blend == 255  # not its neighbours' part of the mask, nor what is transparent
    if own.any() and np.mean(alpha[own] >= _PAINTED) < _MIN_PAINTED:
        flags.append("came_back")
    if recipe.mask.effects == "alpha":
        assert patch.beyond is not None
        area, beyond = recipe.mask.effects_area, patch.beyond > 0
        effects = opacity_beyond(alpha, patch.blend, beyond, patch.reach_px, area)
        if effects is None:
            flags.append("effects_dropped")
        elif effects.any():
            shown |= _shown_beyond(patch, effects)
        else:
            effects = None
    pixels = np.where(shown[..., None], result.pixels, patch.pixels)
    return _Change(pixels, effects, tuple(flags))


def _in_crop(patch: WindowPatch, alpha: UInt8Array) -> UInt8Array:
    """The crop's part of an alpha of the window."""
    whole = resample(alpha, patch.window.width, patch.window.height, cv2.INTER_LINEAR)
    return whole[patch.crop_in_window]


def _shown_beyond(patch: WindowPatch, effects: UInt8Array) -> BoolMask:
    """Where the window's output is kept for these effects, like ``patch.mask``."""
    whole = np.zeros((patch.window.height, patch.window.width), np.uint8)
    whole[patch.crop_in_window] = effects
    there = scale_mask(whole, patch.mask.shape[1], patch.mask.shape[0])
    return np.asarray(cv2.dilate(there, np.ones(_MARGIN, np.uint8)) > 0)
