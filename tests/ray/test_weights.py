"""Weights: from a real HTTP server, a real S3 server and real files, by many processes at once."""

from __future__ import annotations

import hashlib
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.preflight import check_weights, to_download
from manifests.errors import WeightsError
from manifests.storage.row_files import write as store
from stages.recipe import Recipe
from stages.weights import hashes
from stages.weights.cache import entries
from stages.weights.registry import registered_models
from stages.weights.resolve import (
    Weights,
    get_section_weights,
    get_weights,
    how_to_get,
    licence_notices,
    presumed_model,
    weights_of,
    with_absolute_paths,
)
from tests.support import wait_until, write
from tests.support.web_server import HUB_FILES, SHA256, WEIGHTS, Web, error_of

IMPORT = "import sys; from stages.weights.resolve import get_weights;"
PRINT = "w = get_weights(sys.argv[1]); print(w.sha256, w.path)"

pytestmark = pytest.mark.usefixtures("cache")


def test_the_list_holds_what_is_known_and_nothing_can_be_used_unchecked() -> None:
    models = registered_models()
    assert set(models) == {
        "big-lama",
        "flux1-fill-dev",
        "flux2-klein-4b",
        "flux2-small-decoder",
        "2x-animesharpv2-mosr-sharp",
        "osor-sdxl",
        "osor-sdxl-prompt",
        "rorem",
        "sdxl-inpainting",
        "z-image-turbo",
    }
    for model in models.values():
        assert model.content or model.sources[0].startswith("hf://"), model.name
        assert not model.sha256 or len(model.sha256) == 64
        assert all(source.startswith(("https://", "hf://")) for source in model.sources)
    assert "--set refine.decoder=…" in how_to_get(models["flux2-small-decoder"])
    assert {name for name, model in models.items() if not model.commercial} == {
        "flux1-fill-dev",
        "2x-animesharpv2-mosr-sharp",
    }


def test_processes_that_begin_at_once_download_once(registered: Path, web: Web) -> None:
    web.seconds = 0.3
    call = [sys.executable, "-c", f"{IMPORT} print('ready', flush=True); input(); {PRINT}"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([*call, "big-lama"], **pipes) for _ in range(4)]
    for process in running:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0].split() for process in running]
    assert {tuple(line) for line in said} == {(SHA256, said[0][1])}
    assert web.downloads("/lama.pt") == 1


@pytest.mark.parametrize("name", ["big-lama", "mirrored"])
def test_a_registered_model_is_fetched_checked_and_kept(
    registered: Path, web: Web, name: str
) -> None:
    found = get_weights(name)
    assert found == Weights(found.path, SHA256, name, registered_models()[name])
    assert found.path.read_bytes() == WEIGHTS
    web.files.clear()
    assert get_weights(name) == found


def test_what_does_not_have_the_registered_hash_is_not_kept(registered: Path, cache: Path) -> None:
    error = error_of("exchanged")
    assert error.code == "weights.wrong_hash"
    assert SHA256 in error.message
    assert "0" * 64 in error.message
    assert "/lama.pt" in error.message
    assert not entries()
    assert not list(cache.glob("*lama*"))


