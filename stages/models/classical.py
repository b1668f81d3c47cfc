"""The classical methods, which fill a hole from its surroundings without weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import assert_never

import cv2
import numpy as np
from patchmatch import patch_match

from stages.arrays import UInt8Array
from stages.models import Fill
from stages.recipe.options import NavierStokesOptions, PatchMatchOptions, TeleaOptions

Classical = TeleaOptions | NavierStokesOptions | PatchMatchOptions

#: Takes ``(h, w, 3)`` uint8 RGB, an ``(h, w)`` uint8 mask (255: fill), and a seed of 0 to 2**32 - 1
#: that exact methods ignore. Returns new pixels that equal the old ones where the mask is 0.
FillOne = Callable[[UInt8Array, UInt8Array, int], UInt8Array]

#: The library uses a process-wide random generator, so threads take turns.
_patchmatch_lock = Lock()


def load(options: Classical, weights: Path | None) -> Fill:
    """See :class:`stages.traits.RemovalOptions`."""
    assert weights is None
    fill_one = load_fill(options)

    def fill(
        pixels: Sequence[UInt8Array], masks: Sequence[UInt8Array], seeds: Sequence[int]
    ) -> list[UInt8Array]:
        return [fill_one(*each) for each in zip(pixels, masks, seeds, strict=True)]

    return fill


def load_fill(options: Classical) -> FillOne:
    """Build the function that fills one window."""
    match options:
        case TeleaOptions():
            return _opencv(cv2.INPAINT_TELEA, options.radius_px)
        case NavierStokesOptions():
            return _opencv(cv2.INPAINT_NS, options.radius_px)
        case PatchMatchOptions():
            return _patchmatch(options.patch_radius_px)
        case _:
            assert_never(options)


def _opencv(flag: int, radius_px: float) -> FillOne:
    """Telea, "An Image Inpainting Technique Based on the Fast Marching Method" (2004), or
    Bertalmio, Bertozzi, Sapiro, "Navier-Stokes, Fluid Dynamics, and Image and Video Inpainting"
    (2001), as OpenCV implements them.
    """

    def fill(pixels: UInt8Array, mask: UInt8Array, seed: int) -> UInt8Array:  # noqa: ARG001 - exact: no seed
        return np.asarray(cv2.inpaint(pixels, mask, radius_px, flag), dtype=np.uint8)

    return fill


def _patchmatch(patch_radius_px: int) -> FillOne:
    """Barnes, Shechtman, Finkelstein, Goldman, "PatchMatch: A Randomized Correspondence Algorithm
    for Structural Image Editing" (SIGGRAPH 2009), as ``pypatchmatch`` implements it.
    """

    def fill(pixels: UInt8Array, mask: UInt8Array, seed: int) -> UInt8Array:
        with _patchmatch_lock:
            patch_match.set_random_seed(seed)
            filled = patch_match.inpaint(pixels, mask, patch_size=patch_radius_px)
        return np.where(mask[..., None] > 0, filled, pixels)

    return fill
