"""The background of text, the badge that carries it, and a photo's plain background."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from stages.arrays import BoolMask, Float32Array, UInt8Array
from stages.pixels.boxes import Box, bounds_of
from stages.pixels.masks import fill_holes
from stages.pixels.resize import scale_down
from stages.pixels.samples import to_lab

#: Longer side at which the plain background of a photo is searched, px.
_SMALL_PX = 400

#: The background's colour differs by less from the most frequent one of the border, and by less
#: between neighbours; CIE76. It is at least this share of the border.
_BACKGROUND_DELTA_E, _STEP_DELTA_E, _MIN_BORDER_SHARE = 12.0, 2.5, 0.4

#: Width of the border, as a share of the photo's sides.
_BORDER_SHARE = 0.02

#: A badge's colour varies by less than the first; what surrounds it differs by more than the
#: second; CIE76.
_BADGE_DELTA_E, _DISTINCT_DELTA_E = 8.0, 12.0

#: Text covers at least this share of a badge, or the badge is a strip at most this many times as
#: wide as the line is high.
_MIN_TEXT_SHARE, _MAX_STRIP = 0.08, 3.5

#: Where text covers less than the first share of a badge, 70 % of it differ by less than the second
#: from one colour, CIE76: it is a graphic laid over the photo, not a lit face of the product.
_SPARSE_TEXT_SHARE, _FLAT_DELTA_E = 0.3, 2.5

#: A badge is searched within these many heights of the line, until it ends there.
_REACHES = (4.0, 16.0, float("inf"))

#: Larger windows are searched at a reduced scale, px: one of 100 megapixels takes 4 GB.
_MAX_WINDOW_PX = 4_000_000

#: Width of the band inside an outline that shows the background rather than letters, as a share of
#: the line's height; a badge's colour is this share of it. A badge covers this share of its line.
_BAND_SHARE, _MIN_BAND_SHARE, _MIN_OWN_SHARE = 0.12, 0.6, 0.7

#: Area of a badge over that of its convex hull: discs, labels, ribbons, bursts.
_MIN_SOLIDITY = 0.8

#: How much larger the marked part is than the badge: its soft edge, and at most its shadow or rim.
_EDGE_SHARE, _SHADOW_SHARE = 0.015, 0.08

#: Rims and shadows are searched if this share of what surrounds them is of one colour.
_PLAIN_RING_SHARE, _PLAIN_RING_DELTA_E = 0.8, 3.0


def filled(outline: Float32Array, box: Box) -> BoolMask:
    """``(h, w)`` bool of the box: the pixels within an outline in px of the photo."""
    inside = np.zeros((box.height, box.width), np.uint8)
    corners = np.rint(outline - (box.x0, box.y0)).astype(np.int32)
    cv2.fillPoly(inside, [corners], 1)
    return inside > 0


def plain_background(pixels: UInt8Array) -> BoolMask | None:
    """Find the plain background of a photo, such as a studio's: what is joined to its border.

    Args:
        pixels: ``(h, w, 3)`` uint8 sRGB.

    Returns:
        ``(h', w')`` bool at a reduced size; None if the border has no prevailing colour.
    """
    scale = min(1.0, _SMALL_PX / max(pixels.shape[:2]))
    lab = to_lab(scale_down(pixels, scale))
    height, width = lab.shape[:2]
    edge = np.ones((height, width), np.bool_)
    rows, columns = (max(1, round(_BORDER_SHARE * side)) for side in (height, width))
    edge[rows:-rows, columns:-columns] = False
    prevailing = _prevailing(lab[edge])
    near = np.linalg.norm(lab - prevailing, axis=2) <= _BACKGROUND_DELTA_E
    if near[edge].mean() < _MIN_BORDER_SHARE:
        return None
    reached = np.zeros((height + 2, width + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | 1 << 8
    step = (_STEP_DELTA_E,) * 3
    for y, x in np.argwhere(edge & near):
        if not reached[y + 1, x + 1]:
            cv2.floodFill(lab, reached, (int(x), int(y)), (0,), step, step, flags)
    return np.asarray(reached[1:-1, 1:-1] > 0)


def _prevailing(colours: Float32Array) -> Float32Array:
    """The most frequent of ``(n, 3)`` Lab colours, to about 8 units."""
    _, inverse, counts = np.unique(
        np.rint(colours / 8), axis=0, return_inverse=True, return_counts=True
    )
    return np.asarray(np.median(colours[inverse.ravel() == counts.argmax()], axis=0), np.float32)


def share_on_background(
    background: BoolMask, box: Box, marked: BoolMask, photo: tuple[int, int]
) -> float:
    """How much of what surrounds a marked part is plain background, 0 to 1.

    Args:
        background: of :func:`plain_background`.
        box: of the marked part.
        marked: ``(box.height, box.width)`` bool.
        photo: height and width, px.
    """
    scale = (background.shape[1] / photo[1], background.shape[0] / photo[0])
    points = (np.argwhere(marked)[:, ::-1] + (box.x0, box.y0)) * scale
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    inside = np.zeros(background.shape, np.uint8)
    cv2.fillConvexPoly(inside, hull, 1)
    reach = 3 + round(0.15 * float(np.sqrt(inside.sum())))
    grown, near = (dilated(inside, px) for px in (2, 2 + reach))
    ring = (near > 0) & (grown == 0)
    return float(background[ring].mean()) if ring.any() else 0.0


def find_badge(
    pixels: UInt8Array, outlines: Sequence[Float32Array], index: int, max_area_share: float
) -> tuple[Box, BoolMask] | None:
    """Find the badge, label, ribbon or banner of one colour that carries a line of text.

    Args:
        pixels: ``(h, w, 3)`` uint8 sRGB, the photo.
        outlines: those of all lines.
        index: the line in question.
        max_area_share: max share of the photo that a badge covers.

    Returns:
        Its bounds, and which of their pixels it covers, with its edge, rim and shadow; None if
        there is none.
    """
    height, width = pixels.shape[:2]
    line_px = float(min(cv2.minAreaRect(outlines[index])[1]))
    colour = _colour_along(pixels, outlines[index], line_px)
    if colour is None:
        return None
    view = _View(pixels, outlines, line_px, (width, height))
    for reach in _REACHES:
        box = outline_box(outlines[index], min(reach * line_px, width + height))
        box = box.clipped(width, height)
        view = view.for_window(box)
        found = _shape_around(view, index, view.scaled(box), colour)
        if found is None:
            return None
        if _is_bounded(found.shape, found.box, view.width, view.height):
            break
    else:
        return None
    area = int(np.count_nonzero(found.shape))
    if area > max_area_share * view.height * view.width or not _is_carrier(found, view, index):
        return None
    if _is_background(view.pixels, found):
        return None
    return view.enlarged(*_with_edge(view.pixels, found))


class _View(NamedTuple):
    """A photo at the scale at which a badge is searched, and its lines there.

    Attributes:
        pixels: ``(h, w, 3)`` uint8 sRGB.
        outlines: those of all lines.
        line_px: height of the line in question.
        photo: width and height of the photo itself, px.
    """

    pixels: UInt8Array
    outlines: Sequence[Float32Array]
    line_px: float
    photo: tuple[int, int]

    @property
    def width(self) -> int:
        """Of the whole photo at this scale, px."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Of the whole photo at this scale, px."""
        return int(self.pixels.shape[0])

    @property
    def scale(self) -> npt.NDArray[np.float64]:
        """``(2,)``: across and down, at most 1."""
        return np.array((self.width, self.height)) / self.photo

    def for_window(self, box: Box) -> _View:
        """A view in which a window of the photo has at most some :data:`_MAX_WINDOW_PX`."""
        inside = self.scaled(box)
        factor = float(np.sqrt(_MAX_WINDOW_PX / (inside.width * inside.height)))
        if factor >= 1:
            return self
        small = scale_down(self.pixels, factor)
        view = self._replace(pixels=small, line_px=self.line_px * factor)
        change = (view.scale / self.scale).astype(np.float32)
        return view._replace(outlines=[each * change for each in self.outlines])

    def scaled(self, box: Box) -> Box:
        """A box of the photo in this view."""
        across, down = self.scale
        corners = (box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down)
        return Box(*map(round, corners)).clipped(self.width, self.height)

    def enlarged(self, box: Box, mask: BoolMask) -> tuple[Box, BoolMask]:
        """A mask of this view in the photo, with every pixel that it touches."""
        (width, height), (across, down) = self.photo, self.scale
        if (self.width, self.height) == (width, height):
            return box, mask
        low = int(box.x0 / across), int(box.y0 / down)
        high = math.ceil(box.x1 / across), math.ceil(box.y1 / down)
        whole = Box(*low, *high).clipped(width, height)
        size = (whole.width, whole.height)
        shown = cv2.resize(mask.view(np.uint8) * 255, size, interpolation=cv2.INTER_LINEAR)
        return whole, np.asarray(shown > 0)


