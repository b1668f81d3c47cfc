"""What people give as weights that is none: each is called by its name, with what is needed.

GGUF and Keras files are stood in for by the beginning of one: no well-kept
package in the lock writes them. ONNX is written field by field as its schema has it.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from manifests.errors import WeightsError
from stages.models.load import load_network
from stages.models.refiners import load_encoder, load_refiner
from stages.recipe.options import Flux2KleinOptions, FluxFillOptions, RefineOptions
from stages.weights.find import find
from stages.weights.foreign import kind_of, reason
from tests.support import write
from tests.support.models.lama_networks import random_upscaler

ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x10" + bytes(16)
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\n"
)

HEADS = {
    "q4.gguf": (b"GGUF\x03\0\0\0" + bytes(64), "a GGUF file"),
    "net.onnx": (ONNX, "an ONNX network"),
    "net.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "a file of Keras"),
    "pointer.pt": (POINTER, "a pointer of git-lfs, and not the file itself (`git lfs pull`)"),
    "page.pt": (b"\n<!DOCTYPE html><html><head><title>Sign in", "a web page"),
    "notes.pt": ("Download the weights from there: …\n".encode("ascii", "replace"), "a text"),
    "net.tar.gz": (b"\x1f\x8b\x08" + bytes(64), "an archive, which is to be unpacked"),
}


@pytest.fixture
def given(tmp_path: Path) -> dict[Path, str]:
    """Files, real where they can be, and what each is."""
    files = {tmp_path / name: kind for name, (_, kind) in HEADS.items()}
    for name, (head, _) in HEADS.items():
        write(tmp_path / name, head)
    loras = {
        "kohya.safetensors": "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight",
        "peft.safetensors": "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
    }
    for name, tensor in loras.items():
        save_file({tensor: torch.zeros(4, 2)}, tmp_path / name)
        files[tmp_path / name] = "a LoRA"
    whole = {
        "flux1-fill-dev.safetensors": "double_blocks.0.img_attn.proj.weight",
        "comfy.safetensors": "model.diffusion_model.double_blocks.0.img_attn.proj.weight",
    }
    for name, tensor in whole.items():
        save_file({tensor: torch.zeros(4, 2)}, tmp_path / name)
        files[tmp_path / name] = "a diffusion model in a single file"
    return files


@pytest.mark.parametrize("options", [FluxFillOptions(), Flux2KleinOptions()])
def test_a_refiner_says_what_it_was_given_and_what_it_takes(
    options: RefineOptions, given: dict[Path, str]
) -> None:
    for path, kind in given.items():
        for load in (load_refiner, load_encoder):
            with pytest.raises(WeightsError) as caught:
                load(options, find(str(path)).path)
            assert caught.value.code == "weights.unusable"
            assert f"{path} is {kind}" in caught.value.message
            assert "not the folder of a Flux" in caught.value.message
            assert "`catalog-cleanup models list`" in caught.value.message


def test_what_takes_one_file_says_what_it_was_given(given: dict[Path, str], tmp_path: Path) -> None:
    for path, kind in given.items():
        with pytest.raises(WeightsError) as caught:
            load_network(find(str(path)).file)
        assert caught.value.code == "weights.unusable"
        assert f"{path} is {kind}" in caught.value.message
    torch.save({"layer.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "lora.pth")
    with pytest.raises(WeightsError, match=r"lora\.pth is a LoRA"):
        load_network(tmp_path / "lora.pth")


def test_folders_where_a_file_is_needed_are_named(flux_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is the folder of a diffusers pipeline, and contains"):
        _ = find(str(flux_folder)).file
    write(tmp_path / "saved" / "saved_model.pb", b"")
    with pytest.raises(WeightsError, match="is a folder, and contains 0 files"):
        _ = find(str(tmp_path / "saved")).file
    write(tmp_path / "unet" / "config.json", b"{}")
    with pytest.raises(WeightsError, match="is the folder of a single model, and no diffusers"):
        load_refiner(FluxFillOptions(), tmp_path / "unet")


def test_weights_that_can_be_read_are_nothing_else(flux_folder: Path, tmp_path: Path) -> None:
    network = random_upscaler(tmp_path / "net.pth")
    assert kind_of(network) == ""
    legacy = tmp_path / "legacy.pth"
    torch.save({"a": torch.zeros(3)}, legacy, _use_new_zipfile_serialization=False)
    assert kind_of(legacy) == ""
    for path in flux_folder.rglob("vae/*.safetensors"):
        assert kind_of(path) == ""
    for damaged in (
        b"",
        b"\0",
        bytes(600),
        b"PK\x03\x04",
        b"\xff" * 600,
        b"\x10" + bytes(7) + b"{",
    ):
        assert kind_of(Path(write(tmp_path / "damaged", damaged))) == ""


def test_no_error_advises_to_switch_a_protection_off(tmp_path: Path, flux_folder: Path) -> None:
    torch.save({"fc.weight": print}, tmp_path / "evil.pth")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"fc.weight": print}))
    folder = tmp_path / "flux"
    (folder / "vae").mkdir(parents=True)
    (folder / "transformer").mkdir()
    for name in ("model_index.json", "vae/config.json", "transformer/config.json"):
        (folder / name).write_bytes((flux_folder / name).read_bytes())
    torch.save({}, folder / "vae" / "diffusion_pytorch_model.bin")
    messages = []
    for path in (tmp_path / "evil.pth", tmp_path / "pickle.pth"):
        with pytest.raises(WeightsError, match="is damaged, or holds no weights") as caught:
            load_network(path)
        messages.append(str(caught.value))
    with pytest.raises(WeightsError) as refused:
        load_refiner(FluxFillOptions(), folder)
    messages.append(str(refused.value))
    for message in messages:
        assert len(message.splitlines()) == 1
        for advice in (
            "weights_only",
            "safe_globals",
            "trust_remote_code",
            "use_safetensors=False",
        ):
            assert advice not in message
    assert reason(ValueError("")) == "ValueError"
