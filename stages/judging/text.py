"""Detects text that came back, by reading a refined fill (see :mod:`stages.detection.ocr`)."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from stages.arrays import UInt8Array
from stages.detection.ocr import Line, Reader
from stages.extras import require
from stages.judging.reappearance import Scores
from stages.pixels.boxes import bounds_of
from stages.pixels.resize import scale_mask, scale_pixels

#: Longer side of what is read; hole and context around it, relative to the hole's longer side.
_VIEW_SIDE_PX, _CONTEXT_SHARE = 480, 0.3

#: Texture is sometimes read as a few characters, but not as confidently.
_MIN_CONFIDENCE, _MIN_CHARACTERS = 0.75, 2

#: Text that came back lies in the hole. Text of the surroundings that a fill continues does not.
_MIN_SHARE_INSIDE = 0.75

#: Part of a line's height that its outline adds as a margin on each side.
_MARGIN_SHARE = 0.15

#: Lines that share this part of the smaller one's area are the same line.
_SAME_SHARE = 0.3


class TextJudge:
    """Raises the scores of fills in which there is text that the removal's fill does not have.

    Raises:
        WeightsError: as :class:`Reader`.
    """

    def __init__(self) -> None:
        require("rapidocr", "judge.text")
        self._reader = Reader()

    def raised(
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
            refined, before, mask, has_removal: as in :func:`stages.judging.reappearance.judge`.
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
        region = bounds_of(mask)
        assert region is not None, "a patch has a hole"
        context_px = round(_CONTEXT_SHARE * max(region.width, region.height))
        part = region.grown(context_px).clipped(mask.shape[1], mask.shape[0])
        scale = _VIEW_SIDE_PX / max(part.width, part.height)
        size = max(round(part.width * scale), 1), max(round(part.height * scale), 1)
        hole, original = mask[part.slices], before[part.slices]
        painted = np.where(hole[..., None] > 0, refined[part.slices], original)
        inside = scale_mask(hole, *size)
        lines = [
            line
            for line in self._reader.read(scale_pixels(painted, *size))
            if line.confidence >= _MIN_CONFIDENCE
            and sum(map(str.isalnum, line.text)) >= _MIN_CHARACTERS
            and _share_inside(line, inside) >= _MIN_SHARE_INSIDE
        ]
        if lines and has_removal:
            known = self._reader.read(scale_pixels(original, *size))
            lines = [line for line in lines if all(_shared(line, o) < _SAME_SHARE for o in known)]
        return max((line.confidence for line in lines), default=0.0)


def _share_inside(line: Line, hole: UInt8Array) -> float:
    """The part of a line, without the margin of its outline, that lies in the hole."""
    centre, sides, angle = cv2.minAreaRect(line.outline)
    margin = 2 * _MARGIN_SHARE * min(sides)
    core = cv2.boxPoints((centre, (sides[0] - margin, sides[1] - margin), angle))
    drawn = np.zeros_like(hole)
    cv2.fillConvexPoly(drawn, np.rint(core).astype(np.int32), (1,))
    return float((hole[drawn > 0] > 0).mean()) if drawn.any() else 0.0


def _shared(first: Line, second: Line) -> float:
    """Area that two lines share, over that of the smaller one."""
    common = cv2.intersectConvexConvex(first.outline, second.outline)[0]
    smaller = min(cv2.contourArea(first.outline), cv2.contourArea(second.outline))
    return float(common / smaller) if smaller else 0.0
