"""The doctor's checks of a recipe; ``tests/storage`` and ``tests/ray`` have those of S3 and Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.pools import PoolsOptions
from jobs import doctor
from jobs.doctor import Finding, examine
from stages import optional_imports
from stages.recipe import Recipe


def of_recipe(recipe: Recipe) -> Finding:
    """The finding on the recipe, which comes before Ray starts."""
    return next(found for found in examine(recipe, PoolsOptions()) if found.subject == "Recipe")


def test_a_recipe_whose_libraries_or_weights_are_missing_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("CATALOG_CLEANUP_CACHE", str(tmp_path))
    monkeypatch.delenv("LAMA_MODEL", raising=False)
    absent = Recipe.load("lama", [f"remove.weights={tmp_path / 'absent.pt'}"])
    assert of_recipe(absent).state == "bad"
    assert of_recipe(Recipe.load("telea")).result == "telea, which needs no weights"
    assert of_recipe(Recipe.load("lama")).result == (
        "lama, with big-lama; a run downloads big-lama (206 MB)"
    )
    monkeypatch.setattr(optional_imports, "find_spec", lambda name: name != "torch")
    assert of_recipe(Recipe.load("telea")).state == "ok"
    found = of_recipe(Recipe.load("lama"))
    assert (found.state, found.result) == ("bad", "The recipe lama needs torch.")


def test_each_option_has_an_effect_with_an_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_s3_access", lambda uri: f"{uri} was used")
    monkeypatch.setattr(optional_imports, "find_spec", lambda _: False)
    found = [*examine(Recipe.load("lama"), PoolsOptions(), "127.0.0.1:9", "s3://shop")]
    assert [(each.subject, each.state) for each in found] == [
        ("Recipe", "ok"),  # the cluster's nodes have the libraries
        ("s3://shop", "ok"),
        ("Ray", "bad"),
    ]
