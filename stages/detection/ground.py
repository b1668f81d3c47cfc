"""What surrounds text: its own ground, the badge that carries it, and a photo's plain ground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from stages.arrays import BoolMask, Float32Array, UInt8Array
from stages.pixels.boxes import Box, bounds_of
from stages.pixels.colour import to_lab

#: Longer side at which the plain ground of a photo is searched, px.
_SMALL_PX = 400

#: The ground's colour differs by less from the most frequent one of the border, and by less between
#: neighbours; CIE76. It is at least this share of the border.
_GROUND_DELTA_E, _STEP_DELTA_E, _MIN_BORDER_SHARE = 12.0, 2.5, 0.4

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

#: Width of the band inside an outline that shows ground rather than letters, as a share of the
#: line's height; a badge's colour is this share of it. A badge covers this share of its line.
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


def plain_ground(pixels: UInt8Array) -> BoolMask | None:
    """Find the plain ground of a photo, such as a studio's: what is joined to its border.

    Args:
        pixels: ``(h, w, 3)`` uint8 sRGB.

    Returns:
        ``(h', w')`` bool at a reduced size; None if the border has no prevailing colour.
    """
    scale = min(1.0, _SMALL_PX / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    lab = to_lab(np.asarray(small, np.uint8))
    height, width = lab.shape[:2]
    edge = np.ones((height, width), np.bool_)
    rows, columns = (max(1, round(_BORDER_SHARE * side)) for side in (height, width))
    edge[rows:-rows, columns:-columns] = False
    prevailing = _prevailing(lab[edge])
    near = np.linalg.norm(lab - prevailing, axis=2) <= _GROUND_DELTA_E
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


def share_on_ground(ground: BoolMask, box: Box, marked: BoolMask, photo: tuple[int, int]) -> float:
    """How much of what surrounds a marked part is plain ground, 0 to 1.

    Args:
        ground: of :func:`plain_ground`.
        box: of the marked part.
        marked: ``(box.height, box.width)`` bool.
        photo: height and width, px.
    """
    scale = (ground.shape[1] / photo[1], ground.shape[0] / photo[0])
    points = (np.argwhere(marked)[:, ::-1] + (box.x0, box.y0)) * scale
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    inside = np.zeros(ground.shape, np.uint8)
    cv2.fillConvexPoly(inside, hull, 1)
    reach = 3 + round(0.15 * float(np.sqrt(inside.sum())))
    grown, near = (dilated(inside, px) for px in (2, 2 + reach))
    ring = (near > 0) & (grown == 0)
    return float(ground[ring].mean()) if ring.any() else 0.0


def find_badge(
    pixels: UInt8Array, outlines: Sequence[Float32Array], number: int, max_share: float
) -> tuple[Box, BoolMask] | None:
    """Find the badge, label, ribbon or banner of one colour that carries a line of text.

    Args:
        pixels: ``(h, w, 3)`` uint8 sRGB, the photo.
        outlines: those of all lines.
        number: the line in question.
        max_share: max share of the photo that a badge covers.

    Returns:
        Its bounds, and which of their pixels it covers, with its edge, rim and shadow; None if
        there is none.
    """
    height, width = pixels.shape[:2]
    line_px = float(min(cv2.minAreaRect(outlines[number])[1]))
    for reach in _REACHES:
        box = outline_box(outlines[number], min(reach * line_px, width + height))
        found = _shape_around(pixels, outlines[number], box.clipped(width, height), line_px)
        if found is None:
            return None
        if _is_bounded(found.shape, found.box, width, height):
            break
    else:
        return None
    area = int(np.count_nonzero(found.shape))
    if area > max_share * height * width or not _is_carrier(found, outlines, number, line_px):
        return None
    if _is_ground(pixels, found):
        return None
    return _with_edge(pixels, found)


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


def _shape_around(
    pixels: UInt8Array, outline: Float32Array, box: Box, line_px: float
) -> _Shape | None:
    """The shape in a window that has the colour along the edge of a line's outline."""
    part, inside = to_lab(pixels[box.slices]), filled(outline, box)
    band = edge_band(inside, line_px)
    if not band.any():
        return None
    colour = _prevailing(part[band])
    distance = np.asarray(np.linalg.norm(part - colour, axis=2), np.float32)
    similar = distance <= _BADGE_DELTA_E
    if similar[band].mean() < _MIN_BAND_SHARE:
        return None
    return _Shape(box, _without_holes(_joined(similar, band)), colour, distance)


def edge_band(inside: BoolMask, line_px: float) -> BoolMask:
    """The band along the edge of a line's outline, which shows ground rather than letters."""
    kernel = disc(max(1, round(_BAND_SHARE * line_px)))
    core = cv2.erode(inside.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(inside & (core == 0))


def _is_carrier(
    found: _Shape, outlines: Sequence[Float32Array], number: int, line_px: float
) -> bool:
    """Whether a shape was made for its text: distinct, compact, and not much larger than it."""
    shape, area = found.shape, np.count_nonzero(found.shape)
    own = filled(outlines[number], found.box)
    if np.count_nonzero(own & shape) < _MIN_OWN_SHARE * np.count_nonzero(own):
        return False
    points = np.argwhere(shape)[:, ::-1].astype(np.int32)
    short_px = float(min(cv2.minAreaRect(points)[1]))
    text = sum(np.count_nonzero(filled(each, found.box) & shape) for each in outlines)
    if text < _MIN_TEXT_SHARE * area and short_px > _MAX_STRIP * line_px:
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


def _without_holes(shape: BoolMask) -> BoolMask:
    outlines = cv2.findContours(shape.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    whole = np.zeros(shape.shape, np.uint8)
    cv2.drawContours(whole, outlines, -1, 1, -1)
    return whole > 0


def _is_ground(pixels: UInt8Array, found: _Shape) -> bool:
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
    """Add a badge's soft edge and, on plain ground, its rim and shadow."""
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
        ground = np.median(ring, axis=0)
        spread = np.linalg.norm(ring - ground, axis=1)
        if np.quantile(spread, _PLAIN_RING_SHARE) <= _PLAIN_RING_DELTA_E:
            visible = max(_PLAIN_RING_DELTA_E, 2 * float(np.median(spread)))
            differs = np.linalg.norm(part - ground, axis=2) > visible
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
    """``(6,)`` float32: Lab of the ground of a line, and of its letters."""
    height, width = pixels.shape[:2]
    box = outline_box(outline, 1).clipped(width, height)
    part, inside = to_lab(pixels[box.slices]), filled(outline, box)
    line_px = float(min(cv2.minAreaRect(outline)[1]))
    band = edge_band(inside, line_px)
    ground = _prevailing(part[band] if band.any() else part.reshape(-1, 3))
    far = np.linalg.norm(part - ground, axis=2) > _DISTINCT_DELTA_E
    letters = _prevailing(part[far & inside]) if (far & inside).any() else ground
    return np.concatenate([ground, letters])
