"""Detects text that came back, by reading a refined fill (see :mod:`stages.detection.ocr`)."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from stages.arrays import BoolMask, UInt8Array
from stages.detection.ocr import Line, TextReader
from stages.detection.options import TextOptions
from stages.judging.reappearance import Scores, views
from stages.optional_imports import require

#: Longer side of the view that is read, and width of its ring relative to the hole's longer side.
_VIEW_SIDE_PX, _RING_SHARE = 480, 0.3

#: Texture is sometimes read as a few characters, but not as confidently.
_MIN_CHARACTERS, _MIN_CONFIDENCE = 2, 0.75

#: Lower for what the removal's fill shows, since it is soft.
_MIN_CONFIDENCE_BEFORE = 0.5

#: Text that came back lies in the hole. Text of the surroundings that a fill continues does not.
_MIN_SHARE_INSIDE = 0.75

#: Part of a line's height that its outline adds as a margin on each side.
_MARGIN_SHARE = 0.15

#: Lines with a larger intersection over union are the same text.
_SAME_OVERLAP = 0.2


class TextJudge:
    """Raises the scores of fills in which there is text that the removal's fill does not have.

    Raises:
        WeightsError: as :class:`TextReader`.
    """

    def __init__(self) -> None:
        require(*TextOptions.libraries, needed_by="judge.text")
        self._reader = TextReader()

    def with_text_score(
        self,
        scores: Scores,
        refined: UInt8Array,
        before: UInt8Array,
        mask: UInt8Array,
        has_removal: bool,
    ) -> Scores:
        """Return the scores, with a ``reappearance`` of at least the text's confidence.

        Args:
            scores: of the same fill.
            refined: see :func:`stages.judging.reappearance.judge`, as the others.
            before: see there.
            mask: see there.
            has_removal: see there. If not, any text in the hole counts.
        """
        return replace(
            scores,
            reappearance=max(
                scores.reappearance, self._confidence(refined, before, mask, has_removal)
            ),
        )

    def _confidence(
        self, refined: UInt8Array, before: UInt8Array, mask: UInt8Array, has_removal: bool
    ) -> float:
        """Confidence of the surest text that came back, 0 to 1; 0: none did."""
        painted, original, hole = views(refined, before, mask, _VIEW_SIDE_PX, _RING_SHARE)
        lines = [
            line
            for line in self._read(painted, _MIN_CONFIDENCE)
            if _share_inside(line, hole) >= _MIN_SHARE_INSIDE
        ]
        if lines and has_removal:
            known = self._read(original, _MIN_CONFIDENCE_BEFORE)
            lines = [
                line for line in lines if all(_overlap(line, o) < _SAME_OVERLAP for o in known)
            ]
        return max((line.confidence for line in lines), default=0.0)

    def _read(self, pixels: UInt8Array, min_confidence: float) -> list[Line]:
        return [
            line
            for line in self._reader.read(pixels)
            if line.confidence >= min_confidence
            and sum(map(str.isalnum, line.text)) >= _MIN_CHARACTERS
        ]


def _share_inside(line: Line, hole: BoolMask) -> float:
    """The part of a line, without the margin of its outline, that lies in the hole."""
    centre, sides, angle = cv2.minAreaRect(line.outline)
    margin = 2 * _MARGIN_SHARE * min(sides)
    core = cv2.boxPoints((centre, (sides[0] - margin, sides[1] - margin), angle))
    drawn = np.zeros(hole.shape, np.uint8)
    cv2.fillConvexPoly(drawn, np.rint(core).astype(np.int32), (1,))
    return float(hole[drawn > 0].mean()) if drawn.any() else 0.0


def _overlap(first: Line, second: Line) -> float:
    """Intersection over union of two lines' outlines."""
    common = cv2.intersectConvexConvex(first.outline, second.outline)[0]
    areas = cv2.contourArea(first.outline) + cv2.contourArea(second.outline)
    return float(common / max(areas - common, 1.0))
