"""Weights from the Hugging Face Hub, played by a real HTTP server as far as downloads go.

That leaves out its redirects to other hosts, its chunked storage (Xet), and what tokens are worth.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.weights.cache import entries
from stages.weights.resolve import get_weights
from tests.support.web_server import COMMIT, HUB_FILES, WEIGHTS, Web, error_of

pytestmark = pytest.mark.usefixtures("cache")


def test_a_hub_folder_comes_without_pickles(
    registered: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.offer_repo("shop/fill", HUB_FILES)
    found = get_weights("hub")
    names = {each.relative_to(found.path).as_posix() for each in found.path.rglob("*.*")}
    assert names == {
        "model_index.json",
        "README.md",
        "vae/net.safetensors",
        "scheduler/config.json",
    }
    assert get_weights("hf://shop/fill").sha256 == found.sha256
    web.files[f"/shop/fill/resolve/{'a' * 40}/vae/net.safetensors"] = b"x" * len(WEIGHTS)
    error = error_of(f"hf://shop/fill@{'a' * 40}")
    assert "vae/net.safetensors: not the content that the Hugging Face Hub lists" in error.message


def test_a_hub_folder_of_one_network_comes_without_its_copies_for_other_programs(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named as those of FLUX.2-small-decoder."""
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    needed = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": WEIGHTS}
    copies = dict.fromkeys(("small_decoder.safetensors", "full_encoder.safetensors"), WEIGHTS)
    web.offer_repo("shop/decoder", needed | copies)
    found = get_weights(f"hf://shop/decoder@{COMMIT}", part="image")
    assert names_in(found.path) == set(needed)


def test_an_actor_downloads_only_the_part_that_it_runs(
    registered: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    encoder = {"text_encoder_2/net.safetensors": WEIGHTS, "tokenizer/vocab.json": b"{}"}
    web.offer_repo("shop/fill", HUB_FILES | encoder)
    uri = f"hf://shop/fill@{COMMIT}"
    text, image = get_weights(uri, part="text"), get_weights(uri, part="image")
    assert names_in(text.path) == {"model_index.json", *encoder}
    assert not names_in(image.path) & set(encoder)
    assert "vae/net.safetensors" in names_in(image.path)
    assert text.sha256 != image.sha256
    asked = len(web.gets)
    assert get_weights(uri, part="image") == image
    assert len(web.gets) == asked
    whole = get_weights(uri)
    assert names_in(whole.path) > set(encoder)
    again = get_weights(uri, part="image")
    assert (again.path, again.sha256) == (whole.path, image.sha256), "one record on every node"
    branch = get_weights("hf://shop/fill", part="text")
    assert names_in(branch.path) > set(encoder), "identified by all of its files"


def names_in(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*.*")}


def test_a_small_file_of_a_hub_is_compared_with_its_hash_too(
    registered: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.offer_repo("shop/fill", HUB_FILES)
    web.files[f"/shop/fill/resolve/{COMMIT}/scheduler/config.json"] = b"[]"
    error = error_of("hub-commit")
    assert error.code == "weights.missing"
    assert "scheduler/config.json: not the content that the Hugging Face Hub lists" in error.message
    assert not entries()


def test_a_hubs_file_names_are_no_patterns(
    registered: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    names = {"model_index.json", "vae/net[1].safetensors"}
    web.offer_repo("shop/odd", dict.fromkeys(names, b"{}") | {"vae/net1.bin": b"pickle"})
    resolved = f"/shop/odd/resolve/{COMMIT}/vae/"
    web.files[f"{resolved}net%5B1%5D.safetensors"] = web.files[f"{resolved}net[1].safetensors"]
    found = get_weights("hf://shop/odd")
    assert {each.relative_to(found.path).as_posix() for each in found.path.rglob("*.*")} == names


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("code", ["GatedRepo", ""])
def test_a_gated_hub_is_told_with_its_page(
    registered: Path, web: Web, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    web.offer_repo("shop/fill", HUB_FILES)
    for path in web.files:
        if "/resolve/" in path:
            web.refuse[path] = (status, code)
    error = error_of("hub")
    assert error.code == "weights.gated"
    assert "hf://shop/fill" in error.message
    assert "https://huggingface.co/shop/fill" in error.message
    assert "set HF_TOKEN" in error.remedy
    assert error_of("hf://shop/fill").code == "weights.gated"
    assert error_of("hf://shop/none").code == "weights.missing"
    assert not entries()
