"""From the removal's window to the refiner's crop; decide whether refining pays."""

from __future__ import annotations

import numpy as np

from stages.judging.detail import lost_detail
from stages.photo import Photo
from stages.pixels.resize import scale_pixels
from stages.recipe import Recipe
from stages.steps.base import Work


def focus(recipe: Recipe) -> Work:
    """Make the step from the window to the crop: as it was, the removal's result in its hole.

    With ``refine.when`` = auto, a patch whose fill lacks no detail goes no further than this.
    """
    options = recipe.refine
    assert options is not None

    def work(photo: Photo) -> None:
        for patch, row in zip(photo.patches, photo.lineage.patches, strict=True):
            assert patch.detail is not None
            assert patch.hole is not None
            fill = scale_pixels(patch.pixels, patch.window.width, patch.window.height)
            inside = patch.crop.shifted(-patch.window.x0, -patch.window.y0).slices
            hole = patch.hole[..., None] > 0
            patch.pixels, patch.mask = np.where(hole, fill[inside], patch.detail), patch.hole
            patch.detail = patch.hole = None
            row["refined"], row["reason"] = True, "always"
            if options.when == "auto":
                patch.to_refine = lost_detail(patch.pixels, patch.mask) > options.auto_detail
                row["refined"] = patch.to_refine
                row["reason"] = "texture" if patch.to_refine else "smooth"

    return work
