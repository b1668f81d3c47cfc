"""Resizes each crop to the refiner's size."""

from __future__ import annotations

from stages.photo import Photo
from stages.pixels.resize import scale_mask
from stages.pixels.windows import refined_size
from stages.recipe import Recipe
from stages.steps.base import Work
from stages.weights.find import find


def upscale(recipe: Recipe) -> Work:
    """Build the step that resizes each crop to the refiner's size."""
    from stages.models.upscaler import Upscaler, to_size

    assert recipe.refine is not None
    size_px, options = recipe.refine.size_px, recipe.upscale
    upscaler, weights = None, None
    if options is not None and options.method == "model":
        weights = find(options.weights, pin=options.weights_pin)
        upscaler = Upscaler.load(weights.path, options)

    def work(photo: Photo) -> None:
        patches = photo.patches_to_refine
        for patch in patches:
            width, height = refined_size(patch.crop, size_px)
            patch.pixels = to_size(patch.pixels, width, height, upscaler)
            patch.mask = scale_mask(patch.mask, width, height)
            if patch.photo_pixels is not None:
                patch.photo_pixels = to_size(patch.photo_pixels, width, height, upscaler)
        if weights and patches:
            photo.lineage.weights[weights.name] = weights.sha256

    return work
