"""A recipe is told by the content of its weights, and machines refuse other content."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from jobs.preflight import check_weights
from jobs.report.listing import select_recipes
from jobs.results.failures import write_failures
from jobs.results.status import recipe_statuses
from jobs.results.verify import verify
from jobs.run import Outcome
from manifests.errors import WeightsError
from manifests.storage.row_files import write as store
from stages.recipe import Recipe
from stages.weights.resolve import content_pin, get_weights
from tests.conftest import Command, Run
from tests.support import DEMO, last_run, write
from tests.support import faulty_steps as doubles
from tests.support.web_server import COMMIT, HUB_FILES, SHA256, WEIGHTS, Web

QUIET = Console(quiet=True)
OTHER = b"another network"
PIN = f"sha256:{SHA256}"

pytestmark = pytest.mark.usefixtures("cache")


def lama(ref: object, *options: str) -> Recipe:
    return Recipe.load("telea", ["remove.method=lama", f"remove.weights={ref}", *options])


def hash_of(ref: object, *, here: bool = False) -> str:
    """As a run has it; ``here``: of one that works on this machine."""
    recipe, used = check_weights(lama(ref), QUIET, here=here)
    assert recipe.remove is not None
    assert used["remove"]["pin"] == getattr(recipe.remove, "weights_pin")  # noqa: B009 - of a union
    return recipe.hash


def test_the_same_bytes_are_the_same_recipe_wherever_they_lie(
    registered: Path, web: Web, s3: str, tmp_path: Path
) -> None:
    store(f"{s3}/{tmp_path.name}/w.pt", WEIGHTS)
    refs = [
        "big-lama",
        "mirrored",
        write(tmp_path / "one" / "w.pt", WEIGHTS),
        write(tmp_path / "two" / "other.pt", WEIGHTS),
        f"file://{tmp_path}/one/w.pt",
        f"{web.url}/lama.pt",
        f"{s3}/{tmp_path.name}/w.pt",
    ]
    assert {content_pin(ref) for ref in refs} == {PIN}
    assert len({hash_of(ref, here=here) for ref in refs for here in (False, True)}) == 1


def test_other_bytes_at_the_same_place_are_another_recipe(
    registered: Path, s3: str, tmp_path: Path
) -> None:
    folder = tmp_path / "pipeline"
    for path, uri in ((tmp_path / "w.pt", f"{s3}/{tmp_path.name}/x.pt"), (folder / "a.pt", "")):
        write(path, WEIGHTS)
        if uri:
            store(uri, WEIGHTS)
        refs = [uri or folder, path]
        before = [hash_of(ref) for ref in refs]
        write(path, OTHER)
        if uri:
            store(uri, OTHER)
        assert not {hash_of(ref) for ref in refs} & set(before)


def test_a_variable_that_names_other_weights_makes_another_recipe(
    registered: Path, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = hash_of("big-lama")
    monkeypatch.setenv("LAMA_MODEL", write(tmp_path / "mine.pt", OTHER))
    assert content_pin("big-lama") == f"sha256:{hashlib.sha256(OTHER).hexdigest()}"
    assert hash_of("big-lama") == hash_of(tmp_path / "mine.pt") != usual
    write(tmp_path / "mine.pt", WEIGHTS)
    assert hash_of("big-lama") == usual


def test_what_is_registered_is_known_without_having_it(registered: Path, web: Web) -> None:
    assert content_pin(f"hf://shop/fill@{COMMIT}") == f"commit:{COMMIT}"
    assert hash_of("big-lama") == hash_of("not-to-sell")
    assert not web.gets


def test_a_hubs_commit_is_its_identity_and_a_branch_is_what_it_holds(
    registered: Path, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.offer_repo("shop/fill", HUB_FILES)
    uri = f"hf://shop/fill@{COMMIT}"
    assert get_weights(uri, pin=f"commit:{COMMIT}").commit == COMMIT
    copy = shutil.copytree(get_weights("hf://shop/fill").path, tmp_path / "copy")
    for ref in ("hf://shop/fill", "hub"):
        assert hash_of(ref) == hash_of(copy) != hash_of(uri)
    assert hash_of("hub-commit") == hash_of(uri)
    assert get_weights("hub-commit", pin=f"commit:{COMMIT}").commit == COMMIT


def test_a_machine_with_other_bytes_refuses_them(
    registered: Path, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "w.pt", WEIGHTS)
    assert get_weights(path, pin=PIN).sha256 == SHA256
    for pin in (f"sha256:{'0' * 64}", f"commit:{COMMIT}"):
        for ref in (path, "big-lama", f"{web.url}/lama.pt"):
            with pytest.raises(WeightsError, match=pin) as caught:
                get_weights(ref, pin=pin)
            assert caught.value.code == "weights.mismatch"
            assert ref in caught.value.message
    monkeypatch.setenv("LAMA_MODEL", write(tmp_path / "mine.pt", OTHER))
    with pytest.raises(WeightsError, match=rf"LAMA_MODEL={tmp_path}/mine\.pt") as caught:
        get_weights("big-lama", pin=PIN)
    assert caught.value.code == "weights.mismatch"
    write(tmp_path / "w.pt", OTHER)
    with pytest.raises(WeightsError):
        get_weights(path, pin=PIN)


def test_a_driver_without_the_weights_asks_for_their_hash(registered: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "nodes" / "only.pt"
    with pytest.raises(WeightsError, match=r"remove\.weights = .*only\.pt cannot be read") as error:
        hash_of(elsewhere)
    assert error.value.code == "weights.unidentified"
    assert "weights_pin" in error.value.remedy
    pinned, used = check_weights(lama(elsewhere, f"remove.weights_pin={PIN}"), QUIET, here=False)
    assert used["remove"]["pin"] == PIN
    write(elsewhere, WEIGHTS)
    assert pinned.hash == hash_of(elsewhere)


def test_the_hash_to_ask_for_is_what_pull_prints(
    registered: Path, tmp_path: Path, invoke: Command
) -> None:
    folder = tmp_path / "pipeline"
    write(folder / "model_index.json", b"{}")
    write(folder / "vae" / "net.safetensors", WEIGHTS)
    printed = invoke("models", "pull", folder).stdout.split("sha256 ")[1].strip()
    assert content_pin(str(folder)) == f"sha256:{printed}"


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    photo, mask = DEMO / "photos" / "coffee-stray-coins.jpg", DEMO / "masks"
    row = f"{photo},{mask}/coffee-stray-coins.png"
    return write(tmp_path / "m.csv", f"id,image,mask\n1,{row}\n2,{row}\nbad,/nowhere.jpg,{mask}\n")


def test_moved_weights_are_no_new_work_and_results_outlive_them(
    tmp_path: Path, catalog: str, on_ray: Run
) -> None:
    """With weights that the steps of this run do not load, after the real preflight."""
    out = str(tmp_path / "out")

    def clean(ref: str) -> Outcome:
        return on_ray(catalog, out, recipe=lama(ref), steps=doubles.without_models)

    assert clean(write(tmp_path / "here" / "w.pt", WEIGHTS)).tally.ok == 2
    first = last_run(out)
    (tmp_path / "here" / "w.pt").rename(tmp_path / "moved.pt")
    assert clean(str(tmp_path / "moved.pt")).tally.ok == 2
    assert last_run(out)["recipe_hash"] == first["recipe_hash"]
    assert {*pd.read_parquet(f"{out}/lineage").run_id} == {first["run_id"]}
    assert clean(write(tmp_path / "moved.pt", OTHER)).tally.ok == 2
    assert last_run(out)["recipe_hash"] != first["recipe_hash"]
    (tmp_path / "moved.pt").unlink()
    assert [verdict.problem for verdict in verify(out)] == ["", ""]
    assert [standing.total.ok for standing in recipe_statuses(out)] == [2, 2]
    assert [results.hash for results in select_recipes(out)] == [
        results.recipe.hash for results in select_recipes(out)
    ]
    assert write_failures(out, str(tmp_path / "failed.jsonl")) == 1
