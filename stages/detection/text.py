"""Detection method ``text``: finds and reads text, and marks what the recipe wants removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from stages.arrays import BoolMask, Float32Array, UInt8Array
from stages.detection import Detection, Detector
from stages.detection.blocks import group
from stages.detection.glyphs import strokes_in
from stages.detection.ground import (
    colours_of,
    filled,
    find_badge,
    outline_box,
    plain_ground,
    share_on_ground,
)
from stages.detection.ocr import Line, Reader, weights
from stages.detection.options import TextOptions
from stages.detection.select import Matcher
from stages.pixels.boxes import Box

#: Lines of a small block share a decision if it holds for this share of them.
_SHARED_LINES, _SHARED_SHARE = 4, 0.5

#: They are printed alike: ground and letters differ by less, in units of Lab.
_SAME_COLOUR = 12.0

#: Text is on the ground if this share of its surroundings is.
_ON_GROUND_SHARE = 0.8

#: A line belongs to a badge that covers this share of its outline.
_IN_BADGE_SHARE = 0.6


def load(options: TextOptions) -> Detector:
    """Load the networks; see :class:`stages.detection.ocr.Reader`.

    Raises:
        WeightsError: rapidocr or the device is not available.
    """
    reader = Reader(
        device=options.device, min_height_px=options.min_height_px, max_tiles=options.max_tiles
    )
    return TextDetector(options, reader)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Whether a line is to be removed, and why; final: no neighbour changes it."""

    remove: bool
    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class _Badge:
    """What carries text, and the numbers of the lines on it."""

    box: Box
    mask: BoolMask
    lines: tuple[int, ...]


class TextDetector:
    """See :class:`stages.detection.Detector`."""

    weights = weights()

    def __init__(self, options: TextOptions, reader: Reader) -> None:
        self._options, self._reader = options, reader
        self._remove, self._keep = Matcher(options.remove), Matcher(options.keep)

    def __call__(self, pixels: UInt8Array) -> list[Detection]:
        """Find text; see :class:`stages.detection.Detector`."""
        lines = self._reader.read(pixels)
        if not lines:
            return []
        colours = [colours_of(pixels, line.outline) for line in lines]
        blocks = group(lines, [each[:3] for each in colours])
        order = [number for block in blocks for number in block]
        verdicts = self._judge(lines, blocks, colours)
        badges = self._badges(pixels, lines, order, verdicts) if self._options.badge else []
        for badge in badges * len(badges):  # badges that overlap share a decision
            _share_badge(verdicts, badge.lines)
        whole = [badge for badge in badges if verdicts[badge.lines[0]].remove]
        carried = {number for badge in whole for number in badge.lines}
        found = []
        for number in order:
            found += [
                _detection(lines, each.lines, verdicts, each.box, each.mask)
                for each in whole
                if each.lines[0] == number
            ]
            if number not in carried:
                box, mask = self._marked(pixels, lines[number], verdicts[number])
                found.append(_detection(lines, (number,), verdicts, box, mask))
        return self._limited(pixels, found)

    def _judge(
        self, lines: Sequence[Line], blocks: list[list[int]], colours: Sequence[Float32Array]
    ) -> list[_Verdict]:
        """The verdict on each line from its text and that of its block."""
        verdicts = [_Verdict(False, "") for _ in lines]
        for block in blocks:
            certain = [n for n in block if not self._too_uncertain(lines[n])]
            texts = [lines[number].text for number in certain]
            kept, removed = self._keep.find(texts), self._remove.find(texts)
            for number, keep, remove in zip(certain, kept, removed, strict=True):
                if keep:
                    verdicts[number] = _Verdict(False, f"keep: {keep}", final=True)
                elif remove:
                    verdicts[number] = _Verdict(True, remove)
                else:
                    verdicts[number] = _Verdict(False, "not in detect.remove")
            for number in set(block) - set(certain):
                verdicts[number] = _Verdict(False, self._too_uncertain(lines[number]))
            removed_lines = [number for number in certain if verdicts[number].remove]
            if removed_lines and 1 < len(block) <= _SHARED_LINES:
                first = colours[removed_lines[0]]
                alike = [n for n in certain if np.abs(colours[n] - first).max() <= _SAME_COLOUR]
                _share_block(verdicts, alike)
        return verdicts

    def _too_uncertain(self, line: Line) -> str:
        """Why a line does not count; empty if it does."""
        if line.confidence < self._options.min_confidence:
            return f"confidence {line.confidence:.2f} below {self._options.min_confidence}"
        if line.font_px < self._options.min_height_px:
            return f"height {line.font_px:.0f} px below {self._options.min_height_px}"
        return ""

    def _badges(
        self,
        pixels: UInt8Array,
        lines: Sequence[Line],
        order: Sequence[int],
        verdicts: Sequence[_Verdict],
    ) -> list[_Badge]:
        """The badges of the lines that are to be removed."""
        outlines = [line.outline for line in lines]
        found: list[_Badge] = []
        for number in order:
            if not verdicts[number].remove or any(number in each.lines for each in found):
                continue
            badge = find_badge(pixels, outlines, number, self._options.max_area_share)
            if badge:
                on_it = [n for n in order if n == number or _covers(*badge, outlines[n])]
                found.append(_Badge(*badge, tuple(on_it)))
        return found

    def _marked(
        self, pixels: UInt8Array, line: Line, verdict: _Verdict
    ) -> tuple[Box, BoolMask | None]:
        """The bounds of a line, and what is to be removed of it."""
        if verdict.remove and self._options.shape == "glyphs":
            return strokes_in(pixels, line.outline)
        box = outline_box(line.outline, 1).clipped(pixels.shape[1], pixels.shape[0])
        return box, filled(line.outline, box) if verdict.remove else None

    def _limited(self, pixels: UInt8Array, found: list[Detection]) -> list[Detection]:
        """Keep what is too large or at the wrong place."""
        ground = plain_ground(pixels) if self._options.where == "background" else None
        height, width = pixels.shape[:2]
        limited = []
        for each in found:
            reason = ""
            if each.mask is not None:
                share = np.count_nonzero(each.mask) / (height * width)
                if share > self._options.max_area_share:
                    reason = f"covers {share:.2g} of the photo, over {self._options.max_area_share}"
                elif self._options.where == "background" and (
                    ground is None
                    or share_on_ground(ground, each.box, each.mask, (height, width))
                    < _ON_GROUND_SHARE
                ):
                    reason = "not on plain background"
                elif self._options.where == "border" and not self._at_border(
                    each.box, width, height
                ):
                    reason = "not at the border"
            limited.append(
                replace(each, remove=False, reason=reason, mask=None) if reason else each
            )
        return limited

    def _at_border(self, box: Box, width: int, height: int) -> bool:
        across, down = (self._options.border_share * side for side in (width, height))
        return (
            box.x1 <= across
            or box.y1 <= down
            or box.x0 >= width - across
            or box.y0 >= height - down
        )


