"""Detection method ``text``: finds and reads text, and marks what the recipe wants removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from stages.arrays import BoolMask, Float32Array, UInt8Array
from stages.detection import Detection, Detector
from stages.detection.background import (
    colours_of,
    filled,
    find_badge,
    outline_box,
    plain_background,
    share_on_background,
)
from stages.detection.glyphs import strokes_in
from stages.detection.matcher import Matcher
from stages.detection.ocr import Line, TextReader, content_hashes
from stages.detection.options import TextOptions
from stages.detection.text_blocks import group
from stages.pixels.boxes import Box

#: Lines of a small block share a decision if it holds for this share of them.
_SHARED_LINES, _SHARED_SHARE = 4, 0.5

#: They are printed alike: background and letters differ by less, in units of Lab.
_SAME_COLOUR = 12.0

#: Text is on the background if this share of its surroundings is.
_ON_BACKGROUND_SHARE = 0.8

#: A line belongs to a badge that covers this share of its outline.
_IN_BADGE_SHARE = 0.6


def load(options: TextOptions) -> Detector:
    """Load the networks; see :class:`stages.detection.ocr.TextReader`.

    Raises:
        WeightsError: rapidocr or the device is not available.
    """
    reader = TextReader(
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
    """What carries text, and the indices of the lines on it."""

    box: Box
    mask: BoolMask
    lines: tuple[int, ...]


class TextDetector:
    """See :class:`stages.detection.Detector`."""

    content_hashes = content_hashes()

    def __init__(self, options: TextOptions, reader: TextReader) -> None:
        self._options, self._reader = options, reader
        self._remove, self._keep = Matcher(options.remove), Matcher(options.keep)

    def __call__(self, pixels: UInt8Array) -> list[Detection]:
        """Find text; see :class:`stages.detection.Detector`."""
        lines = self._reader.read(pixels)
        if not lines:
            return []
        colours = [colours_of(pixels, line.outline) for line in lines]
        blocks = group(lines, [each[:3] for each in colours])
        order = [index for block in blocks for index in block]
        verdicts = self._judge(lines, blocks, colours)
        badges = self._badges(pixels, lines, order, verdicts) if self._options.badge else []
        for badge in badges * len(badges):  # badges that overlap share a decision
            _share_badge(verdicts, badge.lines)
        whole = [badge for badge in badges if verdicts[badge.lines[0]].remove]
        carried = {index for badge in whole for index in badge.lines}
        found = []
        for index in order:
            found += [
                _detection(lines, each.lines, verdicts, each.box, each.mask)
                for each in whole
                if each.lines[0] == index
            ]
            if index not in carried:
                box, mask = self._marked(pixels, lines[index], verdicts[index])
                found.append(_detection(lines, (index,), verdicts, box, mask))
        return self._limited(pixels, found)

    def _judge(
        self, lines: Sequence[Line], blocks: list[list[int]], colours: Sequence[Float32Array]
    ) -> list[_Verdict]:
        """The verdict on each line from its text and that of its block."""
        verdicts = [_Verdict(False, "") for _ in lines]
        for block in blocks:
            certain = [n for n in block if not self._too_uncertain(lines[n])]
            texts = [lines[index].text for index in certain]
            kept, removed = self._keep.find(texts), self._remove.find(texts)
            for index, keep, remove in zip(certain, kept, removed, strict=True):
                if keep:
                    verdicts[index] = _Verdict(False, f"keep: {keep}", final=True)
                elif remove:
                    verdicts[index] = _Verdict(True, remove)
                else:
                    verdicts[index] = _Verdict(False, "not in detect.remove")
            for index in set(block) - set(certain):
                verdicts[index] = _Verdict(False, self._too_uncertain(lines[index]))
            removed_lines = [index for index in certain if verdicts[index].remove]
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
        for index in order:
            if not verdicts[index].remove or any(index in each.lines for each in found):
                continue
            badge = find_badge(pixels, outlines, index, self._options.max_area_share)
            if badge:
                on_it = [n for n in order if n == index or _covers(*badge, outlines[n])]
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
        background = plain_background(pixels) if self._options.where == "background" else None
        height, width = pixels.shape[:2]
        limited = []
        for each in found:
            reason = ""
            if each.mask is not None:
                share = np.count_nonzero(each.mask) / (height * width)
                if share > self._options.max_area_share:
                    reason = f"covers {share:.2g} of the photo, over {self._options.max_area_share}"
                elif self._options.where == "background" and (
                    background is None
                    or share_on_background(background, each.box, each.mask, (height, width))
                    < _ON_BACKGROUND_SHARE
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
    removed = [index for index in lines if verdicts[index].remove]
    is_kept = any(verdicts[index].final for index in lines)
    if removed and not is_kept and len(removed) >= _SHARED_SHARE * len(lines):
        _remove_beside(verdicts, lines, verdicts[removed[0]])


def _share_badge(verdicts: list[_Verdict], lines: Sequence[int]) -> None:
    """A badge goes whole, or stays whole if a line on it is to be kept."""
    kept = next((index for index in lines if verdicts[index].final), None)
    if kept is None:
        _remove_beside(verdicts, lines, next(v for n in lines if (v := verdicts[n]).remove))
    else:
        for index in lines:
            verdicts[index] = verdicts[kept]


def _remove_beside(verdicts: list[_Verdict], lines: Sequence[int], first: _Verdict) -> None:
    for index in lines:
        if not verdicts[index].remove:
            verdicts[index] = _Verdict(True, f"beside {first.reason}")


def _covers(box: Box, mask: BoolMask, outline: Float32Array) -> bool:
    """Whether a badge carries a line."""
    on_it = int(np.count_nonzero(filled(outline, box) & mask))
    return on_it >= _IN_BADGE_SHARE * cv2.contourArea(outline)


def _detection(
    lines: Sequence[Line],
    indices: Sequence[int],
    verdicts: Sequence[_Verdict],
    box: Box,
    mask: BoolMask | None,
) -> Detection:
    """One detection of one or, on a badge, several lines."""
    chosen = [lines[index] for index in indices]
    first = next((verdicts[n] for n in indices if verdicts[n].remove), verdicts[indices[0]])
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
