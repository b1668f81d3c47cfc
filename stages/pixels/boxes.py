"""Rectangles on the pixel grid, and the placement of views around other boxes."""

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

    def as_dict(self) -> dict[str, int]:
        """The box as the lineage records it."""
        return {"x": self.x0, "y": self.y0, "width": self.width, "height": self.height}

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            min(self.x0, other.x0),
            min(self.y0, other.y0),
            max(self.x1, other.x1),
            max(self.y1, other.y1),
        )

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
    bounds: Box,
    photo_width: int,
    photo_height: int,
    *,
    context: float,
    min_context_px: int,
    aspect: float = 0.0,
    needed: Box | None = None,
    multiple_px: int = 1,
) -> Box:
    """Place a view of the photo around masked pixels; it never leaves the photo.

    The view is ``context`` times their bounds on each axis and shows at least ``min_context_px`` on
    each side. With an ``aspect`` (width over height) one axis then grows to it, as far as the
    photo allows. The view is centred on what it needs and moved inside the photo, so that context
    lost at one edge is gained at the other.

    Networks halve pictures several times, and padding was never in the photo: a view that spans
    the photo is cut to a multiple of 8 px, unless it needs the last few pixels.

    Args:
        bounds: of the masked pixels, inside the photo.
        photo_width: px.
        photo_height: px.
        context: side of the view over side of the bounds.
        min_context_px: context on each side.
        aspect: width over height; 0: no fixed ratio.
        needed: box that the view must contain, clipped to the photo; None: the bounds.
        multiple_px: the sides become multiples of this where the photo has room for it.
    """
    needed = (needed or bounds).clipped(photo_width, photo_height)
    max_width, max_height = _in_eights(photo_width), _in_eights(photo_height)
    width = max(math.ceil(bounds.width * context), bounds.width + 2 * min_context_px)
    height = max(math.ceil(bounds.height * context), bounds.height + 2 * min_context_px)
    width, height = min(width, max_width), min(height, max_height)
    if aspect and width < height * aspect:
        width, height = _grown_to(aspect, width, height, max_width, max_height)
    elif aspect:
        height, width = _grown_to(1 / aspect, height, width, max_height, max_width)
    width = _side(width, needed.width, max_width, multiple_px)
    height = _side(height, needed.height, max_height, multiple_px)
    x0 = _place(needed.x0, needed.x1, width, photo_width)
    y0 = _place(needed.y0, needed.y1, height, photo_height)
    return Box(x0, y0, x0 + width, y0 + height)


def _in_eights(length: int) -> int:
    """Round down to a multiple of 8; lengths up to 8 are unchanged."""
    return length - length % 8 if length > 8 else length


def _grown_to(
    ratio: float, short: int, long: int, max_short: int, max_long: int
) -> tuple[int, int]:
    """Two sides, the first grown towards ``ratio`` times the second.

    If the photo ends before that, the second grows until the first is a whole number of sixteenths
    of what it should be: views of few shapes fill batches of one shape.
    """
    wanted = round(long * ratio)
    if wanted <= max_short:
        return max(short, wanted), long
    sixteenths = max(int(16 * max_short / wanted), 1)
    return max_short, min(max(round(16 * max_short / (sixteenths * ratio)), long), max_long)


def _side(wanted: int, needed: int, limit: int, multiple_px: int) -> int:
    """Rounded up to a multiple, but no longer than the limit, unless more is needed."""
    rounded = -(-max(wanted, needed) // multiple_px) * multiple_px
    return max(min(rounded, limit), needed)


def _place(start: int, stop: int, length: int, limit: int) -> int:
    """Where ``length`` begins: centred on ``start..stop``, then moved inside ``0..limit``."""
    return min(max((start + stop - length) // 2, 0), limit - length)
