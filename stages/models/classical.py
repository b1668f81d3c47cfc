"""Fill the masked part of a patch from its surroundings: the classical methods, without weights.

Each takes ``(h, w, 3)`` uint8 RGB and an ``(h, w)`` uint8 mask (255: fill), and returns new pixels
that equal the old ones where the mask is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import cv2
import numpy as np
from patchmatch import patch_match

from stages.pixels.masks import Bytes
from stages.recipe.options import (
    LamaOptions,
    NavierStokesOptions,
    PatchMatchOptions,
    RemoveOptions,
    TeleaOptions,
)

#: ``fill(pixels, mask, seed)``; ``seed`` is 0 to 2**32 - 1, and ignored by exact methods.
Fill = Callable[[Bytes, Bytes, int], Bytes]


def load_fill(options: RemoveOptions) -> Fill:
    """Make the function that fills a patch as the recipe says."""
    match options:
        case TeleaOptions():
            return _opencv(cv2.INPAINT_TELEA, options.radius_px)
        case NavierStokesOptions():
            return _opencv(cv2.INPAINT_NS, options.radius_px)
        case PatchMatchOptions():
            return _patchmatch(options.patch_radius_px)
        case LamaOptions():
            raise TypeError("LaMa fills many patches at once: see fill_patches")
        case _:
            assert_never(options)


def _opencv(flag: int, radius_px: float) -> Fill:
    """Telea, "An Image Inpainting Technique Based on the Fast Marching Method" (2004), or
    Bertalmio, Bertozzi, Sapiro, "Navier-Stokes, Fluid Dynamics, and Image and Video Inpainting"
    (2001), as OpenCV implements them.
    """

    def fill(pixels: Bytes, mask: Bytes, seed: int) -> Bytes:  # noqa: ARG001 - exact: no seed
        return np.asarray(cv2.inpaint(pixels, mask, radius_px, flag), dtype=np.uint8)

    return fill


def _patchmatch(patch_radius_px: int) -> Fill:
    """Barnes, Shechtman, Finkelstein, Goldman, "PatchMatch: A Randomized Correspondence Algorithm
    for Structural Image Editing" (SIGGRAPH 2009), as ``pypatchmatch`` implements it.
    """

    def fill(pixels: Bytes, mask: Bytes, seed: int) -> Bytes:
        patch_match.set_random_seed(seed)
        filled = patch_match.inpaint(pixels, mask, patch_size=patch_radius_px)
        return np.where(mask[..., None] > 0, filled, pixels)

    return fill
