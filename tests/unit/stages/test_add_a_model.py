"""A removal model that is added as ``stages/README.md`` says: a module, an entry in the table."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from pydantic import Field

from manifests.errors import WeightsError
from stages import recipe as recipes
from stages.arrays import UInt8Array
from stages.photo import Photo
from stages.pipeline import Pipeline, steps
from stages.recipe.removal_methods import LamaOptions, TeleaOptions
from stages.weights.resolve import weights_of
from tests.support import encoded, photo_of
from tests.support.models import toy_removal
from tests.support.models.toy_removal import ToyOptions

COLOUR = (250, 20, 120)


class Recipe(recipes.Recipe):
    """With the table of removal methods that has the new one."""

    remove: Annotated[
        TeleaOptions | LamaOptions | ToyOptions | None, Field(discriminator="method")
    ] = None  # type: ignore[assignment]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "toy.bin").write_bytes(bytes(COLOUR))
    toy_removal.calls.clear()
    return Recipe.load("telea", ["remove.method=toy", f"remove.weights={tmp_path / 'toy.bin'}"])


def marked(side: int = 40) -> Photo:
    pixels = np.full((200, 300, 3), 90, np.uint8)
    mask = np.zeros((200, 300), np.uint8)
    mask[50 : 50 + side, 60 : 60 + side] = 255
    return photo_of(encoded(pixels), encoded(mask))


def cleaned(recipe: Recipe, *photos: Photo) -> None:
    Pipeline.of(recipe).after("fetch").run(*photos)


def pixels_of(photo: Photo) -> UInt8Array:
    assert photo.decoded is not None, photo.lineage.error
    return np.asarray(photo.decoded.pixels, np.uint8)


def test_its_module_and_an_entry_in_the_table_are_enough_to_clean_photos(
    recipe: Recipe, tmp_path: Path
) -> None:
    photos = marked(), marked(100)
    cleaned(recipe, *photos)
    for photo, side in zip(photos, (40, 100), strict=True):
        assert photo.ok, photo.lineage.error
        assert tuple(pixels_of(photo)[70, 80]) == COLOUR
        assert tuple(pixels_of(photo)[70 + side, 80 + side]) == (90, 90, 90)
        sha256 = hashlib.sha256(bytes(COLOUR)).hexdigest()
        assert photo.lineage.weights == {"toy.bin": sha256}
    ((small, large), _) = toy_removal.calls.pop()
    assert not toy_removal.calls, "both photos go together"
    assert small.shape == (96, 96, 3), "its own context, to a multiple of 32 px"
    assert large.shape == (96, 96, 3), "its own maximum"


def test_its_traits_steer_pools_batches_weights_and_the_hash(recipe: Recipe) -> None:
    remove = next(step for step in steps(recipe, "") if step.name == "remove")
    assert (remove.pool, remove.photos_per_call) == ("small_gpu", 4)
    assert recipe.is_generative
    assert [section for section, _ in weights_of(recipe)] == ["remove"]
    assert isinstance(recipe.remove, ToyOptions)
    larger = recipe.model_copy(
        update={"remove": recipe.remove.model_copy(update={"batch_size": 9})}
    )
    assert next(step for step in steps(larger, "") if step.name == "remove").photos_per_call == 9
    assert larger.hash == recipe.hash != Recipe.load("telea").hash


def test_a_window_that_it_cannot_fill_costs_no_other_photo(recipe: Recipe) -> None:
    assert isinstance(recipe.remove, ToyOptions)
    fails = recipe.remove.model_copy(update={"fails_at": 0})
    bad, good = marked(), marked()
    cleaned(recipe.model_copy(update={"remove": fails}), bad, good)
    assert (bad.lineage.error_code, bad.lineage.error_stage) == ("model.bad_output", "remove")
    assert tuple(pixels_of(good)[70, 80]) == COLOUR


def test_what_it_needs_and_is_not_installed_is_named(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyOptions, "loader", "package_of_the_toy")
    with pytest.raises(WeightsError, match="toy needs package_of_the_toy") as caught:
        cleaned(recipe, marked())
    assert caught.value.code == "model.not_installed"
