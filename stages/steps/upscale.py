"""Resizes each crop to the refiner's size."""

from __future__ import annotations

from pathlib import Path

from stages.photo import Photo
from stages.pixels.resize import scale_mask
from stages.pixels.windows import refiner_size
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction
from stages.weights.resolve import get_section_weights


def build_upscale(recipe: Recipe) -> PhotoFunction:
    """Build the function that resizes each crop to the refiner's size."""
    from stages.models.upscaler import Upscaler, to_size

    assert recipe.refine is not None
    size_px, options = recipe.refine.size_px, recipe.upscale
    upscaler, used = None, dict[str, str]()
    if options is not None and options.method == "model":
        located, used = get_section_weights(recipe, "upscale", "")
        upscaler = Upscaler.load(Path(located.weights), options)

    def process(photo: Photo) -> None:
        patches = photo.patches_to_refine
        for patch in patches:
            width, height = refiner_size(patch.crop, size_px)
            patch.pixels = to_size(patch.pixels, width, height, upscaler)
            patch.mask = scale_mask(patch.mask, width, height)
            if patch.original_pixels is not None:
                patch.original_pixels = to_size(patch.original_pixels, width, height, upscaler)
        if patches:
            photo.lineage.weights |= used

    return process
