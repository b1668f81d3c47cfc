"""The judge that reads, with rapidocr's own networks, on a real photo."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
from rich.console import Console

from jobs.preflight import check_weights
from manifests.errors import WeightsError
from stages.arrays import UInt8Array
from stages.judging.reappearance import Scores, judge
from stages.judging.text import TextJudge
from stages.models.classical import fill_one
from stages.recipe import Recipe
from stages.recipe.removal_methods import TeleaOptions
from tests.support.models.object_painter import written

#: Where the photo shows its table and nothing else; the hole, and its crop at the refiner's size.
CROP, SIZE, HOLE = (slice(280, 400), slice(0, 160)), (512, 384), (160, 96, 352, 288)


@pytest.fixture(scope="module")
def reader() -> TextJudge:
    return TextJudge()


@pytest.fixture(scope="module")
def before(coffee: UInt8Array) -> UInt8Array:
    """A crop whose hole a removal has filled."""
    crop = np.asarray(cv2.resize(coffee[CROP], SIZE, interpolation=cv2.INTER_CUBIC), np.uint8)
    return fill_one(TeleaOptions(), crop, hole(), 0)


def hole() -> UInt8Array:
    mask = np.zeros(SIZE[::-1], np.uint8)
    x0, y0, x1, y1 = HOLE
    mask[y0:y1, x0:x1] = 255
    return mask


def with_word(
    pixels: UInt8Array, word: str, centre: tuple[int, int], *, levels: int = -110
) -> UInt8Array:
    return written(pixels, word, centre, 40, levels)


def score(reader: TextJudge, refined: UInt8Array, before: UInt8Array) -> float:
    """What reading alone finds."""
    nothing = Scores(0.0, 0.0, 0.0)
    return reader.with_text_score(nothing, refined, before, hole(), has_removal=True).reappearance


def test_a_word_in_the_fill_has_come_back(reader: TextJudge, before: UInt8Array) -> None:
    assert score(reader, before, before) == 0
    assert score(reader, with_word(before, "cake", (256, 192)), before) > 0.9


def test_a_word_that_the_picture_alone_does_not_give_away_is_read(
    reader: TextJudge, before: UInt8Array
) -> None:
    faint = with_word(before, "cake", (256, 192), levels=-45)
    seen = judge(faint, before, hole(), has_removal=True)
    assert seen.reappearance < 0.5
    raised = reader.with_text_score(seen, faint, before, hole(), has_removal=True)
    assert raised.reappearance > 0.75
    assert (raised.departure, raised.strangeness) == (seen.departure, seen.strangeness)


@pytest.mark.parametrize("centre", [(256, 50), (352, 192)], ids=["outside", "across the edge"])
def test_words_of_the_surroundings_do_not_count(
    centre: tuple[int, int], reader: TextJudge, before: UInt8Array
) -> None:
    """Even if the removal's fill does not continue them, and the refiner does."""
    printed = with_word(before, "fresh", centre)
    removal = np.where(hole()[..., None] > 0, before, printed)
    assert score(reader, printed, removal) == 0


def test_a_word_that_the_removal_shows_too_did_not_come_back(
    reader: TextJudge, before: UInt8Array
) -> None:
    copied = with_word(before, "cake", (256, 192))
    assert score(reader, with_word(copied, "cake", (256, 192), levels=-20), copied) == 0


def test_without_a_removal_any_word_in_the_hole_counts(
    reader: TextJudge, before: UInt8Array
) -> None:
    """The hole then still shows the object, which may be this word."""
    kept = with_word(before, "cake", (256, 192))
    nothing = Scores(None, 0.0, 0.0)
    found = reader.with_text_score(nothing, kept, kept, hole(), has_removal=False)
    assert found.reappearance > 0.9


def test_without_rapidocr_the_error_names_the_option_before_a_row_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    recipe = Recipe.load("clean", ["judge.text=true"])
    for use in (TextJudge, lambda: check_weights(recipe, Console(), here=True)):
        with pytest.raises(WeightsError, match=r"judge\.text needs rapidocr") as caught:
            use()
        assert caught.value.code == "model.not_installed"
