"""Adapters of ``refine.lora``: files as diffusers and Kohya's trainer write them, merged.

Published adapters could not be had; nor can the names in them be checked against the real ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline, FluxFillPipeline
from safetensors.torch import save_file

from manifests.errors import RecipeError, WeightsError
from stages import clean
from stages.recipe import Recipe
from stages.weights.resolve import content_pin, weights_of, with_pins
from tests.support.models.refining import (
    apart,
    load_flux,
    load_klein,
    make_crops,
    make_prompts,
    pictures_of,
)

#: A layer of each kind of block; those of a double block are fused afterwards.
FLUX_LAYERS = {
    "transformer_blocks.0.attn.to_q": (32, 32),
    "single_transformer_blocks.1.proj_mlp": (128, 32),
}
KLEIN_LAYERS = {"transformer_blocks.0.attn.to_k": (32, 32), "proj_out": (16, 32)}


def layers(shapes: dict[str, tuple[int, int]], rank: int = 4) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    found = {}
    for name, (out, into) in shapes.items():
        found[f"{name}.lora_A.weight"] = torch.randn(rank, into, generator=random)
        found[f"{name}.lora_B.weight"] = torch.randn(out, rank, generator=random)
    return found


def save(folder: Path, family: str, **metadata: Any) -> Path:
    """An adapter as diffusers' training scripts save it."""
    kind = FluxFillPipeline if family == "flux" else Flux2KleinInpaintPipeline
    kind.save_lora_weights(
        folder,
        transformer_lora_layers=layers(FLUX_LAYERS if family == "flux" else KLEIN_LAYERS),
        transformer_lora_adapter_metadata=metadata or None,
    )
    return folder / "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("family", ["flux", "klein"])
def test_an_adapter_is_merged_as_by_hand(
    family: str, flux_folder: Path, klein_folder: Path, tmp_path: Path
) -> None:
    folder, load = (flux_folder, load_flux) if family == "flux" else (klein_folder, load_klein)
    shapes = FLUX_LAYERS if family == "flux" else KLEIN_LAYERS
    file = save(tmp_path, family, r=4, lora_alpha=2)
    pixels, masks = make_crops(1)
    prompts = make_prompts(1, dim=32 if family == "flux" else 48)

    def run(**options: Any) -> Any:
        return pictures_of(load(folder, **options).refine(pixels, masks, prompts, [1]))[0]

    plain, merged, off = run(), run(lora=[str(file)]), run(lora=[str(tmp_path)], lora_scales=[0])

    by_hand, tensors = load(folder), layers(shapes)
    fused = {"to_q": slice(0, 32), "to_k": slice(32, 64)}
    for name in shapes:
        added = 0.5 * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        parent, _, last = name.rpartition(".")
        layer = by_hand.pipe.transformer.get_submodule(
            f"{parent}.to_qkv" if last in fused else name
        )
        layer.weight.data[fused.get(last, slice(None))] += added
    expected = pictures_of(by_hand.refine(pixels, masks, prompts, [1]))[0]
    assert np.array_equal(plain, off)
    assert apart(plain, merged) > 1
    assert np.abs(merged - expected).max() <= 1


