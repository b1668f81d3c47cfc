"""``stages.clean`` with models: tiny networks and random weights."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stages import cleaner
from stages.arrays import UInt8Array
from stages.cleaner import Cleaner, clean
from stages.models.lama import Lama
from stages.recipe import Recipe
from tests.support.models.networks import make_lama
from tests.support.models.tiny_models import save_flux_fill

BOX = [30, 40, 20, 16]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of LaMa each time that it is loaded."""
    cleaner._with_models.cache_clear()
    calls: list[str] = []
    real: Callable[..., Lama] = Lama.load

    def load(path: Path, options: Any, *device: Any) -> Lama:
        calls.append(options.weights)
        return real(path, options, *device)

    monkeypatch.setattr(Lama, "load", load)
    return calls


@pytest.fixture
def lama(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "lama.safetensors"
    save_file(make_lama().state_dict(), path)
    return {"remove.weights": str(path), "remove.dtype": "float32"}


def test_models_load_once_for_a_recipe_however_many_threads_ask(
    coffee: UInt8Array, lama: dict[str, Any], loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = coffee[:96, :96]
    busy, most = [0], [0]
    forward: Callable[..., Any] = nn.Sequential.forward
    guard = threading.Lock()

    def counted(self: nn.Sequential, given: Any) -> Any:
        with guard:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        try:
            return forward(self, given)
        finally:
            with guard:
                busy[0] -= 1

    def cleaned(_: int) -> bytes:
        return clean(photo, recipe="lama", boxes=BOX, options=lama).data

    one = cleaned(0)
    assert clean(photo, recipe="telea", boxes=BOX).data != one
    monkeypatch.setattr(nn.Sequential, "forward", counted)
    alone = cleaned(0)
    deepest, most[0] = most[0], 0
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(cleaned, range(3)))
    assert {one, alone, *together} == {one}
    assert len(loaded) == 1
    assert most[0] == deepest, "networks take photo by photo"
    cleaned_again = clean(photo, recipe="lama", boxes=BOX, options=lama | {"mask.dilate_px": 4})
    assert cleaned_again.data != one
    assert len(loaded) == 2


def test_the_first_photos_of_threads_that_start_at_once_share_the_models(
    coffee: UInt8Array, lama: dict[str, Any], loaded: list[str]
) -> None:
    start = threading.Barrier(3)

    def cleaned(_: int) -> bytes:
        start.wait()
        return clean(coffee[:96, :96], recipe="lama", boxes=BOX, options=lama).data

    with ThreadPoolExecutor(3) as pool:
        assert len({*pool.map(cleaned, range(3))}) == 1
    assert len(loaded) == 1


def test_the_record_names_weights_and_the_hash_is_that_of_a_run(
    coffee: UInt8Array, lama: dict[str, Any], loaded: list[str]
) -> None:
    record = clean(coffee[:96, :96], recipe="lama", boxes=BOX, options=lama).record
    (sha256,) = record.weights.values()
    pinned = Recipe.load("lama", lama | {"remove.weights_pin": f"sha256:{sha256}"})
    assert record.recipe_hash == pinned.hash
    assert Cleaner(pinned).clean(coffee[:96, :96], boxes=BOX).record.recipe_hash == pinned.hash
    assert len(loaded) == 2, "a Cleaner has models of its own"


def test_a_licence_that_forbids_commercial_use_is_told_once(
    coffee: UInt8Array, tmp_path: Path
) -> None:
    cleaner._with_models.cache_clear()
    torch.manual_seed(0)
    options = {
        "refine.weights": str(save_flux_fill(tmp_path / "flux")),
        "refine.size_px": 64,
        "refine.steps": 1,
        "refine.dtype": "float32",
    }

    def cleaned() -> bytes:
        return clean(coffee[:96, :96], recipe="flux-fill", boxes=BOX, options=options).data

    with pytest.warns(UserWarning, match="not for commercial use") as told:
        first = cleaned()
    assert len(told) == 1
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cleaned() == first
