"""Groups lines of text that belong together, and orders them as they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from stages.arrays import Float32Array
from stages.detection.ocr import Line

#: Neighbours are nearer than this share of their height, at angles that differ by less, and of
#: heights in at most this ratio.
_GAP_SHARE, _MAX_ANGLE, _MAX_RATIO = 0.3, math.radians(12), 3.0

#: The backgrounds of a block's lines differ by less, CIE76.
_SAME_BACKGROUND = 30.0

#: The angle of two or three letters, a line shorter than this many heights, is not known well.
_SHORT, _MAX_ANGLE_SHORT = 2.5, math.radians(30)


def group(lines: Sequence[Line], backgrounds: Sequence[Float32Array]) -> list[list[int]]:
    """Return the indices of the lines of each block, in reading order; each line is in one.

    Args:
        lines: those of a photo.
        backgrounds: the colour that each is printed on, Lab; a badge's lines are their own block.
    """
    grown = [_grown(line) for line in lines]
    blocks: list[list[int]] = []
    for index, line in enumerate(lines):
        near = [
            block
            for block in blocks
            if any(
                _alike(line, lines[n])
                and np.linalg.norm(backgrounds[index] - backgrounds[n]) <= _SAME_BACKGROUND
                and _touch(grown[index], grown[n])
                for n in block
            )
        ]
        blocks = [block for block in blocks if block not in near]
        blocks.append([index, *(n for block in near for n in block)])
    return sorted(_in_order(lines, block) for block in blocks)


def _grown(line: Line) -> Float32Array:
    """The outline, larger on each side by half the gap that neighbours may have."""
    centre, (width, height), angle = cv2.minAreaRect(line.outline)
    more = _GAP_SHARE * line.height
    return np.asarray(cv2.boxPoints((centre, (width + more, height + more), angle)), np.float32)


def _touch(first: Float32Array, second: Float32Array) -> bool:
    return bool(cv2.intersectConvexConvex(first, second)[0] > 0)


def _alike(first: Line, second: Line) -> bool:
    turned = abs(_angle(first) - _angle(second)) % math.pi
    is_short = min(first.width / first.height, second.width / second.height) < _SHORT
    most = _MAX_ANGLE_SHORT if is_short else _MAX_ANGLE
    ratio = first.height / second.height
    return min(turned, math.pi - turned) <= most and 1 / _MAX_RATIO <= ratio <= _MAX_RATIO


def _angle(line: Line) -> float:
    """Direction of the longer side, radians."""
    sides = line.outline[1:3] - line.outline[:2]
    across, down = max(sides.tolist(), key=lambda side: math.hypot(*side))
    return math.atan2(down, across)


def _in_order(lines: Sequence[Line], block: list[int]) -> list[int]:
    """Rows from the top, each from the left, along the direction of the longest line."""
    longest = max((lines[n] for n in block), key=lambda line: cv2.arcLength(line.outline, True))
    angle = _angle(longest)
    angle -= math.pi * round(angle / math.pi)
    along = np.array([math.cos(angle), math.sin(angle)], np.float32)
    down = np.array([-along[1], along[0]], np.float32)
    centres = {n: lines[n].outline.mean(axis=0) for n in block}
    rows: list[list[int]] = []
    for index in sorted(block, key=lambda n: (float(centres[n] @ down), n)):
        above = rows[-1][-1] if rows else None
        step = 0.5 * lines[index].height
        if above is not None and (centres[index] - centres[above]) @ down < step:
            rows[-1].append(index)
        else:
            rows.append([index])
    return [n for row in rows for n in sorted(row, key=lambda n: float(centres[n] @ along))]
