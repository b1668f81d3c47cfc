"""Finds a logo or sticker by its picture, at several scales: normalized cross-correlation.

The picture is searched for at a fixed small size in photos scaled to suit, so that large matches
take hardly any time; each match is then located at a finer scale. Colours are projected onto the
axis along which those of the picture vary most, which keeps apart what a conversion to grey might
not. See J. P. Lewis, Fast Normalized Cross-Correlation, 1995; OpenCV's ``matchTemplate``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import PurePath

import cv2
import numpy as np
import numpy.typing as npt

from manifests.errors import RecipeError, RowError
from manifests.storage.path import StoragePath
from manifests.storage.row_files import read
from stages.arrays import BoolMask, UInt8Array
from stages.codecs.decode import decode_photo
from stages.detection import Detection, Polygon
from stages.detection.options import TemplateOptions
from stages.pixels import colour
from stages.pixels.boxes import Box, bounds_of
from stages.pixels.masks import fill_holes

_Floats = npt.NDArray[np.float32]

#: Longer side at which the picture is searched for, and at which a match is located, px; a
#: narrow picture is larger, so that its shorter side has at least :data:`_MIN_SHORT_PX`.
_SEARCH_PX, _LOCATE_PX = 32, 192
_MIN_SHORT_PX, _SMALLEST_PX = 12, 6

#: Ratio of neighbouring sizes, and the sizes around a match at which it is located.
_STEP = 1.1
_FINER = (0.92, 0.94, 0.96, 0.98, 1.0, 1.02, 1.04, 1.06, 1.08)
_FINEST = (0.99, 0.995, 1.0, 1.005, 1.01)

#: How far below the threshold the coarse search looks, since sizes and positions are rounded.
_SLACK = 0.2

#: Matches this far below the threshold are recorded as kept.
_NEAR = 0.1

#: Matches of which more than this share overlaps are one.
_SAME_SHARE = 0.3

#: Candidates that are located at most, per picture and photo.
_MAX_CANDIDATES = 60

#: A picture or a place whose colours vary by less is taken for flat: standard deviation, levels.
_MIN_DEVIATION = 2.0

#: From this level on, a background without alpha is white.
_WHITE = 245


@dataclass(frozen=True, slots=True)
class Template:
    """A picture to search for.

    Attributes:
        uri: its path or URI, absolute.
        name: the file's name without its suffix; further ones of a name are numbered from 2.
        sha256: of its file.
        pixels: ``(h, w, 3)`` float32, levels; cut to its shape.
        shape: ``(h, w)`` bool, the part that counts.
        axis: ``(3,)`` float32 of length 1, along which its colours vary most.
    """

    uri: str
    name: str
    sha256: str
    pixels: _Floats
    shape: BoolMask
    axis: _Floats

    def scaled(self, width: int, height: int) -> tuple[_Floats, _Floats]:
        """The projected picture and the weights of its pixels, 0 or 1; ``(height, width)`` each."""
        how = cv2.INTER_AREA if width < self.shape.shape[1] else cv2.INTER_LINEAR
        pixels = cv2.resize(self.pixels @ self.axis, (width, height), interpolation=how)
        weights = cv2.resize(self.shape.astype(np.float32), (width, height), interpolation=how)
        return np.asarray(pixels, np.float32), (weights >= 0.5).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Match:
    """A place in a photo, px, and how well a template matches there, -1 to 1."""

    template: Template
    x: float
    y: float
    width: float
    height: float
    score: float

    def overlap(self, other: Match) -> float:
        """Share of the smaller one that lies in both."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        smaller = min(self.width * self.height, other.width * other.height)
        return max(across, 0.0) * max(down, 0.0) / smaller


class TemplateDetector:
    """Finds templates in photos; see :class:`stages.detection.Detector`.

    Args:
        options: the templates and how they are searched for.

    Raises:
        RecipeError: ``detect.bad_template``.
    """

    def __init__(self, options: TemplateOptions) -> None:
        self._options = options
        self._templates = read_templates(options)

    @property
    def content_hashes(self) -> dict[str, str]:
        """Name -> SHA-256 of each template."""
        return {each.name: each.sha256 for each in self._templates}

    def __call__(self, pixels: UInt8Array) -> list[Detection]:
        """Find the templates in a photo.

        Raises:
            RowError: ``detect.template_too_large``.
        """
        options = self._options
        found = [
            match for template in self._templates for match in _matches(pixels, template, options)
        ]
        found.sort(key=lambda match: -match.score)
        detections = [
            _detection(match, index, pixels.shape, options)
            for index, match in enumerate(_distinct(found))
        ]
        return sorted(detections, key=lambda each: (each.box.y0, each.box.x0))


def load(options: TemplateOptions) -> TemplateDetector:
    """See :class:`stages.detection.options.DetectionOptions`."""
    return TemplateDetector(options)


