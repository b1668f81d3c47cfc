"""The judge on real photos.

No real output of a diffusion model is among the cases: see ``tests/bench/judge_cases.py``.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from jobs.evaluation.synthetic import OBJECTS, Placement, paste
from stages.arrays import UInt8Array
from stages.judging.detail import lost_detail
from stages.judging.reappearance import judge
from stages.models.classical import fill_one
from stages.recipe.removal_methods import NavierStokesOptions
from tests.bench.catalog import bundled_photos
from tests.bench.judge_cases import repair_texture
from tests.bench.judging import Judged, accuracy, fit, judge_photos, split


@pytest.fixture(scope="module")
def filled(coffee: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
    """A crop of the table with a hole, filled, and the mask."""
    crop = np.ascontiguousarray(coffee[280:400, 0:160])
    mask = np.zeros(crop.shape[:2], np.uint8)
    cv2.circle(mask, (80, 60), 28, (255,), -1)
    return fill_one(NavierStokesOptions(), crop, mask, 0), mask


def test_on_photos_that_were_not_chosen_by_objects_are_flagged_and_texture_is_not() -> None:
    """A small part of what `python -m tests.bench.judge` measures."""
    photos = bundled_photos()
    _, held_out = split(list(photos))
    judged = judge_photos(photos, 1, held_out, text=True)
    seen, read = (accuracy(each) for each in ([replace(e, text=0.0) for e in judged], judged))
    assert seen.bad >= 35
    assert seen.flagged >= 0.9
    assert read.flagged >= 0.95
    assert read.false_alarms <= 0.05
    assert read.auc > 0.98


def test_fitting_puts_the_threshold_where_few_good_ones_are_over_it() -> None:
    rng = np.random.default_rng(0)
    judged = [
        Judged(
            "photo", "plain", "telea", "kind", is_bad, 0, 0, *(rng.gamma(2, 3 if is_bad else 1, 3))
        )
        for is_bad in (False, True)
        for _ in range(400)
    ]
    weights = fit(judged)
    assert min(weights[1:]) > 0
    assert 0.03 <= accuracy(judged, weights).false_alarms <= 0.05
    assert accuracy(judged, fit(judged, alone=True), alone=True).false_alarms <= 0.05


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_is_seen_at_any_working_size_and_sharper_texture_is_fine(
    kind: str, filled: tuple[UInt8Array, UInt8Array], coffee: UInt8Array
) -> None:
    removal, mask = filled
    rng = np.random.default_rng(3)
    made = paste(Placement(removal, (80.0, 60.0), 30.0), OBJECTS[kind], [coffee], rng, within=mask)
    assert made is not None
    repaired = repair_texture(removal, mask, rng)
    found = []
    for size in ((160, 120), (512, 384), (1024, 768)):
        before, bad, good = (
            np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_CUBIC), np.uint8)
            for each in (removal, made[0], repaired)
        )
        hole = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        found.append(judge(bad, before, hole, has_removal=True).reappearance)
        assert judge(good, before, hole, has_removal=True).reappearance < 0.5
    assert min(found) > 0.5
    assert max(found) - min(found) < 0.2


def test_what_did_not_change_scores_lowest(filled: tuple[UInt8Array, UInt8Array]) -> None:
    removal, mask = filled
    same = judge(removal, removal, mask, has_removal=True)
    assert (same.departure, same.strangeness) == (0, 0)
    assert same.reappearance < 0.01


def test_what_lies_outside_the_hole_does_not_count(filled: tuple[UInt8Array, UInt8Array]) -> None:
    removal, mask = filled
    drifted = np.where(mask[..., None] > 0, removal, 255 - removal)
    same = judge(removal, removal, mask, has_removal=True)
    assert judge(drifted, removal, mask, has_removal=True) == same


@pytest.mark.parametrize("has_removal", [True, False])
@pytest.mark.parametrize("shape", [(16, 16), (64, 48)])
def test_holes_without_surroundings_and_tiny_ones_have_scores(
    has_removal: bool, shape: tuple[int, int]
) -> None:
    pixels = np.full((*shape, 3), 90, np.uint8)
    for mask in (np.full(shape, 255, np.uint8), np.eye(*shape, dtype=np.uint8) * 255):
        scores = judge(pixels, pixels, mask, has_removal=has_removal)
        assert 0 <= scores.reappearance <= 1


def test_detail_is_lost_in_texture_and_not_on_smooth_background(
    filled: tuple[UInt8Array, UInt8Array],
) -> None:
    removal, mask = filled
    assert lost_detail(removal, mask) > 1.5
    smooth = np.zeros_like(removal) + np.linspace(180, 220, 160, dtype=np.uint8)[None, :, None]
    assert lost_detail(smooth, mask) < 0.5
    stepped = np.where(mask[..., None] > 0, smooth + np.uint8(6), smooth)
    assert lost_detail(stepped, mask) > 4
