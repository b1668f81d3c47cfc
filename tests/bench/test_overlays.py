"""Overlays pasted into photos: the same each time, and with the pixels of each text."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFont

from manifests.planning.plan import make_plan
from tests.bench.overlays import KINDS, _has_glyphs, contrast_of, make_overlays
from tests.support import DEMO

PHOTOS = sorted((DEMO / "photos").iterdir())[:3]


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def test_overlays_come_with_masks_letters_and_a_list(tmp_path: Path) -> None:
    for folder, photos in (("first", PHOTOS), ("second", PHOTOS[:1])):
        made = make_overlays(tmp_path / folder, list(map(str, photos)))
        assert made == tmp_path / folder / "manifest.csv"
    first, second = tmp_path / "first", tmp_path / "second"
    files = [path.relative_to(second) for path in second.rglob("*.png")]
    assert len(files) == 4
    assert [f for f in files if (first / f).read_bytes() != (second / f).read_bytes()] == []
    with (first / "texts.csv").open(encoding="utf-8") as file:
        texts = list(csv.DictReader(file))
    assert len({text["kind"] for text in texts}) >= len(KINDS) - 2
    for path in (first / "photos").iterdir():
        photo, before = pixels(path), pixels(first / "references" / path.name)
        mask, letters = (pixels(first / kind / path.name) for kind in ("masks", "letters"))
        assert ((photo != before).any(axis=2) == (mask > 0)).all()
        own = [text for text in texts if text["id"] == path.stem]
        assert [int(text["number"]) for text in own] == [*np.unique(letters)[1:]]
        assert (mask > 0)[letters > 0].mean() > 0.97  # some are of the background's colour
    assert make_plan(str(first / "manifest.csv"), str(tmp_path / "plan")).rows == len(PHOTOS)


def test_contrast_is_that_of_wcag() -> None:
    white, black, grey = np.full(3, 255.0), np.zeros(3), np.full(3, 118.0)
    assert contrast_of(white, black) == pytest.approx(21)
    assert contrast_of(grey, white) == pytest.approx(4.6, abs=0.1)


def test_a_font_without_a_character_is_not_asked_for_it() -> None:
    font = ImageFont.load_default(20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    assert _has_glyphs(font, "FREE SHIPPING")
    assert not _has_glyphs(font, "包邮 送料無料")
