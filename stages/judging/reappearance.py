"""Detects whether an object came back, by comparing a refined fill with the removal and its ring.

Diffusion models tend to paint a new object into a hole. The removal's fill contains none, but is
soft; a refiner should only add texture like that of the surroundings. Two scores detect anything
beyond that. Both are computed on a fixed-size view of hole and ring, so they compare across sizes:

* the **departure**: the distance of the refined fill from the removal's at the scale of objects,
  relative to the ring's own variation at that scale;
* the **strangeness**: the distance of the fill's places from the second nearest place of the ring,
  in colour and local contrast (noise and sharpness), beyond that of the removal's same places.
  This is nearest-neighbour anomaly detection, which PatchCore (Roth et al., CVPR 2022) does with a
  network's features.

A logistic regression combines them into one score. ``python -m tests.bench.judge`` fits it again
and measures its accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stages.arrays import BoolMask, Float32Array, UInt8Array
from stages.pixels.boxes import bounds_of
from stages.pixels.masks import smooth_inside
from stages.pixels.resize import scale_mask, scale_pixels
from stages.pixels.samples import to_lab

#: Longer side of the view; width of the ring relative to the hole's longer side, and at least px.
_VIEW_SIDE_PX, _RING_SHARE, _MIN_RING_PX = 160, 0.6, 12

#: Anything finer than these sigmas, in px of the view, is texture.
_OBJECT_SCALES_PX = (2.0, 4.0)

#: Barely visible colour difference (CIE76), added to the ring's variation so that it is never 0.
_BARELY_VISIBLE = 2.0

#: Sigmas at which places are described: the point itself, and its neighbourhood.
_NEAR_PX, _AROUND_PX = 1.5, 5.0

#: Maximum number of places compared, evenly sampled; more take longer and change little.
_MAX_PLACES = 400

#: Maximum number of the ring's places that they are compared with, evenly sampled. Edges of the
#: ring cover little of it. With fewer, an edge that a fill continues would look like none of it.
_MAX_KNOWN = 4000

#: Places of the ring closer than this count as the same place.
_MIN_DISTANCE_PX = 12

#: High, since a small object covers little of its hole: letters over a third of its width cover
#: a thirtieth.
_QUANTILE = 0.97

#: Bias and the weights of log(1 + departure) and log(1 + strangeness), by ``python -m
#: tests.bench.judge``; without a removal, bias and the weight of the strangeness alone.
WEIGHTS = (-6.19, 1.06, 2.99)
WEIGHTS_ALONE = (-3.03, 1.47)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one fill.

    Attributes:
        departure: distance from the removal, in units of the ring's own variation, at least 0;
            None: there is no removal.
        strangeness: extra distance to the ring's second nearest place, compared with the removal's
            fill or, without one, with the ring's own places; CIE76, at least 0.
        reappearance: combined score, 0 to 1; calibrated so that over 0.5 an object came back.
    """

    departure: float | None
    strangeness: float
    reappearance: float


def judge(refined: UInt8Array, before: UInt8Array, mask: UInt8Array, has_removal: bool) -> Scores:
    """Score one fill.

    Args:
        refined: ``(h, w, 3)`` uint8 sRGB; only its masked part counts.
        before: ``(h, w, 3)`` uint8 sRGB, the refiner's input: surroundings and removal's fill.
        mask: ``(h, w)`` uint8, over 0 in the hole.
        has_removal: whether ``before`` is filled in the hole. If not, the hole still shows the
            object and is ignored: there is no departure, and only the strangeness is scored.
    """
    *pictures, hole = views(refined, before, mask, _VIEW_SIDE_PX, _RING_SHARE)
    fill, removed = (to_lab(each) for each in pictures)
    strangeness = _strangeness(fill, removed, hole, has_removal=has_removal)
    if not has_removal:
        return Scores(None, strangeness, logistic(WEIGHTS_ALONE, strangeness))
    departure = _departure(fill, removed, hole)
    return Scores(departure, strangeness, logistic(WEIGHTS, departure, strangeness))


def logistic(weights: tuple[float, ...], *values: float) -> float:
    """Combine values of at least 0 into a score, 0 to 1."""
    bias, *slopes = weights
    exponent = bias + sum(w * np.log1p(v) for w, v in zip(slopes, values, strict=True))
    return float(1 / (1 + np.exp(-exponent)))


