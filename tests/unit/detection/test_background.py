"""The badge that carries a line of text, in photos of any size."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont

from stages.detection.background import find_badge

Pixels = npt.NDArray[np.uint8]
Outline = npt.NDArray[np.float32]


def banner(width: int, height: int, line_px: int) -> tuple[Pixels, Outline, tuple[slice, slice]]:
    """A photo on white with a banner along its foot, a line of text on it, and the banner."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((width // 4, height // 4, width // 2, height // 2), "navy")
    top = height - 3 * line_px
    draw.rectangle((0, top, width, height), (20, 90, 40))
    text, at = "SALE -50% SALE", (width // 3, top + line_px)
    font = ImageFont.load_default(line_px)
    draw.text(at, text, "white", font)
    x0, y0, x1, y1 = draw.textbbox(at, text, font)
    grow = 0.15 * line_px
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    outline = np.array(corners) + grow * np.sign(np.array(corners) - centre)
    return np.asarray(picture), outline.astype(np.float32), np.s_[top:, :]


@pytest.mark.parametrize(
    ("width", "height", "line_px"), [(1200, 900, 24), (3000, 2000, 24), (6000, 4000, 12)]
)
def test_a_banner_is_found_whole_with_bounded_memory(width: int, height: int, line_px: int) -> None:
    pixels, outline, place = banner(width, height, line_px)
    tracemalloc.start()
    found = find_badge(pixels, [outline], 0, 0.2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500e6
    assert found is not None
    box, mask = found
    marked = np.zeros((height, width), np.bool_)
    marked[box.slices] = mask
    assert marked[place].all()
    assert marked.sum() < 1.2 * marked[place].size


def test_the_background_of_a_large_photo_is_no_badge() -> None:
    pixels, outline, place = banner(3000, 2000, 30)
    text = pixels[place].copy()
    pixels = np.full_like(pixels, (20, 90, 40))
    pixels[500 : 500 + len(text)] = text
    outline[:, 1] += 500 - place[0].start
    assert find_badge(pixels, [outline], 0, 1.0) is None