def read_templates(options: TemplateOptions) -> list[Template]:
    """Read the templates of a recipe.

    Raises:
        RecipeError: ``detect.bad_template``: see ``manifests/errors.toml``.
    """
    pins = options.templates_pin or ("",) * len(options.templates)
    found, names = list[Template](), set[str]()
    for uri, pin in zip(options.templates, pins, strict=True):
        try:
            place = StoragePath.of(uri).uri
            data = read(place, "image")
            sha256 = hashlib.sha256(data).hexdigest()
            if pin not in ("", f"sha256:{sha256}"):
                raise _bad(uri, f"its sha256 is {sha256}, the recipe requires {pin}")
            stem = PurePath(place).stem
            numbered = (f"{stem} {number}" for number in count(2))
            name = next(each for each in chain([stem], numbered) if each not in names)
            names.add(name)
            found.append(_template(place, name, data, sha256))
        except (RowError, ValueError) as error:
            text = error.message if isinstance(error, RowError) else str(error)
            raise _bad(uri, text.rstrip(".")) from None
    return found


def _bad(uri: str, reason: str) -> RecipeError:
    return RecipeError("detect.bad_template", f"The template {uri} cannot be used: {reason}.")


def _template(uri: str, name: str, data: bytes, sha256: str) -> Template:
    """Decode a template, and cut it to its shape; raises RowError or RecipeError."""
    decoded = decode_photo(data, float("inf"), uri)
    pixels = colour.to_srgb8(decoded.pixels, decoded.space)
    if decoded.alpha is None:
        shape = fill_holes(pixels.min(axis=2) < _WHITE)
    else:
        shape = np.asarray(decoded.alpha > np.iinfo(decoded.alpha.dtype).max // 2)
    bounds = bounds_of(shape)
    if bounds is None:
        raise _bad(uri, "nothing in it is visible on a white or transparent background")
    shape = shape[bounds.slices]
    levels = pixels[bounds.slices].astype(np.float32)
    inside = levels[shape]
    spread = inside - inside.mean(axis=0)
    if float(np.sqrt((spread**2).mean())) < _MIN_DEVIATION:
        raise _bad(uri, "it has only one colour, so it would match any plain area")
    _, _, axes = np.linalg.svd(spread.T @ spread)
    return Template(uri, name, sha256, levels, shape, axes[0].astype(np.float32))


def _matches(pixels: UInt8Array, template: Template, options: TemplateOptions) -> list[Match]:
    """The places that show a template, best first, without overlaps."""
    floor = options.threshold - _SLACK
    coarse = sorted(_search(pixels, template, options, floor), key=lambda each: -each.score)
    candidates = _distinct(coarse)[:_MAX_CANDIDATES]
    located = [_located(pixels, each) for each in candidates]
    kept = [each for each in located if each.score >= options.threshold - _NEAR]
    return _distinct(sorted(kept, key=lambda each: -each.score))


def _distinct(matches: Sequence[Match]) -> list[Match]:
    chosen: list[Match] = []
    for match in matches:
        if all(match.overlap(other) <= _SAME_SHARE for other in chosen):
            chosen.append(match)
    return chosen


def _search(
    pixels: UInt8Array, template: Template, options: TemplateOptions, floor: float
) -> Iterator[Match]:
    """Find places at each size, coarsely.

    Raises:
        RowError: ``detect.template_too_large``: no size fits.
    """
    height, width = pixels.shape[:2]
    high, wide = template.shape.shape
    search_px = max(_SEARCH_PX, _MIN_SHORT_PX * max(high, wide) / min(high, wide))
    largest: _Floats | None = None
    for side in _sizes(options, max(width, height)):
        factor = min(search_px / side, 1.0)
        across, down = (round(side * factor * each / max(high, wide)) for each in (wide, high))
        size = round(width * factor), round(height * factor)
        if min(across, down) < _SMALLEST_PX or across > size[0] or down > size[1]:
            continue
        if largest is None:  # sizes of the template rise, and those of the photo fall
            largest = _projected(pixels, template, *size)
        seen = np.asarray(cv2.resize(largest, size, interpolation=cv2.INTER_AREA), np.float32)
        scores = _correlate(seen, *template.scaled(across, down))
        for x, y, score in _peaks(scores, floor):
            yield Match(template, x / factor, y / factor, across / factor, down / factor, score)
    if largest is None:
        raise RowError(
            "detect.template_too_large",
            f"The template {template.uri} does not fit into the photo of {width}x{height} px.",
        )


def _sizes(options: TemplateOptions, photo_side: int) -> Iterator[float]:
    """The template's longer side, px of the photo."""
    share = options.min_share
    while share < options.max_share:
        yield share * photo_side
        share *= _STEP
    yield options.max_share * photo_side


def _projected(pixels: UInt8Array, template: Template, width: int, height: int) -> _Floats:
    """The photo at a size, as ``(height, width)`` levels along the template's axis."""
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small.astype(np.float32) @ template.axis, np.float32)


