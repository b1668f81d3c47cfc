"""Whether an object came back: a refined fill held against the certain removal and its ring.

Diffusion models like to paint a new object into a hole. The removal's fill holds none, but is soft;
what a refiner may add to it is texture, of the kind that the surroundings have. Two numbers tell
more than that apart, on a view of the hole and its ring that is always as large, so that they mean
the same for every size of hole and crop:

* the **departure**: how far the refined fill is from the removal's at the scale of objects, over
  how much the ring itself varies at that scale;
* the **strangeness**: how far the places of the fill are from any place of the ring, in colour and
  in local contrast (which noise and sharpness are), beyond how far the same places of the removal
  are. It is anomaly detection by the nearest neighbour, as PatchCore (Roth et al., CVPR 2022) does
  it with a network's features.

A logistic regression makes one score of both. ``python -m tests.bench.judge`` fits it anew, and
tells how often it is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from stages.pixels.boxes import bounds_of
from stages.pixels.masks import Bits, Bytes
from stages.pixels.resize import scale_mask, scale_pixels

Floats = npt.NDArray[np.float32]

#: Longer side of the view, and the ring that it shows around the hole over the hole's longer side.
_VIEW_SIDE_PX, _RING_SHARE, _LEAST_RING_PX = 160, 0.6, 12

#: Finer than these, in px of the view, is texture.
_OBJECT_SCALES_PX = (2.0, 4.0)

#: A difference that nobody sees (CIE76): what a smooth ring counts as varying by.
_JUST_SEEN = 2.0

#: Scales at which places are described: a point, and what is around it.
_NEAR_PX, _AROUND_PX = 1.5, 5.0

#: Places compared, evenly drawn; more cost time and change little.
_PLACES = 400

#: Places of the ring nearer than this are one place.
_APART_PX = 12

#: A small object is a small part of its hole: letters over a third of its width are a thirtieth.
_QUANTILE = 0.97

#: Bias and the weights of log(1 + departure) and log(1 + strangeness), by ``python -m
#: tests.bench.judge``; without a removal, bias and the weight of the strangeness alone.
WEIGHTS = (-6.19, 1.06, 2.99)
WEIGHTS_ALONE = (-3.03, 1.47)


@dataclass(frozen=True, slots=True)
class Scores:
    """What was found about one fill.

    Attributes:
        departure: from the removal, in the ring's own variation: 0 is none, 1 as much as the ring
            varies; None: there is no removal.
        strangeness: how much farther from the ring's nearest place than the removal's fill is, or,
            without one, than the ring's own places are from each other; CIE76, at least 0.
        reappearance: 0 to 1, over 0.5 an object came back, as calibrated.
    """

    departure: float | None
    strangeness: float
    reappearance: float


def judge(refined: Bytes, before: Bytes, mask: Bytes, has_removal: bool) -> Scores:
    """Score one fill.

    Args:
        refined: ``(h, w, 3)`` uint8 sRGB; only its masked part counts.
        before: likewise, what the refiner was given: the surroundings, and the removal's fill.
        mask: ``(h, w)`` uint8, over 0 in the hole.
        has_removal: whether there is such a fill; else the hole still holds the object, which is
            not looked at: there is no departure, and the score is by the strangeness alone.
    """
    fill, removed, hole = _views(refined, before, mask)
    if not has_removal:
        # What is described near the hole is blurred with what is in it: the object.
        kernel = np.ones((_APART_PX + 1, _APART_PX + 1), np.uint8)
        far = cv2.dilate(hole.astype(np.uint8), kernel) == 0
        places = _Places.of(fill, removed, hole, far)
        strangeness = places.strangeness_alone()
        return Scores(None, strangeness, logistic(WEIGHTS_ALONE, strangeness))
    departure = _departure(fill, removed, hole)
    strangeness = _Places.of(fill, removed, hole, ~hole).strangeness()
    return Scores(departure, strangeness, logistic(WEIGHTS, departure, strangeness))


def logistic(weights: tuple[float, ...], *values: float) -> float:
    """The score, 0 to 1, of numbers that are at least 0."""
    bias, *slopes = weights
    exponent = bias + sum(w * np.log1p(v) for w, v in zip(slopes, values, strict=True))
    return float(1 / (1 + np.exp(-exponent)))


def _views(refined: Bytes, before: Bytes, mask: Bytes) -> tuple[Floats, Floats, Bits]:
    """The hole and its ring at the view's size: after and before as Lab (L to 100), and the hole.

    The ring is the same in both.
    """
    height, width = mask.shape
    region = bounds_of(mask)
    assert region is not None, "a patch has a hole"
    ring_px = max(_LEAST_RING_PX, round(_RING_SHARE * max(region.width, region.height)))
    part = region.grown(ring_px).clipped(width, height)
    scale = _VIEW_SIDE_PX / max(part.width, part.height)
    size = max(round(part.width * scale), 1), max(round(part.height * scale), 1)
    hole = mask[part.slices]

    def view(pixels: Bytes) -> Floats:
        small = scale_pixels(pixels, *size).astype(np.float32) / 255
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.float32)

    given = before[part.slices]
    painted = np.where(hole[..., None] > 0, refined[part.slices], given)
    return view(painted), view(given), scale_mask(hole, *size) > 0


def _departure(fill: Floats, removed: Floats, hole: Bits) -> float:
    found = []
    inside, ring = hole.astype(np.float32), (~hole).astype(np.float32)
    for scale_px in _OBJECT_SCALES_PX:
        moved = np.linalg.norm(_smooth(fill - removed, scale_px, inside), axis=2)[hole]
        band = _smooth(removed, scale_px, ring) - _smooth(removed, 4 * scale_px, ring)
        varied = np.linalg.norm(band, axis=2)[~hole]
        usual = float(np.quantile(varied, 0.9)) if varied.size else 0.0
        found.append(float(np.quantile(moved, _QUANTILE)) / (usual + _JUST_SEEN))
    return max(found)


@dataclass(frozen=True, slots=True)
class _Places:
    """Descriptions, (n, 8) each, of places of the fill, of the same of the removal, of the ring.

    Attributes:
        same: ``(n, n)`` bool, for the ring: whether two of its places are one.
    """

    fill: Floats
    removed: Floats
    ring: Floats
    same: Bits

    @classmethod
    def of(cls, fill: Floats, removed: Floats, hole: Bits, known: Bits) -> Self:
        inside, ring = (_evenly(np.argwhere(each)) for each in (hole, known))
        after, before = _describe(fill), _describe(removed)
        same = np.abs(ring[:, None] - ring[None]).max(axis=2) < _APART_PX
        at, around = tuple(inside.T), tuple(ring.T)
        return cls(after[at], before[at], before[around], same)

    def strangeness(self) -> float:
        """How much farther places of the fill are from the ring than the removal's same places."""
        if len(self.ring) < 2:  # nothing to hold it against
            return 0.0
        beyond = _to_nearest(self.fill, self.ring) - _to_nearest(self.removed, self.ring)
        return max(float(np.quantile(beyond, _QUANTILE)), 0.0)

    def strangeness_alone(self) -> float:
        """How much farther places of the fill are from the ring than its own are from the rest."""
        if len(self.ring) < 2:
            return 0.0
        usual = _to_nearest(self.ring, self.ring, self.same)
        usual = usual[np.isfinite(usual)]
        least = float(np.quantile(usual, _QUANTILE)) if usual.size else 0.0
        found = float(np.quantile(_to_nearest(self.fill, self.ring), _QUANTILE))
        return max(found - least, 0.0)