def test_kohyas_names_and_alphas_and_inputs_that_fill_alone_has(
    flux_folder: Path, tmp_path: Path
) -> None:
    one, other = torch.randn(4, 32), torch.randn(32, 4)
    name = "lora_unet_double_blocks_0_img_attn_proj"
    kohya = {
        f"{name}.lora_down.weight": one,
        f"{name}.lora_up.weight": other,
        f"{name}.alpha": torch.tensor(1.0),
    }
    save_file(kohya, tmp_path / "kohya.safetensors")
    dev = layers({"x_embedder": (32, 64)})
    tensors = {f"transformer.{key}": value for key, value in dev.items()}
    save_file(tensors, tmp_path / "dev.safetensors")

    files = [str(tmp_path / name) for name in ("kohya.safetensors", "dev.safetensors")]
    before = load_flux(flux_folder).pipe.transformer
    after = load_flux(flux_folder, lora=files).pipe.transformer

    change = (after.x_embedder.weight - before.x_embedder.weight).detach()
    assert torch.allclose(
        change[:, :64], dev["x_embedder.lora_B.weight"] @ dev["x_embedder.lora_A.weight"], atol=1e-5
    )
    assert not change[:, 64:].any()
    out = [each.transformer_blocks[0].attn.to_out[0].weight.detach() for each in (before, after)]
    assert torch.allclose(out[1] - out[0], 0.25 * other @ one, atol=1e-5), "alpha / rank"


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (layers({"no_such.block": (8, 8)}), "layer transformer.no_such.block is not in this model"),
        (layers({"x_embedder": (8, 8)}), "shapes are"),
        (layers(FLUX_LAYERS) | {"x_embedder.lora_B.bias": torch.zeros(32)}, "lora_B.bias"),
        (layers(FLUX_LAYERS) | {"x_embedder.dora_scale": torch.zeros(32)}, "more than a LoRA"),
        ({"weight": torch.zeros(2)}, "cannot be merged, such as"),
    ],
    ids=["another network", "another size", "a bias", "DoRA", "no adapter"],
)
def test_what_is_not_an_adapter_of_this_network_is_refused(
    tensors: dict[str, torch.Tensor], says: str, flux_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.safetensors"
    save_file({f"transformer.{key}": value for key, value in tensors.items()}, file)
    with pytest.raises(WeightsError) as raised:
        load_flux(flux_folder, lora=[str(file)])
    assert raised.value.code == "weights.unusable"
    assert "mine.safetensors" in raised.value.message
    assert says in raised.value.message


def test_damaged_files_and_pickles_are_refused(flux_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"\0" * 100)
    torch.save({}, tmp_path / "mine.bin")
    for name, says in (("mine.safetensors", "cannot be read"), ("mine.bin", "neither a .safeten")):
        with pytest.raises(WeightsError, match=says) as raised:
            load_flux(flux_folder, lora=[str(tmp_path / name)])
        assert raised.value.code == "weights.unusable"


def test_a_recipes_adapters_count_by_content_and_are_recorded(
    flux_folder: Path, tmp_path: Path, cache: Path
) -> None:
    first, second = save(tmp_path / "a", "flux"), save(tmp_path / "b", "flux", r=4, lora_alpha=1)
    pixels, (mask,) = make_crops(1, 96, 96)[0][0], make_crops(1, 96, 96)[1]
    changes = {
        "refine.weights": str(flux_folder),
        "refine.steps": 1,
        "refine.size_px": 64,
        "refine.dtype": "float32",
    }

    def pinned(*files: Path) -> Recipe:
        recipe = Recipe.load("flux-fill", changes | {"refine.lora": [str(each) for each in files]})
        return with_pins(
            recipe, {option_path: content_pin(ref) for option_path, ref in weights_of(recipe)}
        )

    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(first.read_bytes())
    recipe = pinned(first, second)
    assert [option_path for option_path, _ in weights_of(recipe)] == [
        "refine", "refine.lora.0", "refine.lora.1"]  # fmt: skip
    assert pinned(first).hash == pinned(copy).hash
    assert len({each.hash for each in (pinned(), pinned(first), pinned(second), recipe)}) == 4
    with pytest.raises(RecipeError, match="lora_scales needs one value for each"):
        Recipe.load("flux-fill", {"refine.lora_scales": [0.5]})

    with pytest.warns(UserWarning, match="not for commercial use") as told:
        result = clean(pixels, mask, recipe=pinned(first))
    assert len(told) == 1
    name, sha256 = (
        "lora 1: pytorch_lora_weights.safetensors",
        content_pin(str(first)).partition(":")[2],
    )
    assert result.record.weights[name] == sha256
    first.write_bytes(second.read_bytes())
    with pytest.raises(WeightsError) as raised, pytest.warns(UserWarning, match="commercial"):
        clean(pixels, mask, recipe=recipe)
    assert raised.value.code == "weights.mismatch"
