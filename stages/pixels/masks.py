"""Converts mask files to the masks of the method.

* The **marked pixels** are those that masks and shapes mark.
* The **hole** is what is filled: the marked pixels, optionally with the inside of outlines, dilated
  so that no soft edge of the object remains.
* The **blend mask** is soft, the opacity of the fill: 255 on the hole, falling linearly to 0 at
  ``feather_px`` + 1 px outside it. The object never shows through the soft edge, and nothing
  changes beyond it.

All lengths are in pixels of the photo, so the edge looks the same for any crop size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from manifests.errors import RowError
from stages.arrays import BoolMask, Float32Array, UInt8Array
from stages.pixels.boxes import Box, bounds_of
from stages.recipe.options import MaskOptions

#: Masks of another size count as the same aspect within this share: exporters round the sides.
_ASPECT_TOLERANCE = 0.01

#: Levels of a mask that marks nothing else and is not taken for empty: at all where each level is
#: exact; beyond the error that a lossy codec makes of plain black; beyond noise where the recipe
#: says that levels are soft.
_FAINTEST, _FAINTEST_LOSSY, _FAINTEST_SOFT = 1, 4, 32

#: A lossless mask with at most this many levels has areas and edges, but no gradients.
_FEW_LEVELS = 32

#: Levels up to this are noise where the mask may have gradients, or be a lossy file saved again.
_NOISE = 8

#: How far from what is marked soft edges and the noise of lossy codecs reach, px.
_EDGE_PX = 16

#: From which share of the pixels that a threshold leaves out flat ones are areas: those of all
#: levels, and those of a single level over the other number, which gradients hardly have. On masks
#: drawn by rule, blurred, scaled, and saved by lossy codecs, shares were 0.26 and 0.001 at most.
_FLAT_SHARE, _PLATEAU_SHARE, _PLATEAU_FROM = 1 / 3, 0.04, 32


@dataclass(frozen=True, slots=True)
class Levels:
    """The decoded levels of a mask file.

    Attributes:
        values: ``(h, w)`` uint8, 0 black or transparent, 255 white or opaque.
        is_lossy: whether they contain coding noise.
    """

    values: UInt8Array
    is_lossy: bool = False


def marked_pixels(mask: Levels, options: MaskOptions, uri: str) -> BoolMask:
    """Return ``(h, w)`` bool: the pixels that the mask marks.

    Levels are counted from the background colour: black or, with polarity ``dark``, white. If any
    level reaches the threshold, it decides. A lossless mask of the background and one other level
    needs no threshold. Other content is rejected rather than ignored.

    Args:
        mask: the file's levels.
        options: polarity, threshold, and the meaning of values.
        uri: the mask's name in the error.

    Raises:
        RowError: ``mask.too_faint`` if there is something in it, but nothing over the threshold;
            ``mask.ambiguous`` if the threshold would leave out part of what is drawn, or if labels
            are expected of a lossy file.
    """
    drawn = 255 - mask.values if options.polarity == "dark" else mask.values
    if options.values == "labels":
        if mask.is_lossy:
            raise RowError("mask.ambiguous", f"The mask {uri} is lossy, so it has no exact labels.")
        return np.asarray(drawn > 0)
    levels = np.flatnonzero(cv2.calcHist([np.ascontiguousarray(drawn)], [0], None, [256], [0, 256]))
    strongest = int(levels[-1])
    is_exact = options.values == "auto" and not mask.is_lossy
    if strongest >= options.threshold:
        if options.values == "auto" and _leaves_out_areas(
            drawn, levels, options.threshold, is_exact=is_exact
        ):
            below = int(levels[levels < options.threshold][-1])
            raise RowError(
                "mask.ambiguous",
                f"The mask {uri} has areas below the threshold of {options.threshold}, up to level "
                f"{below}, besides areas that reach it.",
            )
        return np.asarray(drawn >= options.threshold)
    if is_exact and len(levels) == 2 and levels[0] == 0:
        return np.asarray(drawn > 0)
    faintest = _FAINTEST_LOSSY if mask.is_lossy else _FAINTEST
    if strongest >= (_FAINTEST_SOFT if options.values == "levels" else faintest):
        raise RowError(
            "mask.too_faint",
            f"The mask {uri} marks nothing: its strongest sample is {strongest}, the threshold "
            f"{options.threshold}.",
        )
    return np.zeros(drawn.shape, np.bool_)


def _leaves_out_areas(
    drawn: UInt8Array, levels: npt.NDArray[np.intp], threshold: int, *, is_exact: bool
) -> bool:
    """Whether a threshold leaves out more than soft edges and noise: labels, or faint strokes.

    Areas are flat: most of their pixels have the level of all their neighbours. Soft edges and
    gradients are not, and in a mask of few levels they are near what is marked.

    Args:
        drawn: ``(h, w)`` uint8, levels counted from the colour that marks nothing.
        levels: those in ``drawn``; the lowest is the background.
        threshold: at least one level reaches it.
        is_exact: whether the file is lossless.
    """
    few = is_exact and len(levels) <= _FEW_LEVELS
    reached = drawn >= threshold
    left_out = (drawn > max(int(levels[0]), 0 if few else _NOISE)) & ~reached
    count = np.count_nonzero(left_out)
    if not count:
        return False
    window = np.ones((5, 5), np.uint8)
    flat = left_out & (cv2.erode(drawn, window) == cv2.dilate(drawn, window))
    flat_px = np.bincount(drawn[flat], minlength=256)
    if flat_px.sum() >= _FLAT_SHARE * count:
        return True
    if not few:
        return bool(flat_px[_PLATEAU_FROM:].max() >= _PLATEAU_SHARE * count)
    near = cv2.dilate(reached.view(np.uint8), np.ones((2 * _EDGE_PX + 1,) * 2, np.uint8))
    return bool(flat_px[_NOISE + 1 :].any() or (left_out & (near == 0)).any())


def fit_to_photo(
    marked: BoolMask, width: int, height: int, options: MaskOptions, uri: str
) -> BoolMask:
    """Return what a mask marks at the photo's size.

    Args:
        marked: ``(h, w)`` bool.
        width: of the photo as displayed, px.
        height: of the photo as displayed, px.
        options: what is done with a mask of another size: it is placed at ``anchor``, or, if
            ``scale_to_photo``, scaled if it has the same aspect.
        uri: names the mask in the error.

    Raises:
        RowError: ``mask.size_mismatch``.
    """
    mask_height, mask_width = marked.shape
    if (mask_width, mask_height) == (width, height):
        return marked
    if options.anchor:
        return _anchored(marked, width, height, options, uri)
    same_aspect = abs(mask_width * height / (mask_height * width) - 1) <= _ASPECT_TOLERANCE
    if not (options.scale_to_photo and same_aspect):
        raise RowError(
            "mask.size_mismatch",
            f"The mask {uri} is {mask_width}x{mask_height}, the photo {width}x{height}.",
        )
    return _scaled(marked, width, height)


def _scaled(marked: BoolMask, width: int, height: int) -> BoolMask:
    """Scale what a mask marks. Thin lines survive shrinking: a pixel is marked if any part was."""
    smaller = min(width, marked.shape[1]), min(height, marked.shape[0])
    share = cv2.resize(marked.astype(np.float32), smaller, interpolation=cv2.INTER_AREA)
    kept = (share > 1e-6).astype(np.float32)
    return np.asarray(cv2.resize(kept, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5)


def _anchored(
    marked: BoolMask, width: int, height: int, options: MaskOptions, uri: str
) -> BoolMask:
    """Place what a mask marks in an empty mask of the photo's size; see :func:`fit_to_photo`."""
    if options.anchor_width:
        scale = options.anchor_width * width / marked.shape[1]
        height_px, width_px = (max(round(side * scale), 1) for side in marked.shape)
        marked = _scaled(marked, width_px, height_px)
    across, down = (
        0.0 if first in options.anchor else 1.0 if last in options.anchor else 0.5
        for first, last in (("left", "right"), ("top", "bottom"))
    )
    own_height, own_width = marked.shape
    x, y = round((width - own_width) * across), round((height - own_height) * down)
    inside = Box(x, y, x + own_width, y + own_height).clipped(width, height)
    placed = np.zeros((height, width), np.bool_)
    placed[inside.slices] = marked[inside.shifted(-x, -y).slices]
    if marked.any() and not placed.any():
        raise RowError(
            "mask.size_mismatch",
            f"All that the mask {uri} marks lies outside the photo of {width}x{height}.",
        )
    return placed