def _describe(lab: Floats) -> Floats:
    """``(h, w, 8)``: colour and contrast of each place, at both scales, in units of CIE76."""
    near, around = _smooth(lab, _NEAR_PX), _smooth(lab, _AROUND_PX)
    return np.concatenate(
        [near, 0.7 * around, _contrast(lab, 2.0), 0.7 * _contrast(lab, _AROUND_PX)], axis=2
    )


def _contrast(lab: Floats, scale_px: float) -> Floats:
    """``(h, w, 1)``: standard deviation around each place, over all channels."""
    variance = _smooth(lab * lab, scale_px) - _smooth(lab, scale_px) ** 2
    spread = np.sqrt(np.maximum(variance, 0).sum(axis=2, keepdims=True))
    return np.asarray(spread, np.float32)


def _smooth(values: Floats, scale_px: float, where: Floats | None = None) -> Floats:
    """Gaussian blur of ``(h, w, c)``; with ``where``, (h, w) of 0 and 1, of that part alone."""
    if where is None:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), scale_px), np.float32)
    weight = cv2.GaussianBlur(where, (0, 0), scale_px)
    blurred = cv2.GaussianBlur(values * where[..., None], (0, 0), scale_px)
    return np.asarray(blurred / np.maximum(weight, 1e-3)[..., None], np.float32)


def _evenly(points: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return points[:: max(len(points) // _PLACES, 1)]


def _to_nearest(places: Floats, known: Floats, barred: Bits | None = None) -> Floats:
    """How far each place is from the nearest known one that is not ``barred`` for it.

    The second nearest: one odd place of the ring excuses nothing.
    """
    squares = (places**2).sum(1)[:, None] + (known**2).sum(1) - 2 * places @ known.T
    if barred is not None:
        squares[barred] = np.inf
    second = np.partition(squares, 1, axis=1)[:, 1]
    return np.asarray(np.sqrt(np.maximum(second, 0)), np.float32)
