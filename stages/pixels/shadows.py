"""Finds the cast shadow of a masked object by plain image statistics.

The method compares each pixel with the background that would be there without the shadow, as
background subtraction does: a shadow is darker than its background by a factor, and has its
chromaticity (Horprasert, Harwood, Davis, "A Statistical Approach for Real-time Robust Background
Subtraction and Shadow Detection", 1999: distortions of brightness and chromaticity, relative to the
background's own variation). A single photo has no background image: here it is a smooth
surface, fitted to the surroundings as to the majority of their pixels (least median of squares,
Rousseeuw 1984; then least squares on what agrees with it).

When unsure, nothing is found. What is darker than the background may be a product, the edge of a
table or of the picture. It is a shadow only if it

* touches the object along a good part of its own extent, and lies beside or beneath it;
* ends within the reach, and not at the border of the photo;
* is as smooth, or as textured, as the background;
* is not nearly black.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stages.arrays import BoolMask, Float32Array, UInt8Array
from stages.pixels.boxes import bounds_of
from stages.pixels.masks import distance_outside, smooth_inside
from stages.pixels.resize import scale_mask, scale_pixels

#: The object's longer side at the scale of analysis, px.
_OBJECT_PX = 96

#: Added to linear light, 0 to 1, before its logarithm: below it, differences are noise.
_DARK = 0.01

#: Random triples of pixels that planes are laid through; and pixels that judge them.
_TRIPLES, _JUDGES = 200, 1000

#: Twice the minimum area of such a triangle, where the sides of the surroundings are 2.
_MIN_TRIANGLE = 0.02

#: Pixels of the surroundings that the background is fitted to, and the minimum number.
_PLACES, _MIN_KNOWN = 8000, 500

#: Minimum share of the known surroundings that agrees with the background, and the agreement: in
#: deviations of the background, and at least in natural logarithms of light.
_MIN_BACKGROUND_SHARE, _AGREES, _MIN_AGREES = 0.5, 3.0, 0.03

#: A shadow's depth: where it is certain, how far it goes on, and what is too deep for one. In
#: natural logarithms of light; the first two also in deviations of the background.
_SURE, _FAINT, _DEEPEST = (0.08, 5.0), (0.025, 2.0), 1.7

#: Allowed change of chromaticity: as above, and per depth, since shade is lit by other light.
_TINT, _TINT_PER_DEPTH = (0.03, 3.0), 0.15

#: Distance at which a shadow touches its object, px.
_GAP_PX = 3

#: Minimum length of contact with the object, relative to the square root of the shadow's area.
_MIN_CONTACT = 1.3

#: Minimum area, relative to the object's.
_MIN_AREA = 0.02

#: Maximum share of what is neither background nor shade around it.
_MAX_OTHER = 0.1

#: Contact with more of the object's outline than this surrounds it, as what it lies on does; unless
#: its edge is fainter than this share of its depth, as that of a soft shadow is.
_MAX_AROUND, _FADED = 0.75, 0.5

#: Range of the fine texture's deviation over the background's, and what is neglected in both.
_TEXTURE_RATIO, _SMOOTH = (0.4, 2.5), 0.008

#: Gaussian averages by which noise is reduced, and which fine texture is the difference from, px.
_SMOOTH_PX, _FINE_PX = 1.5, 2.0

#: Distance from the edge of a part at which its fine texture is its own, px.
_CORE_PX = 5

#: Included around what is found, for the end of its soft edge, px at the scale of analysis.
_EDGE_PX = 1


@dataclass(frozen=True, slots=True)
class _View:
    """The surroundings of an object, at the scale of analysis; all ``(h, w, ...)``.

    Attributes:
        light: natural logarithm of linear light, float32 ``(h, w, 3)``, smoothed.
        raw: the same, not smoothed.
        mask: the object.
        known: what can be background or shadow.
        reach_px: how far from the object a shadow may go.
        borders: ``(h, w)`` bool, the pixels at the border of the photo.
    """

    light: Float32Array
    raw: Float32Array
    mask: BoolMask
    known: BoolMask
    reach_px: float
    borders: BoolMask


@dataclass(frozen=True, slots=True)
class _Background:
    """What would be there without a shadow.

    Attributes:
        light: as in :class:`_View`.
        deviation: standard deviation of the background's brightness around it.
        tint: the same of its chromaticity.
        texture: standard deviation of its fine texture.
    """

    light: Float32Array
    deviation: float
    tint: float
    texture: float


def find_shadow(
    pixels: UInt8Array,
    mask: BoolMask,
    unknown: BoolMask,
    reach_px: float,
    at_border: tuple[bool, bool, bool, bool],
) -> BoolMask:
    """Return the shadow of an object, ``(h, w)`` bool; nothing is True if none is certain.

    Args:
        pixels: ``(h, w, 3)`` uint8 sRGB, the object with its surroundings, farther than the reach.
        mask: ``(h, w)`` bool, the object.
        unknown: ``(h, w)`` bool, what is marked or transparent; it includes the object.
        reach_px: how far from the object a shadow may go.
        at_border: whether the top, bottom, left and right of ``pixels`` are borders of the photo.
    """
    nothing = np.zeros_like(mask)
    view = _view(pixels, mask, unknown, reach_px, at_border)
    background = _fit_background(view)
    if background is None:
        return nothing
    found = _shadows(view, background)
    if not found.any():
        return nothing
    grown = _up_to_object(_dilated(found, _EDGE_PX), view.mask).astype(np.float32)
    height, width = mask.shape
    whole = cv2.resize(grown, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    return np.asarray(whole & ~unknown)


def _view(
    pixels: UInt8Array,
    mask: BoolMask,
    unknown: BoolMask,
    reach_px: float,
    at_border: tuple[bool, bool, bool, bool],
) -> _View:
    bounds = bounds_of(mask)
    assert bounds is not None
    scale = min(_OBJECT_PX / max(bounds.width, bounds.height), 1.0)
    height, width = (max(round(side * scale), 1) for side in mask.shape)
    raw = _LIGHT[scale_pixels(pixels, width, height)]
    known = scale_mask(unknown.view(np.uint8), width, height) == 0
    borders = np.zeros((height, width), np.bool_)
    top, bottom, left, right = at_border
    borders[:2], borders[-2:] = top, bottom
    borders[:, :2] |= left
    borders[:, -2:] |= right
    return _View(
        light=smooth_inside(raw, known, _SMOOTH_PX),
        raw=raw,
        mask=scale_mask(mask.view(np.uint8), width, height) > 0,
        known=known,
        reach_px=reach_px * scale,
        borders=borders,
    )


def _up_to_object(found: BoolMask, mask: BoolMask) -> BoolMask:
    """Fill the gap of a few px between a shadow and its object."""
    closed = _eroded(_dilated(found | mask, _GAP_PX), _GAP_PX)
    return found | (closed & _dilated(found, _GAP_PX))


def _log_light() -> Float32Array:
    """Natural logarithm of the linear light of each 8-bit sRGB level (IEC 61966-2-1)."""
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return np.log(linear + _DARK).astype(np.float32)


_LIGHT = _log_light()


def _fit_background(view: _View) -> _Background | None:
    """Fit the background to the surroundings; None: they have no background that prevails."""
    places = np.argwhere(view.known)
    if len(places) < _MIN_KNOWN:
        return None
    random = np.random.default_rng(0)
    places = random.choice(places, min(_PLACES, len(places)), replace=False)
    at = tuple(places.T)
    light = view.light[at]
    terms = _terms(*view.mask.shape)
    agrees = _agreeing(terms[at][:, :3], light, random)
    for _ in range(3):
        if agrees.mean() < _MIN_BACKGROUND_SHARE:
            return None
        some = terms[at][agrees]
        # Of the normal equations, which are few; a strip of background leaves some of them open.
        surface, *_ = np.linalg.lstsq(some.T @ some, some.T @ light[agrees])
        rest = light - terms[at] @ surface
        depth = rest.mean(axis=1)
        tint = np.linalg.norm(rest - depth[:, None], axis=1)
        deviation, colour = _deviation(depth[agrees]), _deviation(tint[agrees])
        agrees = (np.abs(depth) < max(_AGREES * deviation, _MIN_AGREES)) & (
            tint < max(_AGREES * colour, _MIN_AGREES)
        )
    if agrees.mean() < _MIN_BACKGROUND_SHARE:
        return None
    return _Background(
        terms @ surface, deviation, colour, _deviation(_texture(view, view.known)[at][agrees])
    )


def _terms(height: int, width: int) -> Float32Array:
    """``(height, width, 6)``: the terms of a curved surface, of which the first three are flat."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).astype(np.float32)


