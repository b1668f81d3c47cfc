"""Lines are grouped and ordered as they are read, along their own direction."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.detection.ocr import Line
from stages.detection.text_blocks import group

WHITE, PURPLE = np.array([100, 0, 0], np.float32), np.array([45, 50, -45], np.float32)


def line(text: str, x: float, y: float, size: tuple[float, float], angle: float) -> Line:
    """A line around (x, y) of a picture that is turned by ``angle`` degrees around (500, 500)."""
    turn = cv2.getRotationMatrix2D((500, 500), -angle, 1)
    centre = turn @ (x, y, 1)
    corners = cv2.boxPoints((centre.tolist(), size, angle))
    return Line(np.asarray(corners, np.float32), text, 1.0)


@pytest.mark.parametrize("angle", [0, 14, -40])
def test_a_block_is_read_in_rows_along_its_lines(angle: float) -> None:
    lines = [
        line("OFF", 560, 430, (90, 40), angle),
        line("20%", 460, 430, (90, 40), angle),
        line("UP TO", 505, 380, (150, 40), angle),
        line("Nike", 500, 700, (150, 40), angle),
        line("vertical", 505, 480, (150, 40), angle + 90),
    ]
    blocks = [[lines[index].text for index in block] for block in group(lines, [WHITE] * 5)]
    assert sorted(blocks) == [["Nike"], ["UP TO", "20%", "OFF"], ["vertical"]]


def test_short_words_belong_to_their_neighbours_though_their_angle_is_uncertain() -> None:
    lines = [line("Más", 500, 400, (60, 40), 20), line("vendido", 500, 440, (160, 40), 0)]
    assert group(lines, [WHITE, WHITE]) == [[0, 1]]


def test_a_badge_beside_other_text_is_a_block_of_its_own() -> None:
    caption = line("Nuthatch", 400, 400, (140, 40), 0)
    lines = [caption, line("Más", 500, 400, (60, 40), 0), line("vendido", 500, 440, (90, 40), 0)]
    assert group(lines, [WHITE, PURPLE, PURPLE]) == [[0], [1, 2]]
