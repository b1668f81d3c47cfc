"""What becomes of an object that comes back, through the real steps; the refiner is a double.

See ``tests/support/models/object_painter.py`` for what that misses. Real networks go through the
same steps in ``test_models_run.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.errors import RecipeError
from stages.arrays import UInt8Array
from stages.photo import CropPatch, Photo
from stages.pipeline import Pipeline
from stages.recipe import Recipe
from stages.recipe.refiners import Flux2KleinOptions, FluxFillOptions
from tests.support import as_sent, encoded, photo_of
from tests.support.models import object_painter as painting
from tests.support.models.object_painter import Painter

#: A wide and a high one, far apart, where the photo shows its table and nothing else.
BOXES = ((20, 310, 40, 30), (540, 30, 30, 40))


@pytest.fixture
def paint(monkeypatch: pytest.MonkeyPatch) -> Any:
    for options in (FluxFillOptions, Flux2KleinOptions):
        monkeypatch.setattr(options, "loader", "tests.support.models.object_painter")

    def use(*paints: painting.Paints) -> Painter:
        made = Painter(paints)
        monkeypatch.setattr(painting, "painter", made)
        return made

    return use


def recipe_of(folder: Path, *options: str) -> Recipe:
    """``clean`` with a removal and an upscaling that take no weights."""
    return Recipe.load(
        "clean",
        [
            "remove.method=telea",
            "upscale.method=lanczos",
            "refine.size_px=256",
            f"refine.weights={folder}",
            *options,
        ],
    )


def marked(coffee: UInt8Array, *boxes: tuple[int, int, int, int]) -> Photo:
    mask = np.zeros(coffee.shape[:2], np.uint8)
    for x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = 255
    return photo_of(encoded(coffee), encoded(mask))


def refined(recipe: Recipe, *photos: Photo) -> None:
    """Take photos through all the steps between reading and storing."""
    Pipeline.of(recipe).after("fetch").run(*photos)
    assert [photo.lineage.error for photo in photos] == [None] * len(photos)


def removed(recipe: Recipe, coffee: UInt8Array, *boxes: tuple[int, int, int, int]) -> UInt8Array:
    """The picture that the removal alone makes."""
    photo = marked(coffee, *boxes)
    refined(recipe.model_copy(update={"refine": None, "judge": None, "upscale": None}), photo)
    return pixels_of(photo)


def pixels_of(photo: Photo) -> UInt8Array:
    assert photo.decoded is not None
    return np.asarray(photo.decoded.pixels, np.uint8)


def patch_of(photo: Photo) -> Any:
    """The record of its only patch."""
    (patch,) = photo.lineage.patches
    return patch


def test_texture_passes_at_once(paint: Any, coffee: UInt8Array, tmp_path: Path) -> None:
    painter, photo = paint("texture"), marked(coffee, BOXES[0])
    refined(recipe_of(tmp_path), photo)
    row = photo.lineage
    patch = patch_of(photo)
    (tried,) = patch.tries
    assert painter.calls == [(patch.seed,)]
    assert (row.flag, patch.refined, patch.reason) == (None, True, "always")
    assert tried.score == row.score
    assert tried.score < 0.5
    assert tried.denoise == 0.8


def test_the_next_seed_is_tried_and_taken(paint: Any, coffee: UInt8Array, tmp_path: Path) -> None:
    painter, photo = paint("object", "texture"), marked(coffee, BOXES[0])
    refined(recipe_of(tmp_path), photo)
    row = photo.lineage
    patch = patch_of(photo)
    seed = patch.seed
    assert painter.calls == [(seed,), ((seed + 1) % 2**32,)]
    first, second = patch.tries
    assert first.score > 0.5 > second.score
    assert (row.flag, patch.refined, row.score) == (None, True, second.score)


def test_a_faint_word_passes_unless_it_is_read(
    paint: Any, coffee: UInt8Array, tmp_path: Path
) -> None:
    tries = {}
    for text in ("false", "true"):
        paint("word", "texture")
        photo = marked(coffee, BOXES[0])
        refined(recipe_of(tmp_path, f"judge.text={text}"), photo)
        assert photo.lineage.flag is None
        tries[text] = patch_of(photo).tries
    (unread,) = tries["false"]
    read, repainted = tries["true"]
    assert unread.score < 0.5 < read.score
    assert (unread.departure, unread.strangeness) == (read.departure, read.strangeness)
    assert repainted.score < 0.5


def test_after_all_attempts_the_removals_fill_is_pasted_and_flagged(
    paint: Any, coffee: UInt8Array, tmp_path: Path
) -> None:
    painter, photo = paint("object"), marked(coffee, BOXES[0])
    recipe = recipe_of(tmp_path, "judge.attempts=3")
    refined(recipe, photo)
    row = photo.lineage
    patch = patch_of(photo)
    assert len(painter.calls) == len(patch.tries) == 3
    assert (row.flag, patch.refined, patch.reason) == ("fell_back", False, "came_back")
    assert row.score == min(tried.score for tried in patch.tries)
    assert row.score is not None
    assert row.score > 0.5
    # It was brought to the refiner's size and back again, which costs a fill little.
    difference = np.abs(pixels_of(photo).astype(int) - removed(recipe, coffee, BOXES[0]))
    x, y, width, height = BOXES[0]
    assert difference[y : y + height, x : x + width].mean() < 1


def test_the_best_try_can_be_kept_and_is_flagged(
    paint: Any, coffee: UInt8Array, tmp_path: Path
) -> None:
    paint("object")
    photo = marked(coffee, BOXES[0])
    refined(recipe_of(tmp_path, "judge.fallback=keep"), photo)
    row = photo.lineage
    patch = patch_of(photo)
    assert (row.flag, patch.refined, patch.reason) == ("came_back", True, "best")
    x, y, width, height = BOXES[0]
    green = pixels_of(photo)[y + height // 2, x + width // 2]
    assert green[1] > 150 > green[0]


def test_without_a_removal_there_is_a_flag_and_no_departure(
    paint: Any, coffee: UInt8Array, tmp_path: Path
) -> None:
    paint("object")
    photo = marked(coffee, BOXES[0])
    options = ["refine.size_px=256", f"refine.weights={tmp_path}"]
    refined(Recipe.load("flux-fill", options), photo)
    patch = patch_of(photo)
    (tried,) = patch.tries
    assert photo.lineage.flag == "came_back"
    assert tried.departure is None
    assert tried.strangeness > 0


@pytest.mark.parametrize("tolerant", [True, False])
def test_an_output_that_is_no_picture(
    tolerant: bool, paint: Any, coffee: UInt8Array, tmp_path: Path
) -> None:
    painter = paint("nothing")
    photo = marked(coffee, BOXES[0])
    recipe = recipe_of(tmp_path, *(["judge.bad_output=remove"] if tolerant else []))
    Pipeline.of(recipe).after("fetch").run(photo)
    row = photo.lineage
    assert len(painter.calls) == 2
    if not tolerant:
        assert (row.error_code, row.error_stage) == ("model.bad_output", "refine")
        return
    patch = patch_of(photo)
    assert (row.status, row.flag, row.score) == ("ok", "bad_output", None)
    assert (patch.refined, patch.reason) == (False, "bad_output")
    assert [tried.score for tried in patch.tries] == [None, None]


@pytest.mark.parametrize(
    ("paints", "ends"),
    [
        (("nothing", "texture"), (None, True, "always")),
        (("object", "nothing"), ("fell_back", False, "came_back")),
    ],
)
def test_a_try_that_is_no_picture_does_not_fail_a_row_that_has_another(
    paints: Any, ends: Any, paint: Any, coffee: UInt8Array, tmp_path: Path
) -> None:
    paint(*paints)
    photo = marked(coffee, BOXES[0])
    refined(recipe_of(tmp_path), photo)
    patch = patch_of(photo)
    assert (photo.lineage.flag, patch.refined, patch.reason) == ends
    scores = [tried.score for tried in patch.tries]
    assert [score is None for score in scores] == [each == "nothing" for each in paints]


def test_only_what_failed_is_tried_again_together_and_mates_change_nothing(
    paint: Any, coffee: UInt8Array, tmp_path: Path
) -> None:
    recipe = recipe_of(tmp_path, "crop.merge_px=0", "crop.min_context_px=16")
    alone, together = [marked(coffee, *BOXES), marked(coffee, BOXES[1])], []
    for number, photo in enumerate(alone):
        paint("wide")
        refined(recipe, photo)
        again = marked(coffee, *(BOXES if number == 0 else BOXES[1:]))
        together.append(again)
    painter = paint("wide")
    refined(recipe, *together)
    assert [len(call) for call in painter.calls] == [3, 1]
    assert [photo.lineage.flag for photo in together] == ["fell_back", None]
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(pixels_of(one), pixels_of(other))
        assert one.lineage.patches == other.lineage.patches


def test_smooth_patches_are_left_out_and_cost_the_refiner_nothing(
    paint: Any, coffee: UInt8Array, tmp_path: Path
) -> None:
    painter = paint("texture")
    studio = np.full((300, 400, 3), 240, np.uint8)
    studio[:] -= np.arange(300, dtype=np.uint8)[:, None, None] // 10
    boxes = ((150, 100, 40, 40),)
    smooth, rough = marked(studio, *boxes), marked(coffee, BOXES[0])
    recipe = recipe_of(tmp_path, "refine.when=auto")
    refined(recipe, smooth, rough)
    (left_out,), (worked_on,) = smooth.lineage.patches, rough.lineage.patches
    assert (left_out.refined, left_out.reason) == (False, "smooth")
    assert left_out.tries is None
    assert (worked_on.refined, worked_on.reason) == (True, "texture")
    assert painter.calls == [(worked_on.seed,)]
    assert smooth.lineage.refine_prompt is None
    assert smooth.lineage.refine_sigmas == []
    assert not smooth.lineage.weights
    assert np.array_equal(pixels_of(smooth), removed(recipe, studio, *boxes))


def test_never_is_the_removal_alone(coffee: UInt8Array, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "refine.when=never")
    assert "refine" not in [step.name for step in Pipeline.of(recipe).steps]
    photo = marked(coffee, BOXES[0])
    refined(recipe, photo)
    assert np.array_equal(pixels_of(photo), removed(recipe, coffee, BOXES[0]))


def test_what_was_decided_and_found_survives_the_way_between_actors(
    paint: Any, coffee: UInt8Array, tmp_path: Path
) -> None:
    paint("object")
    photo = marked(coffee, BOXES[0])
    refined(recipe_of(tmp_path), photo)
    (patch,) = photo.patches
    assert isinstance(patch, CropPatch)
    patch.to_refine = False
    again = as_sent(photo)
    assert again.lineage.patches[0].tries == photo.lineage.patches[0].tries
    assert (again.lineage.flag, again.lineage.score) == ("fell_back", photo.lineage.score)
    (patch,) = again.patches
    assert isinstance(patch, CropPatch)
    assert not patch.to_refine


@pytest.mark.parametrize(
    "option", ["judge.fallback=remove", "judge.bad_output=remove", "refine.when=auto"]
)
def test_what_needs_a_removal_is_refused_without_one(option: str) -> None:
    with pytest.raises(RecipeError, match="remove"):
        Recipe.load("flux-fill", [option])


def test_a_judge_needs_something_to_judge() -> None:
    with pytest.raises(RecipeError, match="judge"):
        Recipe.load("telea", ["judge.attempts=2"])


def test_a_row_without_judge_has_one_try_without_scores(
    paint: Any, coffee: UInt8Array, tmp_path: Path
) -> None:
    paint("object")
    photo = marked(coffee, BOXES[0])
    recipe = recipe_of(tmp_path).model_copy(update={"judge": None})
    refined(recipe, photo)
    (tried,) = patch_of(photo).tries
    assert tried.score is None
    assert (photo.lineage.flag, photo.lineage.score) == (None, None)
