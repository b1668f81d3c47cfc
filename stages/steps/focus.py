"""Cuts the refiner's crop out of the removal's window, and decides whether to refine it."""

from __future__ import annotations

import numpy as np

from stages.arrays import UInt8Array
from stages.judging.detail import lost_detail
from stages.photo import CropPatch, Photo, WindowPatch
from stages.pixels.resize import scale_pixels
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction


def build_focus(recipe: Recipe) -> PhotoFunction:
    """Build the function that turns a window into a crop: the original with the fill in its hole.

    What the removal changed beyond the mask is a part of the hole.

    With ``refine.when`` = auto, a patch whose fill lacks no detail is not refined.
    """
    options = recipe.refine
    assert options is not None

    def process(photo: Photo) -> None:
        for index, row in enumerate(photo.lineage.patches):
            cut = photo.patches[index]
            assert isinstance(cut, WindowPatch)
            patch = _focused(cut, extends=recipe.mask.effects == "alpha")
            row.refined, row.reason = True, "always"
            if options.when == "auto":
                patch.to_refine = lost_detail(patch.pixels, patch.mask) > options.auto_detail
                row.refined = patch.to_refine
                row.reason = "texture" if patch.to_refine else "smooth"
            if patch.to_refine and options.needs_original:
                patch.original_pixels = _with_object(cut, patch.pixels)
            photo.patches[index] = patch

    return process


def _with_object(cut: WindowPatch, filled: UInt8Array) -> UInt8Array:
    """The original crop, with the fill only where nothing is pasted.

    Those are other patches' parts of the hole, and transparent pixels, whose colours are arbitrary.
    """
    assert cut.original_crop is not None
    assert cut.hole is not None
    is_left_out = (cut.hole > 0) & (cut.opacity == 0)
    return np.where(is_left_out[..., None], filled, cut.original_crop)


def _focused(patch: WindowPatch, *, extends: bool) -> CropPatch:
    """Cut a crop; ``extends``: the removal has changed the effects beyond its hole."""
    assert patch.original_crop is not None
    assert patch.hole is not None
    fill = scale_pixels(patch.pixels, patch.window.width, patch.window.height)
    hole = patch.hole
    if extends and patch.effects is not None:
        hole = np.where(patch.effects > 0, np.uint8(255), hole)
    return CropPatch(
        crop=patch.crop,
        pixels=np.where(hole[..., None] > 0, fill[patch.crop_in_window], patch.original_crop),
        mask=hole,
        blend=patch.blend,
        effects=patch.effects,
        seed=patch.seed,
        to_refine=True,
    )