def views(
    refined: UInt8Array, before: UInt8Array, mask: UInt8Array, side_px: int, ring_share: float
) -> tuple[UInt8Array, UInt8Array, BoolMask]:
    """Scale hole and ring to a view: after and before, and the hole.

    The ring is the same in both.

    Args:
        refined: see :func:`judge`, as the next two.
        before: see there.
        mask: see there.
        side_px: longer side of the view.
        ring_share: width of the ring, relative to the hole's longer side; at least 12 px.
    """
    height, width = mask.shape
    bounds = bounds_of(mask)
    assert bounds is not None, "a patch has a hole"
    ring_px = max(_MIN_RING_PX, round(ring_share * max(bounds.width, bounds.height)))
    part = bounds.grown(ring_px).clipped(width, height)
    scale = side_px / max(part.width, part.height)
    size = max(round(part.width * scale), 1), max(round(part.height * scale), 1)
    hole, original = mask[part.slices], before[part.slices]
    painted = np.where(hole[..., None] > 0, refined[part.slices], original)
    return scale_pixels(painted, *size), scale_pixels(original, *size), scale_mask(hole, *size) > 0


def _departure(fill: Float32Array, removed: Float32Array, hole: BoolMask) -> float:
    departures = []
    for scale_px in _OBJECT_SCALES_PX:
        moved = np.linalg.norm(smooth_inside(fill - removed, hole, scale_px), axis=2)[hole]
        near, around = (smooth_inside(removed, ~hole, scale_px * each) for each in (1, 4))
        varied = np.linalg.norm(near - around, axis=2)[~hole]
        usual = float(np.quantile(varied, 0.9)) if varied.size else 0.0
        departures.append(float(np.quantile(moved, _QUANTILE)) / (usual + _BARELY_VISIBLE))
    return max(departures)


def _strangeness(
    fill: Float32Array, removed: Float32Array, hole: BoolMask, *, has_removal: bool
) -> float:
    """Distance of the fill's places from the ring, beyond that of the removal's places.

    Without a removal: beyond that among the ring's own places.
    """
    known = ~hole
    if not has_removal:  # descriptions near the hole are blurred with its content, the object
        kernel = np.ones((_MIN_DISTANCE_PX + 1, _MIN_DISTANCE_PX + 1), np.uint8)
        known = cv2.dilate(hole.astype(np.uint8), kernel) == 0
    inside = _evenly(np.argwhere(hole), _MAX_PLACES)
    around = _evenly(np.argwhere(known), _MAX_KNOWN if has_removal else _MAX_PLACES)
    if len(around) < 2:  # nothing to compare with
        return 0.0
    before, at = _describe(removed), tuple(inside.T)
    ring = before[tuple(around.T)]
    distance = _to_second_nearest(_describe(fill)[at], ring)
    if has_removal:
        beyond = distance - _to_second_nearest(before[at], ring)
        return max(float(np.quantile(beyond, _QUANTILE)), 0.0)
    same = np.abs(around[:, None] - around[None]).max(axis=2) < _MIN_DISTANCE_PX
    usual = _to_second_nearest(ring, ring, same)
    usual = usual[np.isfinite(usual)]
    expected = float(np.quantile(usual, _QUANTILE)) if usual.size else 0.0
    return max(float(np.quantile(distance, _QUANTILE)) - expected, 0.0)


def _describe(lab: Float32Array) -> Float32Array:
    """``(h, w, 8)``: colour and contrast of each place, at both scales, in units of CIE76."""
    near, around = _smooth(lab, _NEAR_PX), _smooth(lab, _AROUND_PX)
    return np.concatenate(
        [near, 0.7 * around, _contrast(lab, 2.0), 0.7 * _contrast(lab, _AROUND_PX)], axis=2
    )


def _contrast(lab: Float32Array, scale_px: float) -> Float32Array:
    """``(h, w, 1)``: standard deviation around each place, over all channels."""
    variance = _smooth(lab * lab, scale_px) - _smooth(lab, scale_px) ** 2
    spread = np.sqrt(np.maximum(variance, 0).sum(axis=2, keepdims=True))
    return np.asarray(spread, np.float32)


def _smooth(values: Float32Array, scale_px: float) -> Float32Array:
    """Gaussian blur of ``(h, w, c)``."""
    return np.asarray(cv2.GaussianBlur(values, (0, 0), scale_px), np.float32)


def _evenly(points: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """About ``count`` of the points, or all of them if there are fewer."""
    return points[:: max(len(points) // count, 1)]


def _to_second_nearest(
    places: Float32Array, known: Float32Array, barred: BoolMask | None = None
) -> Float32Array:
    """Distance of each place to its second nearest known place that is not ``barred`` for it.

    The second nearest, so that a single odd place of the ring does not hide an object.
    """
    squares = (places**2).sum(1)[:, None] + (known**2).sum(1) - 2 * places @ known.T
    if barred is not None:
        squares[barred] = np.inf
    second = np.partition(squares, 1, axis=1)[:, 1]
    return np.asarray(np.sqrt(np.maximum(second, 0)), np.float32)
