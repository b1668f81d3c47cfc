"""The letters' own strokes, found in the outline of their line."""

from __future__ import annotations

import cv2
import numpy as np

from stages.arrays import BoolMask, Float32Array, UInt8Array
from stages.detection.background import disc, edge_band, filled, outline_box
from stages.pixels.boxes import Box
from stages.pixels.samples import to_lab

#: How far beyond an outline strokes are followed, as a share of the line's height.
_BEYOND_SHARE = 0.25

#: A background is plain if this share of the band fits a plane within the distance, CIE76.
_PLAIN_SHARE, _PLAIN_DELTA_E = 0.75, 6.0

#: Strokes differ from a plain background by the first; joined to such pixels, soft edges and
#: shadows by the second; both at least by this many times the background's own variation.
_STROKE_DELTA_E, _EDGE_DELTA_E, _STROKE_NOISE, _EDGE_NOISE = 10.0, 3.0, 5.0, 3.0

#: Strokes cover a share of their outline between these.
_MIN_COVER, _MAX_COVER = 0.04, 0.75

#: They are found in at least this share of a line's parts.
_MIN_SPAN = 0.9

#: On other backgrounds, strokes are thinner than this share of the line's height, and stand out
#: this many times more often within the outline than around it.
_STROKE_SHARE, _MIN_ODDS = 0.4, 3.0

#: How much strokes are grown, as a share of the line's height: the edge lost in the background.
_GROW_SHARE, _GROW_TEXTURED_SHARE = 0.04, 0.08


def strokes_in(pixels: UInt8Array, outline: Float32Array) -> tuple[Box, BoolMask]:
    """Segment the letters of a line, with their outlines, shadows and soft edges.

    Args:
        pixels: ``(h, w, 3)`` uint8 sRGB, the photo.
        outline: ``(4, 2)`` float32, corners (x, y) of the line, px.

    Returns:
        Bounds, and which of their pixels are letters; the whole outline where letters do not
        stand out from their background.
    """
    line_px = float(min(cv2.minAreaRect(outline)[1]))
    box = outline_box(outline, max(3.0, 0.5 * line_px))
    box = box.clipped(pixels.shape[1], pixels.shape[0])
    part, inside = to_lab(pixels[box.slices]), filled(outline, box)
    strokes, grow = _on_plain_background(part, inside, line_px), _GROW_SHARE
    if strokes is None or not _spans(strokes & inside, inside, line_px):
        strokes, grow = _on_texture(part, inside, line_px), _GROW_TEXTURED_SHARE
    if strokes is None or not _spans(strokes, inside, line_px):
        strokes, grow = inside, 0.0
    grown = cv2.dilate(strokes.view(np.uint8), disc(max(1, round(grow * line_px))))
    return box, np.asarray(grown > 0)


def _spans(strokes: BoolMask, inside: BoolMask, line_px: float) -> bool:
    """Whether strokes are found along a whole line: in nearly each part as long as it is high."""
    points = np.argwhere(inside).astype(np.float32)
    along = points @ np.linalg.eigh(np.cov(points.T))[1][:, -1]
    along -= along.min()
    count = max(1, round(float(along.max()) / line_px))
    parts = np.minimum(along / along.max() * count, count - 1).astype(np.intp)
    share = np.bincount(parts, strokes[inside]) / np.bincount(parts)
    return float((share >= _MIN_COVER).mean()) >= _MIN_SPAN


def _on_plain_background(part: Float32Array, inside: BoolMask, line_px: float) -> BoolMask | None:
    """Whatever differs from the plane of colours that fits the background; None if none does."""
    fit = _fit_plane(part, edge_band(inside, line_px))
    if fit is None:
        return None
    distance, noise = fit
    core = inside & (distance > max(_STROKE_DELTA_E, _STROKE_NOISE * noise))
    if not _MIN_COVER <= core.sum() / inside.sum() <= _MAX_COVER:
        return None
    soft = distance > max(_EDGE_DELTA_E, _EDGE_NOISE * noise)
    reach = cv2.dilate(inside.view(np.uint8), disc(max(2, round(_BEYOND_SHARE * line_px)))) > 0
    count, labels = cv2.connectedComponents((soft & reach).view(np.uint8))
    within = np.bincount(labels[inside & soft], minlength=count)
    total = np.bincount(labels[soft & reach], minlength=count)
    has_core = np.bincount(labels[core], minlength=count) > 0
    # A part of the surroundings that touches the text is cut at the outline.
    own = has_core & (2 * within >= total)
    own[0] = has_core[0] = False
    return np.asarray(own[labels] | (inside & has_core[labels]))


def _fit_plane(part: Float32Array, band: BoolMask) -> tuple[Float32Array, float] | None:
    """Fit a background that may have a gradient.

    Returns:
        ``(h, w)`` distance of each pixel from it, and its own variation, CIE76; None if the band
        is not plain.
    """
    ys, xs = np.nonzero(band)
    colours = part[ys, xs]
    at = np.stack([xs, ys, np.ones_like(xs)], axis=1).astype(np.float32)
    near = np.linalg.norm(colours - np.median(colours, axis=0), axis=1) <= 2 * _PLAIN_DELTA_E
    for _ in range(3):
        if near.mean() < _PLAIN_SHARE:
            return None
        plane = np.linalg.lstsq(at[near], colours[near], rcond=None)[0]
        off = np.linalg.norm(colours - at @ plane, axis=1)
        near = off <= _PLAIN_DELTA_E
    rows, columns = np.indices(band.shape, np.float32)
    background = np.stack([columns, rows, np.ones_like(rows)], axis=2) @ plane
    return np.linalg.norm(part - background, axis=2), float(np.median(off[near]))


def _on_texture(part: Float32Array, inside: BoolMask, line_px: float) -> BoolMask | None:
    """Thin strokes that are lighter or darker than what surrounds them (top-hat transform)."""
    kernel = disc(max(2, round(_STROKE_SHARE * line_px / 2)))
    ring = (cv2.dilate(inside.view(np.uint8), disc(max(3, round(0.4 * line_px)))) > 0) & ~inside
    best, best_odds = None, _MIN_ODDS
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        stands_out = cv2.morphologyEx(np.ascontiguousarray(part[..., 0]), operation, kernel)
        levels = np.clip(np.rint(stands_out[inside] * 2.55), 0, 255).astype(np.uint8)
        threshold = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)[0] / 2.55
        strokes = stands_out > max(threshold, 2.0)
        cover, around = strokes[inside].mean(), strokes[ring].mean() if ring.any() else 1.0
        odds = float(cover / max(around, 0.005))
        if _MIN_COVER <= cover <= _MAX_COVER and odds >= best_odds:
            best, best_odds = strokes & inside, odds
    return best