class _Shape(NamedTuple):
    """A connected shape of one colour, with what it encloses.

    Attributes:
        box: the window that it was searched in.
        shape: ``(box.height, box.width)`` bool.
        colour: Lab.
        distance: ``(box.height, box.width)``, of each pixel from that colour, CIE76.
    """

    box: Box
    shape: BoolMask
    colour: Float32Array
    distance: Float32Array


def _colour_along(pixels: UInt8Array, outline: Float32Array, line_px: float) -> Float32Array | None:
    """The colour along the edge of a line's outline, Lab; None if none prevails."""
    box = outline_box(outline, 1).clipped(pixels.shape[1], pixels.shape[0])
    part, band = to_lab(pixels[box.slices]), edge_band(filled(outline, box), line_px)
    if not band.any():
        return None
    colour = _prevailing(part[band])
    near = np.linalg.norm(part[band] - colour, axis=1) <= _BADGE_DELTA_E
    return colour if near.mean() >= _MIN_BAND_SHARE else None


def _shape_around(view: _View, index: int, box: Box, colour: Float32Array) -> _Shape | None:
    """The shape of a colour in a window that contains the edge of a line's outline."""
    part, inside = to_lab(view.pixels[box.slices]), filled(view.outlines[index], box)
    part -= colour
    distance = np.sqrt(np.einsum("ijk,ijk->ij", part, part))
    similar, band = distance <= _BADGE_DELTA_E, edge_band(inside, view.line_px)
    if not (similar & band).any():
        return None
    return _Shape(box, fill_holes(_joined(similar, band)), colour, distance)


