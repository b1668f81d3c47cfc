"""Recipes: validated and explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from manifests.errors import RecipeError
from stages.recipe import Recipe, preset_names
from stages.recipe.removal_methods import TeleaOptions


@pytest.mark.parametrize("name", preset_names())
def test_toml_reads_back_as_the_same_recipe(name: str, tmp_path: Path) -> None:
    recipe = Recipe.load(name)
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml())
    assert Recipe.load(str(copy)) == recipe
    assert recipe.description


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Recipe.load("telea").mask.dilate_px = 9  # type: ignore[misc]


def test_set_reaches_nested_options_with_their_types() -> None:
    options = ["mask.dilate_px=9", "mask.polarity = dark", "remove.radius_px=2"]
    recipe = Recipe.load("telea", options)
    assert recipe.mask.dilate_px == 9
    assert recipe.mask.polarity == "dark"
    assert recipe.remove == TeleaOptions(radius_px=2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("crop.contxt=2", "crop.contxt is not an option (did you mean crop.context?)"),
        ("corp.context=2", "corp is not an option (did you mean crop"),
        ("remove.radius=2", "remove.radius is not an option (did you mean remove.radius_px?)"),
        ("crop.context=big", "crop.context = 'big'"),
        ("crop.context=0.5", "crop.context = 0.5: Input should be greater than or equal to 1"),
        (
            "remove.method=tela",
            "'tela' is none of 'telea', 'navier-stokes', 'patchmatch', 'lama', 'osor', 'rorem'",
        ),
        ("remove.patch_radius_px=5", "remove.patch_radius_px is an option of another method"),
        ("crop.aspect=0.001", "must be 0, or 0.1 to 10"),
        ("mask.polarity=black", "mask.polarity = 'black': Input should be 'light' or 'dark'"),
        ("mask.channel=red", "mask.channel = 'red': Input should be 'luminance' or 'alpha'"),
        ("mask.dilate_share=3", "mask.dilate_share = 3: Input should be less than or equal to 0.1"),
        ("name.x=1", "name is not a section"),
        ("mask", "not of the form path.to.option=value"),
        ("=1", "not of the form path.to.option=value"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.load("telea", [override])
    assert caught.value.code == "recipe.invalid"
    assert message in str(caught.value)


def test_the_method_can_be_changed_on_the_command_line() -> None:
    recipe = Recipe.load("patchmatch", ["remove.method=telea", "remove.radius_px=2"])
    assert recipe.remove == TeleaOptions(radius_px=2)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"did you mean patchmatch\?") as caught:
        Recipe.load("pathcmatch")
    assert caught.value.code == "recipe.not_found"


def test_a_file_that_is_not_toml_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("name = ")
    with pytest.raises(RecipeError, match="is not TOML"):
        Recipe.load(str(path))


def test_a_misspelt_section_in_a_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[remove]\nmethod = "telea"\n[corp]\ncontext = 2\n')
    with pytest.raises(RecipeError, match="corp is not an option"):
        Recipe.load(str(path))


def test_a_recipe_with_a_trained_model_is_generative() -> None:
    told = {name: Recipe.load(name).is_generative for name in preset_names()}
    assert {name for name, generative in told.items() if not generative} == {
        "declutter",
        "telea",
        "navier-stokes",
        "patchmatch",
    }
