"""Rectangles on the pixel grid: one frozen class, with its maths beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """Half-open rectangle of pixels: columns ``x0 <= x < x1``, rows ``y0 <= y < y1``."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __post_init__(self) -> None:
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise ValueError(f"a box has at least one pixel: {self}")

    @property
    def width(self) -> int:
        """Columns."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Rows."""
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        """Pixels."""
        return self.width * self.height

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box in an array of shape ``(height, width, ...)``."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            min(self.x0, other.x0),
            min(self.y0, other.y0),
            max(self.x1, other.x1),
            max(self.y1, other.y1),
        )

    def contains(self, other: Box) -> bool:
        """Whether no pixel of ``other`` lies outside."""
        return self.union(other) == self

    def intersection(self, other: Box) -> Box:
        """The part in both; there must be one."""
        return Box(
            max(self.x0, other.x0),
            max(self.y0, other.y0),
            min(self.x1, other.x1),
            min(self.y1, other.y1),
        )

    def clipped(self, width: int, height: int) -> Box:
        """The part inside an image of that size; there must be one."""
        return self.intersection(Box(0, 0, width, height))

    def grown(self, margin: int) -> Box:
        """The box with ``margin`` more pixels on each side."""
        return Box(self.x0 - margin, self.y0 - margin, self.x1 + margin, self.y1 + margin)

    def shifted(self, dx: int, dy: int) -> Box:
        """The box moved right by ``dx`` and down by ``dy``."""
        return Box(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy)


def bounds_of(mask: npt.NDArray[np.generic]) -> Box | None:
    """The smallest box that holds all non-zero pixels of an ``(h, w)`` array; None if all are 0."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not ys.size:
        return None
    return Box(int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)


def context_box(
    region: Box,
    photo_width: int,
    photo_height: int,
    *,
    context: float,
    min_context_px: int,
    aspect: float = 0.0,
) -> Box:
    """Place the crop around a masked region.

    The crop is ``context`` times the region on each axis and shows at least ``min_context_px`` on
    each side; with an ``aspect`` (width over height) one axis then grows to it. It is centred on
    the region and moved inside the photo, so that context lost at one edge is gained at the
    other. Only an axis that is longer than the photo's, which without an ``aspect`` never
    happens, reaches outside, evenly on both sides.

    Returns:
        A box that contains ``region``.
    """
    width = max(math.ceil(region.width * context), region.width + 2 * min_context_px)
    height = max(math.ceil(region.height * context), region.height + 2 * min_context_px)
    width, height = min(width, photo_width), min(height, photo_height)
    if aspect:
        width = max(width, round(height * aspect))
        height = max(height, round(width / aspect))
    x0, x1 = _place(region.x0, region.x1, width, photo_width)
    y0, y1 = _place(region.y0, region.y1, height, photo_height)
    return Box(x0, y0, x1, y1)


def _place(start: int, stop: int, length: int, limit: int) -> tuple[int, int]:
    """Centre ``length`` on ``start..stop``, then move it inside ``0..limit``."""
    first = (limit - length) // 2 if length > limit else (start + stop - length) // 2
    if length <= limit:
        first = min(max(first, 0), limit - length)
    return first, first + length