def _agreeing(terms: Float32Array, light: Float32Array, random: np.random.Generator) -> BoolMask:
    """Which pixels agree with the plane from which the majority deviates least."""
    corners = random.integers(0, len(light), (_TRIPLES, 3))
    corners = corners[np.abs(np.linalg.det(terms[corners])) > _MIN_TRIANGLE]
    if not len(corners):
        return np.zeros(len(light), np.bool_)
    planes = np.linalg.solve(terms[corners], light[corners])
    judges = random.integers(0, len(light), _JUDGES)
    off = np.abs(light[judges] - terms[judges] @ planes).max(axis=2)
    medians = np.median(off, axis=1)
    best = int(medians.argmin())
    rest = np.abs(light - terms @ planes[best]).max(axis=1)
    return np.asarray(rest < max(2.5 * 1.4826 * float(medians[best]), _MIN_AGREES))


def _deviation(values: npt.NDArray[np.floating]) -> float:
    """Standard deviation, by the median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _shadows(view: _View, background: _Background) -> BoolMask:
    """All that is certainly a shadow of the object."""
    darker = background.light - view.light
    depth = darker.mean(axis=2)
    tint = np.linalg.norm(darker - depth[..., None], axis=2)
    allowed = max(_TINT[0], _TINT[1] * background.tint) + _TINT_PER_DEPTH * np.maximum(depth, 0)
    lighter = max(_AGREES * background.deviation, _MIN_AGREES)
    is_other = view.known & ((depth >= _DEEPEST) | (depth < -lighter) | (tint >= allowed))
    is_shade = view.known & (depth < _DEEPEST) & (tint < allowed)
    faint = is_shade & (depth > max(_FAINT[0], _FAINT[1] * background.deviation))
    sure = is_shade & (depth > max(_SURE[0], _SURE[1] * background.deviation))
    opened = _dilated(_eroded(faint, 1), 1)
    count, labels = cv2.connectedComponents(opened.view(np.uint8), connectivity=4)
    result = np.zeros_like(view.mask)
    for number in range(1, count):
        part = labels == number
        if (part & sure).any() and _is_cast(part, depth, is_other, view, background):
            result |= part
    return result


def _is_cast(
    part: BoolMask, depth: Float32Array, is_other: BoolMask, view: _View, background: _Background
) -> bool:
    """Whether a part that is darker than the background is a shadow that the object casts."""
    inner = _eroded(part, 2)
    if not inner.any() or np.count_nonzero(part) < _MIN_AREA * np.count_nonzero(view.mask):
        return False
    near, outline = _dilated(part, _GAP_PX), view.mask & ~_eroded(view.mask, 1)
    contact = np.count_nonzero(outline & near) / np.sqrt(np.count_nonzero(part))
    ends = distance_outside(view.mask)[part].max() < view.reach_px - _EDGE_PX
    rows, object_rows = np.nonzero(part)[0], np.nonzero(view.mask)[0]
    return bool(
        contact >= _MIN_CONTACT
        and ends
        and not (part & view.borders).any()
        and rows.mean() >= np.quantile(object_rows, 0.25)  # it does not lie above
        and is_other[near & ~part].mean() <= _MAX_OTHER  # it is not the edge of that
        and (not _surrounds(part, outline) or _fades(part, inner, depth))
        and _has_texture_of(background, view, part, depth)
    )


def _texture(view: _View, part: BoolMask) -> Float32Array:
    """Fine texture of a part, ``(h, w)``: brightness less that of its surroundings in the part."""
    fine = view.raw - smooth_inside(view.raw, part, _FINE_PX)
    return np.asarray(fine.mean(axis=2), np.float32)


def _has_texture_of(
    background: _Background, view: _View, part: BoolMask, depth: Float32Array
) -> bool:
    """Whether a part is as smooth as the background would be there; of a thin one, nobody knows."""
    core = _eroded(part, _CORE_PX)
    if not core.any():
        return False
    texture = _deviation(_texture(view, part)[core])
    low, high = _TEXTURE_RATIO
    # The noise of a level counts for more, the darker it is: its logarithm, by sRGB's exponent.
    high *= float(np.exp(np.median(depth[core]) / 2.2))
    allowed = low * background.texture - _SMOOTH, high * background.texture + _SMOOTH
    return allowed[0] < texture < allowed[1]


def _surrounds(part: BoolMask, outline: BoolMask) -> bool:
    """Whether a part lies around most of the object, and not as a thin halo."""
    thick = _dilated(_eroded(part, 4), 4)
    touched = np.count_nonzero(outline & _dilated(thick, _GAP_PX))
    return bool(touched > _MAX_AROUND * np.count_nonzero(outline))


def _fades(part: BoolMask, inner: BoolMask, depth: Float32Array) -> bool:
    """Whether a part is much fainter at its outer edge than inside."""
    edge = float(np.median(depth[part & ~inner]))
    return edge < _FADED * float(np.quantile(depth[inner], 0.9))


def _dilated(part: BoolMask, by_px: int) -> BoolMask:
    square = np.ones((2 * by_px + 1, 2 * by_px + 1), np.uint8)
    return cv2.dilate(part.view(np.uint8), square) > 0


def _eroded(part: BoolMask, by_px: int) -> BoolMask:
    square = np.ones((2 * by_px + 1, 2 * by_px + 1), np.uint8)
    return cv2.erode(part.view(np.uint8), square) > 0
