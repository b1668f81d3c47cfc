"""The classical methods, which fill a hole from its surroundings without weights.

Telea, "An Image Inpainting Technique Based on the Fast Marching Method" (2004), and Bertalmio,
Bertozzi, Sapiro, "Navier-Stokes, Fluid Dynamics, and Image and Video Inpainting" (2001), as OpenCV
implements them. Barnes, Shechtman, Finkelstein, Goldman, "PatchMatch: A Randomized Correspondence
Algorithm for Structural Image Editing" (SIGGRAPH 2009), as ``pypatchmatch`` implements it.
"""

from __future__ import annotations

from threading import Lock

import cv2
import numpy as np
from patchmatch import patch_match

from stages.arrays import UInt8Array
from stages.models import FillFunction
from stages.recipe.removal_methods import NavierStokesOptions, PatchMatchOptions, TeleaOptions

Classical = TeleaOptions | NavierStokesOptions | PatchMatchOptions

#: The library uses a process-wide random generator, so threads take turns.
_patchmatch_lock = Lock()


def load(options: Classical) -> FillFunction:
    """See :class:`stages.method_options.RemovalOptions`."""
    return lambda pixels, masks, seeds: [
        fill_one(options, *each) for each in zip(pixels, masks, seeds, strict=True)
    ]


def fill_one(options: Classical, pixels: UInt8Array, mask: UInt8Array, seed: int) -> UInt8Array:
    """Fill one window.

    Args:
        options: the method and its options.
        pixels: ``(h, w, 3)`` uint8 RGB.
        mask: ``(h, w)`` uint8, 255 where to fill.
        seed: 0 to 2**32 - 1; exact methods ignore it.

    Returns:
        New pixels that equal the old ones where the mask is 0.
    """
    if isinstance(options, PatchMatchOptions):
        with _patchmatch_lock:
            patch_match.set_random_seed(seed)
            filled = patch_match.inpaint(pixels, mask, patch_size=options.patch_radius_px)
        return np.where(mask[..., None] > 0, filled, pixels)
    flag = cv2.INPAINT_TELEA if isinstance(options, TeleaOptions) else cv2.INPAINT_NS
    return np.asarray(cv2.inpaint(pixels, mask, options.radius_px, flag), dtype=np.uint8)