def _correlate(seen: _Floats, pixels: _Floats, weights: _Floats) -> _Floats:
    """Scores, -1 to 1, of each place of a template; 0 where the photo is flat."""
    scores = cv2.matchTemplate(seen, pixels, cv2.TM_CCOEFF_NORMED, mask=weights)
    flat = ~np.isfinite(scores) | (np.abs(scores) > 1.001)
    down, across = pixels.shape
    mean, square = (
        cv2.boxFilter(each, -1, (across, down), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
        for each in (seen, seen**2)
    )
    high, wide = scores.shape
    flat |= (square - mean**2)[:high, :wide] < _MIN_DEVIATION**2
    return np.where(flat, np.float32(0), scores)


def _peaks(scores: _Floats, floor: float) -> Iterator[tuple[int, int, float]]:
    """Local maxima ``(x, y, score)`` of at least ``floor``."""
    highest = cv2.dilate(scores, np.ones((5, 5), np.uint8))
    for y, x in np.argwhere((scores == highest) & (scores >= floor)):
        yield int(x), int(y), float(scores[y, x])


def _located(pixels: UInt8Array, match: Match) -> Match:
    """Find the exact size and position of a match, and its exact score."""
    for sizes, margin in ((_FINER, 0.12), (_FINEST, 0.04)):
        match = max(_tries(pixels, match, sizes, margin), key=lambda each: each.score)
    return replace(match, score=_exact_score(pixels, match))


def _tries(
    pixels: UInt8Array, match: Match, sizes: Sequence[float], margin: float
) -> Iterator[Match]:
    template, (height, width) = match.template, pixels.shape[:2]
    grow = margin * max(match.width, match.height) + 2
    x0, y0 = max(int(match.x - grow), 0), max(int(match.y - grow), 0)
    x1, y1 = int(match.x + match.width + grow) + 1, int(match.y + match.height + grow) + 1
    part = pixels[y0 : min(y1, height), x0 : min(x1, width)]
    factor = min(_LOCATE_PX / max(match.width, match.height), 1.0)
    high, wide = (max(round(each * factor), 1) for each in part.shape[:2])
    seen = _projected(part, template, wide, high)
    yield match
    for size in sizes:
        across, down = (round(each * size * factor) for each in (match.width, match.height))
        if not 0 < across <= wide or not 0 < down <= high:
            continue
        scores = _correlate(seen, *template.scaled(across, down))
        y, x = np.unravel_index(int(scores.argmax()), scores.shape)
        place = x0 + int(x) / factor, y0 + int(y) / factor
        yield Match(template, *place, across / factor, down / factor, float(scores[y, x]))


def _exact_score(pixels: UInt8Array, match: Match) -> float:
    """Correlation of all colours at the match, -1 to 1; 0 if the photo is flat there."""
    template, box = match.template, _box(match, pixels.shape)
    factor = min(_LOCATE_PX / max(box.width, box.height), 1.0)
    size = max(round(box.width * factor), 2), max(round(box.height * factor), 2)
    shape = cv2.resize(template.shape.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    if not shape.any():
        return 0.0
    pair = []
    for each in (pixels[box.slices].astype(np.float32), template.pixels):
        inside = cv2.resize(each, size, interpolation=cv2.INTER_AREA)[shape].astype(np.float64)
        pair.append(inside - inside.mean(axis=0))
    seen, wanted = pair
    if np.sqrt((seen**2).mean()) < _MIN_DEVIATION:
        return 0.0
    return float((seen * wanted).sum() / np.sqrt((seen**2).sum() * (wanted**2).sum()))


def _box(match: Match, shape: tuple[int, ...]) -> Box:
    x0, y0 = round(match.x), round(match.y)
    box = Box(
        x0,
        y0,
        max(round(match.x + match.width), x0 + 1),
        max(round(match.y + match.height), y0 + 1),
    )
    return box.clipped(shape[1], shape[0])


def _detection(
    match: Match, index: int, shape: tuple[int, ...], options: TemplateOptions
) -> Detection:
    box = _box(match, shape)
    reason = "template"
    if match.score < options.threshold:
        reason = f"correlation below {options.threshold:g}"
    elif index >= options.max_matches:
        reason = f"more than {options.max_matches} matches"
    remove = reason == "template"
    mask = None
    if remove:
        size = (box.width, box.height)
        area = cv2.resize(
            match.template.shape.astype(np.float32), size, interpolation=cv2.INTER_LINEAR
        )
        mask = np.asarray(area > 0)
    outline: Polygon = (
        (box.x0, box.y0),
        (box.x1, box.y0),
        (box.x1, box.y1),
        (box.x0, box.y1),
    )
    confidence = min(max(match.score, 0.0), 1.0)
    return Detection(
        outline=outline,
        label=match.template.name,
        confidence=confidence,
        remove=remove,
        reason=reason,
        box=box,
        mask=mask,
    )