def _share_block(verdicts: list[_Verdict], lines: Sequence[int]) -> None:
    """Remove all lines that are printed alike if half of them go, and none is to be kept."""
    removed = [number for number in lines if verdicts[number].remove]
    is_kept = any(verdicts[number].final for number in lines)
    if removed and not is_kept and len(removed) >= _SHARED_SHARE * len(lines):
        _remove_beside(verdicts, lines, verdicts[removed[0]])


def _share_badge(verdicts: list[_Verdict], lines: Sequence[int]) -> None:
    """A badge goes whole, or stays whole if a line on it is to be kept."""
    kept = next((number for number in lines if verdicts[number].final), None)
    if kept is None:
        _remove_beside(verdicts, lines, next(v for n in lines if (v := verdicts[n]).remove))
    else:
        for number in lines:
            verdicts[number] = verdicts[kept]


def _remove_beside(verdicts: list[_Verdict], lines: Sequence[int], first: _Verdict) -> None:
    for number in lines:
        if not verdicts[number].remove:
            verdicts[number] = _Verdict(True, f"beside {first.reason}")


def _covers(box: Box, mask: BoolMask, outline: Float32Array) -> bool:
    """Whether a badge carries a line."""
    on_it = int(np.count_nonzero(filled(outline, box) & mask))
    return on_it >= _IN_BADGE_SHARE * cv2.contourArea(outline)


def _detection(
    lines: Sequence[Line],
    numbers: Sequence[int],
    verdicts: Sequence[_Verdict],
    box: Box,
    mask: BoolMask | None,
) -> Detection:
    """One detection of one or, on a badge, several lines."""
    chosen = [lines[number] for number in numbers]
    first = next((verdicts[n] for n in numbers if verdicts[n].remove), verdicts[numbers[0]])
    corners = chosen[0].outline
    if len(chosen) > 1:
        around = cv2.minAreaRect(np.concatenate([each.outline for each in chosen]))
        corners = np.asarray(cv2.boxPoints(around), np.float32)
    return Detection(
        outline=tuple((float(x), float(y)) for x, y in corners),
        label=" ".join(each.text for each in chosen),
        confidence=min(each.confidence for each in chosen),
        remove=mask is not None,
        reason=first.reason,
        box=box,
        mask=mask,
    )
