"""What people give as weights that is none: it is refused, and shown so that they recognise it.

GGUF and Keras files are stood in for by the beginning of one: no well-kept
package in the lock writes them. ONNX is written field by field as its schema has it.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file

from manifests.errors import WeightsError
from stages.models.refiners.flux_fill import FluxFill
from stages.models.single_file import load_network
from stages.optional_imports import one_line
from stages.recipe.refiners import (
    AnyRefinementOptions,
    Flux2KleinOptions,
    FluxFillOptions,
    RoremRefinementOptions,
    ZImageOptions,
)
from stages.weights.resolve import get_weights
from tests.support import write
from tests.support.models.tiny_models import (
    save_flux_fill,
    save_klein,
    save_sdxl_inpaint,
    save_z_image,
)

ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x10" + bytes(16)
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\n"
)

#: File -> its content, and what an error shows of it.
HEADS = {
    "q4.gguf": (b"GGUF\x03\0\0\0" + bytes(64), "It begins with b'GGUF"),
    "net.onnx": (ONNX, "pytorch"),
    "net.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "It begins with b'\\x89HDF"),
    "pointer.pt": (POINTER, "It begins with b'version https://git-lfs"),
    "page.pt": (b"\n<!DOCTYPE html><html><head><title>Sign in", "<!DOCTYPE html>"),
    "net.tar.gz": (b"\x1f\x8b\x08" + bytes(64), "It begins with b'\\x1f\\x8b"),
}


@pytest.fixture
def given(tmp_path: Path) -> dict[Path, str]:
    """Files, real where they can be, and what an error shows of each."""
    files = {tmp_path / name: shown for name, (_, shown) in HEADS.items()}
    for name, (head, _) in HEADS.items():
        write(tmp_path / name, head)
    tensors = {
        "kohya.safetensors": "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight",
        "peft.safetensors": "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
        "flux1-fill-dev.safetensors": "double_blocks.0.img_attn.proj.weight",
        "comfy.safetensors": "model.diffusion_model.double_blocks.0.img_attn.proj.weight",
    }
    for name, tensor in tensors.items():
        save_file({tensor: torch.zeros(4, 2)}, tmp_path / name)
        files[tmp_path / name] = f"holds weights of no known network (it begins with {tensor})"
    return files


@pytest.mark.parametrize("options", [FluxFillOptions(), Flux2KleinOptions()])
def test_a_refiner_says_what_it_was_given_and_what_it_takes(
    options: AnyRefinementOptions, given: dict[Path, str]
) -> None:
    for path in given:
        module = options.load_module()
        for load in (module.load, module.load_encoder):
            with pytest.raises(WeightsError) as caught:
                load(get_weights(str(path)).path, options)
            assert caught.value.code == "weights.unusable"
            assert f"{path} is a file, and not the folder of a Flux" in caught.value.message
            assert "`catalog-cleanup models list`" in caught.value.message


@pytest.mark.parametrize(
    ("options", "save", "unused"),
    [
        (FluxFillOptions(), save_flux_fill, ["scheduler"]),
        (Flux2KleinOptions(), save_klein, ["scheduler", "text_encoder/generation_config.json"]),
        (ZImageOptions(), save_z_image, ["scheduler"]),
        (RoremRefinementOptions(), save_sdxl_inpaint, []),
    ],
    ids=lambda each: getattr(each, "method", ""),
)
def test_a_refiner_needs_each_file_of_its_folder(
    options: AnyRefinementOptions, save: Any, unused: list[str], tmp_path: Path
) -> None:
    folder, module = save(tmp_path / "model"), options.load_module()
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        name = path.relative_to(folder).as_posix()
        if name.startswith(tuple(unused)):
            continue
        path.rename(tmp_path / "away")
        load = module.load_encoder if name.startswith(("text", "token")) else module.load
        with pytest.raises(WeightsError, match=str(path.parent)) as caught:
            load(folder, options)
        assert caught.value.code == "weights.unusable", name
        (tmp_path / "away").rename(path)


@pytest.mark.parametrize("purpose", ["Inpainting", "SR"])
def test_what_takes_one_file_shows_what_it_was_given(
    purpose: Literal["Inpainting", "SR"], given: dict[Path, str]
) -> None:
    for path, shown in given.items():
        with pytest.raises(WeightsError) as caught:
            load_network(get_weights(str(path)).path, purpose)
        assert caught.value.code == "weights.unusable"
        assert str(path) in caught.value.message
        assert shown in caught.value.message


def test_folders_where_something_else_is_needed_are_named(
    flux_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="There is no file of weights at"):
        load_network(flux_folder, "SR")
    write(tmp_path / "unet" / "config.json", b"{}")
    with pytest.raises(
        WeightsError, match=r"is not a diffusers pipeline: .* no file named model_index\.json"
    ):
        FluxFill.load(tmp_path / "unet", FluxFillOptions())


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
            load_network(path, "SR")
        messages.append(str(caught.value))
    with pytest.raises(WeightsError) as refused:
        FluxFill.load(folder, FluxFillOptions())
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
    assert one_line(ValueError("")) == "ValueError"