def test_a_dropped_connection_is_tried_again_and_leaves_nothing(
    registered: Path, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    web.cut = 1
    with caplog.at_level(logging.INFO, "stages.weights"):
        assert get_weights("big-lama").sha256 == SHA256
    assert web.downloads("/lama.pt") == 2
    assert f"{web.url}/lama.pt: 1 files, 1 MB" in caplog.messages
    (retry,) = [line for line in caplog.messages if "Retrying" in line]
    assert "the connection ended after 524,288 of 1,048,576 bytes" in retry
    web.cut = 99
    error = error_of("not-to-sell")
    assert error.code == "weights.missing"
    assert "the connection ended after 524,288 of 1,048,576 bytes" in error.message
    assert len(entries()) == 1


def test_a_kill_leaves_nothing_that_is_used(registered: Path, web: Web, cache: Path) -> None:
    web.seconds = 60.0
    with subprocess.Popen([sys.executable, "-c", IMPORT + PRINT, "big-lama"]) as process:
        wait_until(lambda: list(cache.glob("*/lama.pt")))
        process.send_signal(signal.SIGKILL)
    assert not entries()
    web.seconds = 0.0
    assert get_weights("big-lama").path.read_bytes() == WEIGHTS


def test_an_absent_model_is_told_with_all_ways_to_get_it(registered: Path, web: Web) -> None:
    web.files.clear()
    error = error_of("big-lama")
    assert error.code == "weights.missing"
    assert f"{web.url}/lama.pt: HTTP Error 404" in error.message
    assert "`catalog-cleanup models pull big-lama --to DIR_OR_S3`" in error.message
    assert "--set remove.weights=…, or set LAMA_MODEL to its path" in error.message
    assert "did you mean big-lama?" in error_of("big-lam").message
    assert error_of("gs://bucket/lama.pt").code == "weights.missing"
    assert error_of("").code == "weights.missing"
    assert f"{web.url}/none.pt: HTTP Error 404" in error_of(f"{web.url}/none.pt").message


def test_lama_model_names_a_file_instead_of_the_default(
    registered: Path, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = write(tmp_path / "mine.pt", b"another network")
    monkeypatch.setenv("LAMA_MODEL", mine)
    found = get_weights("big-lama")
    assert (found.path, found.name, found.model) == (Path(mine), "mine.pt", None)
    assert found.sha256 == hashlib.sha256(b"another network").hexdigest()
    assert not web.gets
    assert get_weights("mirrored").sha256 == SHA256, "it replaces the default name only"
    write(tmp_path / "mine.pt", WEIGHTS)
    assert get_weights("big-lama").name == "big-lama", "recognised by its hash"
    monkeypatch.setenv("LAMA_MODEL", "/nowhere/lama.pt")
    assert "LAMA_MODEL=/nowhere/lama.pt is not a file" in error_of("big-lama").message


def test_only_a_hub_needs_a_library_of_the_extra(tmp_path: Path, web: Web) -> None:
    path = write(tmp_path / "a b.safetensors", WEIGHTS)
    check = (
        "import sys; sys.modules.update(huggingface_hub=None, torch=None)\n"
        f"from stages.weights.resolve import get_weights; print(get_weights('file://{tmp_path}/a%20b.safetensors').path)\n"
        f"print(get_weights('{web.url}/lama.pt').sha256)\n"
        "try: get_weights('hf://shop/fill')\n"
        "except Exception as error: print(error.code, error.message)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [path, SHA256]
    assert "model.not_installed hf://shop/fill needs huggingface_hub." in done.stdout


def test_a_folder_is_hashed_by_names_and_contents_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    write(folder / "unet" / "weights.safetensors", WEIGHTS)
    write(folder / "model_index.json", b"{}")
    first = get_weights(str(folder)).sha256
    write(folder / ".cache" / "note", b"hidden files do not count")
    assert get_weights(str(folder)).sha256 == first
    hashes._noted_hash.cache_clear()
    monkeypatch.setattr(hashes, "compute_hash", None)
    assert get_weights(str(folder)).sha256 == first, "another process reads the note of the first"
    monkeypatch.undo()
    monkeypatch.setenv("CATALOG_CLEANUP_CACHE", str(tmp_path / "cache"))
    (folder / "model_index.json").rename(folder / "other.json")
    assert get_weights(str(folder)).sha256 != first


def test_files_and_folders_in_s3(s3: str, tmp_path: Path) -> None:
    uri = f"{s3}/weights/{tmp_path.name}"
    put = {
        "lama.pt": WEIGHTS,
        "fill/model_index.json": b"{}",
        "fill/fill.safetensors": b"the whole in one file",
        "fill/unet/net.safetensors": WEIGHTS,
        "fill/unet/net.bin": b"pickle",
    }
    for name, data in put.items():
        store(f"{uri}/{name}", data)
    assert get_weights(f"{uri}/lama.pt").sha256 == SHA256
    for end in ("", "/"):
        folder = get_weights(f"{uri}/fill{end}").path
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
        assert names == {"model_index.json", "unet/net.safetensors"}
    store(f"{uri}/lama.pt", b"a new one")
    assert get_weights(f"{uri}/lama.pt").path.read_bytes() == b"a new one"
    error = error_of(f"{uri}/none")
    assert error.code == "weights.missing"
    assert f"{uri}/none" in error.message


def test_an_entry_of_ones_own_list_that_is_wrong_is_named(registered: Path) -> None:
    registered.write_text('[mine]\nkind = "paint"\nformat = "pickle"\nsize = "1"\nsha265 = ""\n')
    error = error_of("big-lama")
    assert error.code == "weights.bad_list"
    message = error.message
    assert f"CATALOG_CLEANUP_MODELS={registered}: mine.kind = 'paint': Input should be" in message
    assert "mine.sha265 is not an option" in message
    assert "mine.licence is missing" in message
    registered.write_text('[mine]\nsources = ["/mirror/lama.pt"]\nmd5 = "0"\n')
    error = error_of("big-lama")
    assert error.code == "weights.bad_list"
    message = error.message
    assert "mine.sources.0 = '/mirror/lama.pt': String should match pattern" in message
    assert "mine.md5 is not an option" in message
    registered.write_text(
        '[mine]\nformat = "torchscript"\n[other]\nformat = "pickle"\nsha256 = ""\n'
        '[safe]\nformat = "safetensors"\n[folder]\nformat = "diffusers"\n'
    )
    message = error_of("big-lama").message
    for name in ("mine", "other"):
        assert f"{name}.sha256 = '': a pickle or TorchScript file can run code" in message
    assert message.count("can run code") == 2
    registered.write_text("big-lama = 1")
    assert "big-lama = 1: Input should be" in error_of("big-lama").message


def recipe(*options: str) -> Recipe:
    return Recipe.load("telea", options)


def test_the_parts_of_a_recipe_that_need_weights() -> None:
    assert weights_of(recipe()) == []
    assert weights_of(recipe("upscale.method=lanczos")) == []
    every = recipe(
        "remove.method=lama", "upscale.method=model", "upscale.weights=a.pth",
        "refine.method=flux-fill",
    )  # fmt: skip
    assert weights_of(every) == [
        ("remove", "big-lama"),
        ("upscale", "a.pth"),
        ("refine", "flux1-fill-dev"),
    ]
    assert weights_of(recipe("remove.method=osor", "remove.base_weights=s3://mine/base")) == [
        ("remove", "osor-sdxl"),
        ("remove.base_weights", "s3://mine/base"),
        ("remove.prompt_weights", "osor-sdxl-prompt"),
    ]
    fast = recipe("remove.method=rorem", 'remove.lora=["lcm.safetensors"]', "remove.sampler=lcm")
    assert weights_of(fast) == [("remove", "rorem"), ("remove.lora.0", "lcm.safetensors")]


def test_weights_of_one_name_in_a_section_are_all_recorded(cache: Path, tmp_path: Path) -> None:
    names = {
        "weights": "model.bin",
        "base_weights": "base_weights: model.bin",
        "prompt_weights": "prompt_weights: model.bin",
    }
    paths = {option: tmp_path / option / "model.bin" for option in names}
    for option, path in paths.items():
        write(path, option.encode())
    named = [f"remove.{option}={path}" for option, path in paths.items()]
    located, used = get_section_weights(recipe("remove.method=osor", *named), "remove")
    assert {option: getattr(located, option) for option in paths} == {
        option: str(path) for option, path in paths.items()
    }
    assert used == {
        name: hashlib.sha256(option.encode()).hexdigest() for option, name in names.items()
    }


def test_a_copy_of_a_model_not_for_sale_is_presumed_to_be_under_its_licence() -> None:
    models, copy = registered_models(), "s3://bucket/copy"
    fill, klein = recipe("refine.method=flux-fill"), recipe("refine.method=flux2-klein")
    assert presumed_model(fill, "refine", copy) == models["flux1-fill-dev"]
    assert presumed_model(fill, "refine", "flux2-klein-4b") == models["flux2-klein-4b"]
    assert presumed_model(klein, "refine", copy) is None
    (notice,) = licence_notices(fill)
    assert notice.startswith("flux1-fill-dev: FLUX.1 [dev] Non-Commercial License, https://")
    assert notice.endswith("; not for commercial use unless bought.")
    assert licence_notices(klein) == []


def test_a_licence_that_forbids_some_uses_is_shown_once_for_all_its_models() -> None:
    (notice,) = licence_notices(recipe("remove.method=osor", "remove.base_weights=/mine"))
    assert notice.startswith("osor-sdxl, sdxl-inpainting, osor-sdxl-prompt: CreativeML Open RAIL++")
    assert notice.endswith(
        "; commercial use is allowed except for the uses that its Attachment A forbids."
    )

    refined = recipe("remove.method=rorem", "refine.method=rorem", "refine.weights=/mine")
    assert licence_notices(refined) == [
        "rorem" + notice.removeprefix("osor-sdxl, sdxl-inpainting, osor-sdxl-prompt")
    ]


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.pt", WEIGHTS)
    monkeypatch.chdir(tmp_path)
    made = with_absolute_paths(recipe("remove.method=lama", "remove.weights=mine.pt"))
    assert weights_of(made) == [("remove", str(tmp_path / "mine.pt"))]
    for ref in ("big-lama", "none.pt", "s3://bucket/mine.pt"):
        same = recipe("remove.method=lama", f"remove.weights={ref}")
        assert with_absolute_paths(same) == same


def test_a_cluster_is_told_only_what_is_wrong_everywhere(registered: Path, web: Web) -> None:
    pin = f"remove.weights_pin=sha256:{SHA256}"
    elsewhere = recipe("remove.method=lama", "remove.weights=/on/the/nodes/only.pt", pin)
    _, used = check_weights(elsewhere, Console(quiet=True), here=False)
    assert used["remove"]["ref"] == "/on/the/nodes/only.pt"
    assert used["remove"]["commercial"] is None
    with pytest.raises(WeightsError):
        check_weights(elsewhere, Console(quiet=True), here=True)
    with pytest.raises(WeightsError, match=r"cannot be fetched from gs://shop/lama\.pt"):
        check_weights(
            recipe("remove.method=lama", "remove.weights=gs://shop/lama.pt", pin),
            Console(quiet=True),
            here=False,
        )
    assert not web.gets


@pytest.mark.parametrize("here", [True, False])
def test_a_dry_run_and_the_doctor_download_nothing(
    registered: Path, web: Web, s3: str, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.offer_repo("shop/fill", HUB_FILES)
    store(f"{s3}/dry/w.pt", WEIGHTS)
    for ref in ("hub", "hf://shop/fill", f"{web.url}/lama.pt", f"{s3}/dry/w.pt"):
        chosen = recipe("remove.method=lama", f"remove.weights={ref}")
        dry, used = check_weights(chosen, Console(quiet=True), here=here, download=False)
        assert (dry, to_download(used, here=here)) == (chosen, [ref])
    pinned = recipe("remove.method=lama", "remove.weights=big-lama")
    _, used = check_weights(pinned, Console(quiet=True), here=here, download=False)
    assert (used["remove"]["pin"], used["remove"]["sha256"]) == (f"sha256:{SHA256}", "")
    assert to_download(used, here=here) == (["big-lama"] if here else [])
    assert not web.gets
    chosen = recipe("remove.method=lama", f"remove.weights={web.url}/lama.pt")
    run, _ = check_weights(chosen, Console(quiet=True), here=here)
    dry, used = check_weights(chosen, Console(quiet=True), here=here, download=False)
    assert (dry, to_download(used, here=here)) == (run, []), "it is in the cache"
    absent = recipe("remove.method=lama", "remove.weights=/none.pt")
    with pytest.raises(WeightsError) as caught:
        check_weights(absent, Console(quiet=True), here=here, download=False)
    assert caught.value.code == ("weights.missing" if here else "weights.unidentified")


def test_here_a_run_has_its_weights_before_it_starts(registered: Path, web: Web) -> None:
    chosen = recipe("remove.method=lama", "remove.weights=not-to-sell")
    _, used = check_weights(chosen, Console(quiet=True), here=True)
    assert used["remove"]["sha256"] == SHA256
    assert used["remove"]["commercial"] is False
    assert web.downloads("/lama.pt") == 1
