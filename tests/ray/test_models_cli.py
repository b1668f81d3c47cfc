"""``catalog-cleanup models``, and what other commands report of models."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from jobs.preflight import check_weights
from jobs.run import run
from manifests.errors import ClusterError, WeightsError
from stages.recipe import Recipe
from stages.weights.registry import registered_models
from stages.weights.resolve import cached, get_weights
from tests.conftest import Command
from tests.ray.test_weights import recipe
from tests.support import DEMO, last_run, write
from tests.support.web_server import HUB_FILES, SHA256, WEIGHTS, Web, error_of


def test_pull_copies_to_a_folder_and_to_s3(
    registered: Path, web: Web, s3: str, tmp_path: Path, invoke: Command
) -> None:
    there = f"{s3}/pulled/{tmp_path.name}"
    for destination in (str(tmp_path / "copies"), there):
        done = invoke("models", "pull", "big-lama", "--to", destination)
        assert done.returncode == 0, done.stderr
        assert f"Copied; use this in recipes: {destination}/lama.pt" in done.stdout
        copied = get_weights(f"{destination}/lama.pt")
        assert (copied.sha256, copied.name) == (SHA256, "big-lama"), "recognised by its hash"
    assert web.downloads("/lama.pt") == 1
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["lama.pt"]
    web.offer_repo("shop/fill", HUB_FILES)
    done = invoke("models", "pull", "hub", "--to", there, HF_ENDPOINT=web.url)
    assert done.returncode == 0, done.stderr
    assert "hf://shop/fill: 4 files, 1 MB" in done.stdout
    assert (get_weights(f"{there}/hub").path / "vae" / "net.safetensors").read_bytes() == WEIGHTS
    told = invoke("models", "pull", "not-to-sell").stdout
    assert "CC BY-NC-SA 4.0, https://example.org/licence; not for commercial use" in told
    full = invoke("models", "pull", "big-lama", "--to", "/proc/none")
    assert "error output.not_writable: Cannot store /proc/none/lama.pt: " in full.stderr
    wrong = invoke("models", "pull", "big-lama", "--to", "gs://shop/models")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "neither a local path nor" in " ".join(wrong.stderr.split())


def test_list_and_doctor_tell_what_is_here(registered: Path, web: Web, invoke: Command) -> None:
    get_weights("big-lama")
    told = invoke("models", "list").stdout
    assert "big-lama\n    remove, size unknown; Apache-2.0; commercial use: yes" in told
    assert f"cached: {cached(registered_models()['big-lama'])}" in told
    assert "not-to-sell\n    remove, size unknown; CC BY-NC-SA 4.0; commercial use: no" in told
    assert "hf://shop/fill, requires accepting its licence there, not pinned: " in told
    assert "LAMA_MODEL=/x" in invoke("models", "list", LAMA_MODEL="/x").stdout
    assert "Weights: big-lama in " in invoke("doctor", RAY_ADDRESS="127.0.0.1:9").stdout
    broken = invoke("models", "list", CATALOG_CLEANUP_MODELS="/nowhere.toml")
    assert (broken.returncode, len(broken.stderr.splitlines())) == (1, 1)


def test_verify_finds_what_was_tampered_with(registered: Path, web: Web, invoke: Command) -> None:
    assert invoke("models", "verify").stdout == "0 of 0 match.\n"
    path = get_weights("big-lama").path
    get_weights(f"{web.url}/lama.pt")
    fine = invoke("models", "verify")
    assert fine.returncode == 0
    assert f"ok    big-lama: sha256 {SHA256}, as registered" in fine.stdout
    assert f"ok    {web.url}/lama.pt: sha256 {SHA256}, as at download" in fine.stdout
    stat = path.stat()
    path.write_bytes(bytes(reversed(WEIGHTS)))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert get_weights("big-lama").sha256 == SHA256, "size and time say that nothing changed"
    bad = invoke("models", "verify", "big-lama")
    assert bad.returncode == 3
    assert f"bad   {path}: sha256 " in bad.stdout
    assert f"not {SHA256} as expected. Delete {path.parent}, and" in bad.stdout
    path.touch()
    assert error_of("big-lama").code == "weights.wrong_hash"
    missing = invoke("models", "verify", "mirrored")
    assert missing.returncode == 1
    assert "mirrored is not in this machine's cache" in missing.stderr


def test_a_licence_is_told_once_and_kept_with_the_run(registered: Path, tmp_path: Path) -> None:
    """Both before the run reaches its cluster, of which there is none here."""
    photo, mask = next((DEMO / "photos").iterdir()), next((DEMO / "masks").iterdir())
    manifest = write(tmp_path / "m.csv", f"id,image,mask\n1,{photo},{mask}\n")
    chosen = recipe(
        "remove.method=lama", "remove.weights=not-to-sell",
        "upscale.method=model", "upscale.weights=not-to-sell",
    )  # fmt: skip
    console = Console(record=True, quiet=False, file=(tmp_path / "told").open("w"), width=200)
    with console.file, pytest.raises(ClusterError) as caught:
        run(manifest, str(tmp_path / "out"), chosen, console, address="127.0.0.1:9")
    assert caught.value.code == "cluster.unreachable"
    told = (tmp_path / "told").read_text()
    line = "not-to-sell: CC BY-NC-SA 4.0, https://example.org/licence; not for commercial use"
    assert told.count(line) == 1
    noted = last_run(tmp_path / "out")["models"]
    assert noted == {
        section: {
            "ref": "not-to-sell",
            "pin": f"sha256:{SHA256}",
            "name": "not-to-sell",
            "licence": "CC BY-NC-SA 4.0",
            "commercial": False,
            "sha256": "",
        }
        for section in ("remove",)  # without a refiner nothing is enlarged
    }


def test_a_run_and_a_try_without_weights_end_before_anything_starts(
    registered: Path, tmp_path: Path, invoke: Command
) -> None:
    photo, mask = next((DEMO / "photos").iterdir()), next((DEMO / "masks").iterdir())
    write(tmp_path / "m.csv", f"id,image,mask\n1,{photo},{mask}\n")
    options = ("--recipe", "telea", "--set", "remove.method=lama", "--set")
    for call in (("run", "m.csv", "--output", "out"), ("try", photo, mask, "-o", "o.png")):
        done = invoke(*call, *options, "remove.weights=gone")
        assert done.returncode == 1
        assert "error weights.missing: gone " in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out" / "runs").exists()
    assert not (tmp_path / "o.png").exists()


def test_a_recipe_with_models_needs_their_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(WeightsError, match="recipe lama needs torch") as caught:
        check_weights(Recipe.load("lama"), Console(quiet=True), here=True)
    assert caught.value.code == "model.not_installed"
    telea = Recipe.load("telea")
    assert check_weights(telea, Console(quiet=True), here=True) == (telea, {})