def hole_mask(marked: BoolMask, options: MaskOptions) -> BoolMask:
    """Return ``(h, w)`` bool: the hole, True where the photo is filled.

    Args:
        marked: ``(h, w)`` bool, the marked pixels of the photo.
        options: holes and dilation.
    """
    bounds = bounds_of(marked)
    if bounds is None:
        return marked
    # Work on the part that holds the mask, with room to grow: marks are small, photos are not.
    height, width = marked.shape
    dilate_px = options.dilate_for(width, height)
    part = bounds.grown(dilate_px + 1).clipped(width, height).slices
    work = marked[part]
    if options.fill_holes:
        work = fill_holes(work)
    result = marked.copy()
    result[part] = distance_outside(work) <= dilate_px
    return result


def distance_outside(mask: BoolMask) -> npt.NDArray[np.float32]:
    """Distance in px from each pixel to the nearest True one: 0 inside, infinite if none is."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    inverse = np.logical_not(mask).view(np.uint8)
    return np.asarray(cv2.distanceTransform(inverse, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))


def smooth_inside(values: Float32Array, mask: BoolMask, sigma: float) -> Float32Array:
    """Gaussian average of ``(h, w, c)`` over the pixels of a mask, ``(h, w)``, alone."""
    weight = mask.astype(np.float32)
    total = cv2.GaussianBlur(values * weight[..., None], (0, 0), sigma)
    share = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)
    return np.asarray(total / share[..., None], np.float32)


def blend_mask(hole: BoolMask, feather_px: int) -> UInt8Array:
    """Return ``(h, w)`` uint8: 255 on the hole, falling evenly to 0 at ``feather_px`` + 1 px.

    No step between neighbours is steeper than 1 / (``feather_px`` + 1), however the edge runs.
    """
    ramp = np.clip(1 - distance_outside(hole) / (feather_px + 1), 0, 1)
    return np.asarray(np.rint(ramp * 255), dtype=np.uint8)


def fill_holes(marked: BoolMask) -> BoolMask:
    """Return ``(h, w)`` bool: the marked pixels, and the background that they enclose."""
    framed = np.pad(marked.view(np.uint8), 1)
    cv2.floodFill(framed, None, (0, 0), (2,))
    return np.asarray(framed[1:-1, 1:-1] != 2)