def edge_band(inside: BoolMask, line_px: float) -> BoolMask:
    """The band along the edge of a line's outline, which shows the background, not letters."""
    kernel = disc(max(1, round(_BAND_SHARE * line_px)))
    core = cv2.erode(inside.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(inside & (core == 0))


def _is_carrier(found: _Shape, view: _View, index: int) -> bool:
    """Whether a shape was made for its text: distinct, compact, and not much larger than it."""
    shape, area = found.shape, np.count_nonzero(found.shape)
    own = filled(view.outlines[index], found.box)
    if np.count_nonzero(own & shape) < _MIN_OWN_SHARE * np.count_nonzero(own):
        return False
    points = np.argwhere(shape)[:, ::-1].astype(np.int32)
    short_px = float(min(cv2.minAreaRect(points)[1]))
    text = sum(np.count_nonzero(filled(each, found.box) & shape) for each in view.outlines)
    if text < _MIN_TEXT_SHARE * area and short_px > _MAX_STRIP * view.line_px:
        return False
    uneven = float(np.quantile(found.distance[shape], 0.7))
    if text < _SPARSE_TEXT_SHARE * area and uneven > _FLAT_DELTA_E:
        return False
    if area < _MIN_SOLIDITY * cv2.contourArea(cv2.convexHull(points)):
        return False
    near, beyond = (dilated(shape.view(np.uint8), px) for px in (2, 4))
    ring = found.distance[(beyond > 0) & (near == 0)]
    # What was cut from a gradient goes on beyond its edge.
    return bool(ring.size) and float(np.quantile(ring, 0.15)) >= _DISTINCT_DELTA_E


def outline_box(outline: Float32Array, margin: float) -> Box:
    """The bounds of an outline, larger by a margin in px; may leave the photo."""
    (x0, y0), (x1, y1) = np.floor(outline.min(axis=0)), np.ceil(outline.max(axis=0)) + 1
    return Box(int(x0), int(y0), int(x1), int(y1)).grown(round(margin))


def _joined(similar: BoolMask, band: BoolMask) -> BoolMask:
    """The connected part of ``similar`` that has the most of ``band``."""
    labels = cv2.connectedComponents(similar.view(np.uint8), connectivity=4)[1]
    counts = np.bincount(labels[band & similar], minlength=2)
    counts[0] = 0
    return np.asarray(labels == counts.argmax())


def _is_bounded(shape: BoolMask, box: Box, width: int, height: int) -> bool:
    """Whether a shape ends within the window, or at the photo's border."""
    return not (
        (box.x0 > 0 and shape[:, 0].any())
        or (box.y0 > 0 and shape[0].any())
        or (box.x1 < width and shape[:, -1].any())
        or (box.y1 < height and shape[-1].any())
    )


def _is_background(pixels: UInt8Array, found: _Shape) -> bool:
    """Whether a shape at the photo's border has the colour that prevails in the rest of it."""
    covered = np.zeros(pixels.shape[:2], np.bool_)
    covered[found.box.slices] = found.shape
    own, border = (
        np.concatenate([each[0], each[-1], each[:, 0], each[:, -1]]) for each in (covered, pixels)
    )
    if not own.any() or own.all():
        return bool(own.any())
    prevailing = _prevailing(to_lab(border[None, ~own])[0])
    return bool(np.linalg.norm(prevailing - found.colour) < _DISTINCT_DELTA_E)


def _with_edge(pixels: UInt8Array, found: _Shape) -> tuple[Box, BoolMask]:
    """Add a badge's soft edge and, on a plain background, its rim and shadow."""
    (height, width), box = pixels.shape[:2], found.box
    side_px = float(np.sqrt(np.count_nonzero(found.shape)))
    edge_px, shadow_px = (max(2, round(share * side_px)) for share in (_EDGE_SHARE, _SHADOW_SHARE))
    whole = box.grown(2 * shadow_px + 2).clipped(width, height)
    marked = np.zeros((whole.height, whole.width), np.uint8)
    marked[box.shifted(-whole.x0, -whole.y0).slices] = found.shape
    near, far = (dilated(marked, px) > 0 for px in (shadow_px, 2 * shadow_px))
    grown = dilated(marked, edge_px)
    part = to_lab(pixels[whole.slices])
    ring = part[far & ~near]
    if len(ring):
        background = np.median(ring, axis=0)
        spread = np.linalg.norm(ring - background, axis=1)
        if np.quantile(spread, _PLAIN_RING_SHARE) <= _PLAIN_RING_DELTA_E:
            visible = max(_PLAIN_RING_DELTA_E, 2 * float(np.median(spread)))
            differs = np.linalg.norm(part - background, axis=2) > visible
            grown |= _enclosed(near & differs & (marked == 0), near).view(np.uint8)
    bounds = bounds_of(grown)
    assert bounds is not None
    return bounds.shifted(whole.x0, whole.y0), grown[bounds.slices] > 0


def _enclosed(parts: BoolMask, near: BoolMask) -> BoolMask:
    """The connected parts that end within ``near``: others are of things beyond it."""
    count, labels = cv2.connectedComponents(parts.view(np.uint8))
    edge = near & (cv2.erode(near.view(np.uint8), disc(1)) == 0)
    ends = np.bincount(labels[edge], minlength=count) == 0
    ends[0] = False
    return np.asarray(ends[labels])


def dilated(mask: UInt8Array, px: int) -> UInt8Array:
    """A mask grown by ``px``."""
    return np.asarray(cv2.dilate(mask, disc(px)), np.uint8)


def disc(px: int) -> UInt8Array:
    """A structuring element of this radius."""
    side = 2 * px + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def colours_of(pixels: UInt8Array, outline: Float32Array) -> Float32Array:
    """``(6,)`` float32: Lab of the background of a line, and of its letters."""
    height, width = pixels.shape[:2]
    box = outline_box(outline, 1).clipped(width, height)
    part, inside = to_lab(pixels[box.slices]), filled(outline, box)
    line_px = float(min(cv2.minAreaRect(outline)[1]))
    band = edge_band(inside, line_px)
    background = _prevailing(part[band] if band.any() else part.reshape(-1, 3))
    far = np.linalg.norm(part - background, axis=2) > _DISTINCT_DELTA_E
    letters = _prevailing(part[far & inside]) if (far & inside).any() else background
    return np.concatenate([background, letters])
