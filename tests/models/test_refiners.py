"""Refiners with small random weights: batches, and what can go wrong.

What these and the other tests of refiners cannot see: whether the published weights load, what the
real models paint, real memory limits, and what takes a GPU (fp8, offload, generated code).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from manifests.errors import RowError, WeightsError
from stages.models.refiners.base import DiffusionRefiner
from stages.models.refiners.flux_fill import FluxFill
from stages.recipe.refiners import AnyRefinementOptions, Flux2KleinOptions, FluxFillOptions
from tests.support.models.refining import (
    apart,
    load_flux,
    load_klein,
    make_crops,
    make_prompts,
    pictures_of,
)


@pytest.fixture
def own_folder(flux_folder: Path, tmp_path: Path) -> Path:
    """A copy to do harm to."""
    return Path(shutil.copytree(flux_folder, tmp_path / "own"))


@pytest.mark.parametrize("family", ["flux", "klein"])
def test_a_batch_equals_its_crops_one_by_one(
    family: str, flux_folder: Path, klein_folder: Path
) -> None:
    """Within one level of 255 in float32: sums run in another order."""
    if family == "flux":
        refiner: DiffusionRefiner = load_flux(flux_folder, batch_size=2)
        prompts = make_prompts(4)
    else:
        refiner = load_klein(klein_folder, batch_size=2)
        prompts = make_prompts(4, dim=48)
    pixels, masks = make_crops(3)
    wide, wide_masks = make_crops(1, 32, 80)
    pixels, masks = [*pixels[:2], *wide, pixels[2]], [*masks[:2], *wide_masks, masks[2]]
    seeds = [1, 2, 3, 2**32 - 1]

    together = pictures_of(refiner.refine(pixels, masks, prompts, seeds))
    alone = [
        pictures_of(refiner.refine([p], [m], [t], [s]))[0]
        for p, m, t, s in zip(pixels, masks, prompts, seeds, strict=True)
    ]

    assert [picture.shape for picture in together] == [each.shape for each in pixels]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one - other).max() <= 1
    assert apart(together[0], together[1]) > 5  # or the above would prove nothing


@pytest.mark.parametrize("family", ["flux", "klein"])
def test_seed_and_prompt_decide(family: str, flux_folder: Path, klein_folder: Path) -> None:
    refiner = load_flux(flux_folder) if family == "flux" else load_klein(klein_folder)
    first, second = make_prompts(2, dim=32 if family == "flux" else 48)
    pixels, masks = make_crops(1)

    one, same, reseeded, reprompted = pictures_of(
        refiner.refine(pixels * 4, masks * 4, [first, first, first, second], [7, 7, 8, 7])
    )

    assert np.array_equal(one, same)
    assert apart(one, reseeded) > 1
    assert apart(one, reprompted) > 0.01


def test_wrong_input_is_the_callers_fault(flux_folder: Path) -> None:
    refiner, prompts = load_flux(flux_folder), make_prompts(1)
    pixels, masks = make_crops(1, 48, 72)
    with pytest.raises(ValueError, match="multiples of 16"):
        refiner.refine(pixels, masks, prompts, [0])
    pixels, masks = make_crops(1)
    with pytest.raises(ValueError, match="do not match"):
        refiner.refine(pixels, [masks[0][:32]], prompts, [0])
    with pytest.raises(ValueError, match="uint8"):
        refiner.refine(pixels, [masks[0] > 0], prompts, [0])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="zip"):
        refiner.refine(pixels, masks, prompts, [])
    assert refiner.refine([], [], [], []) == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without_one_weight(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["proj_out.bias"]
    save_file(weights, path, metadata={"format": "pt"})


def _as_pickle(folder: Path) -> None:
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    path.unlink()
    torch.save({}, path.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda d: (d / "model_index.json").unlink(), "no file named model_index.json"),
        (lambda d: (d / "model_index.json").write_text("{"), "not a valid JSON file"),
        (lambda d: (d / "model_index.json").write_text("[]"), "is not a diffusers pipeline"),
        (lambda d: (d / "model_index.json").write_text('{"_class_name": "X"}'), "holds a X"),
        (lambda d: shutil.rmtree(d / "vae"), "lacks vae/"),
        (lambda d: (d / "transformer" / "config.json").unlink(), "transformer"),
        (lambda d: _cut(d / "transformer/diffusion_pytorch_model.safetensors"), "transformer"),
        (lambda d: _cut(d / "vae/diffusion_pytorch_model.safetensors"), "vae"),
        (_without_one_weight, "lacks 1 weights, such as proj_out.bias"),
        (_as_pickle, "vae"),
    ],
    ids=range(10),
)
def test_folders_that_are_not_right(harm: Any, says: str, own_folder: Path) -> None:
    harm(own_folder)

    with pytest.raises(WeightsError) as raised:
        load_flux(own_folder)

    assert raised.value.code == "weights.unusable"
    assert says in raised.value.message


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "text_encoder_2"])
def test_refining_needs_no_text_encoder_and_encoding_needs_all(part: str, own_folder: Path) -> None:
    shutil.rmtree(own_folder / part)

    load_flux(own_folder)
    with pytest.raises(WeightsError, match=f"lacks {part}/"):
        FluxFill.load_encoder(own_folder, FluxFillOptions())


def test_folders_of_another_refiner(flux_folder: Path, klein_folder: Path, tmp_path: Path) -> None:
    wrong: list[tuple[AnyRefinementOptions, Path]] = [
        (FluxFillOptions(), klein_folder),
        (Flux2KleinOptions(), flux_folder),
        (Flux2KleinOptions(), tmp_path),
    ]
    for options, folder in wrong:
        module = options.load_module()
        for load in (module.load, module.load_encoder):
            with pytest.raises(WeightsError) as raised:
                load(folder, options)
            assert raised.value.code == "weights.unusable"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_not_a_number_fails_its_own_crop_alone(dtype: Any, flux_folder: Path) -> None:
    refiner = load_flux(flux_folder, dtype=dtype)
    good, bad = make_prompts(2)
    bad.embeds[:] = np.nan
    pixels, masks = make_crops(2)

    fine, failed = refiner.refine(pixels, masks, [good, bad], [1, 2])

    assert isinstance(fine, np.ndarray)
    assert isinstance(failed, RowError)
    assert failed.code == "model.bad_output"


def test_weights_that_are_not_numbers_and_black_pictures(flux_folder: Path) -> None:
    pixels, masks = make_crops(1)
    refiner = load_flux(flux_folder)
    last = refiner.pipe.vae.decoder.conv_out
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(-2)
    (black,) = refiner.refine(pixels, masks, make_prompts(1), [1])
    (dark,) = refiner.refine([pixels[0] // 100], masks, make_prompts(1), [1])
    with torch.no_grad():
        refiner.pipe.transformer.proj_out.weight.fill_(torch.nan)
    (nothing,) = refiner.refine(pixels, masks, make_prompts(1), [1])

    assert isinstance(black, RowError)
    assert "black" in black.message
    assert isinstance(dark, np.ndarray)  # from a black crop, black is an answer
    assert isinstance(nothing, RowError)
    assert nothing.code == black.code == "model.bad_output"


def test_what_overflows_in_16_bits_is_decoded_in_32(flux_folder: Path) -> None:
    pixels, masks = make_crops(1)
    prompts = make_prompts(1)
    results = {}
    for dtype in ("float32", "float16"):
        refiner = load_flux(flux_folder, dtype=dtype)
        with torch.no_grad():  # passes float16's range of 65,504 and comes back
            refiner.pipe.vae.decoder.conv_norm_out.weight.fill_(6e4)
            refiner.pipe.vae.decoder.conv_out.weight.mul_(1e-4)
        results[dtype] = pictures_of(refiner.refine(pixels, masks, prompts, [1]))[0]
        assert refiner.pipe.vae.dtype == refiner.dtype

    assert apart(results["float32"], results["float16"]) < 8

    def short_of_memory(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].dtype is torch.float32:
            raise torch.OutOfMemoryError("simulated")

    hook = refiner.pipe.vae.decoder.register_forward_pre_hook(short_of_memory)
    (failed,) = refiner.refine(pixels, masks, prompts, [1])
    assert isinstance(failed, RowError)
    assert failed.code == "model.out_of_memory"
    assert {each.dtype for each in refiner.pipe.vae.parameters()} == {torch.float16}
    hook.remove()
    (again,) = pictures_of(refiner.refine(pixels, masks, prompts, [1]))
    assert np.array_equal(again, results["float16"])


def test_batches_are_halved_until_they_fit(flux_folder: Path) -> None:
    """Memory that runs out is only played; what a real GPU frees in between is not seen."""
    refiner = load_flux(flux_folder, batch_size=8)
    pixels, masks = make_crops(5)
    prompts = make_prompts(5)
    expected = pictures_of(refiner.refine(pixels, masks, prompts, [1, 2, 3, 4, 5]))
    sizes: list[int] = []
    limit = 2

    def short_of_memory(_: Any, __: Any, call: dict[str, Any]) -> None:
        sizes.append(len(call["hidden_states"]))
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("simulated")

    refiner.pipe.transformer.register_forward_pre_hook(short_of_memory, with_kwargs=True)
    halved = pictures_of(refiner.refine(pixels, masks, prompts, [1, 2, 3, 4, 5]))
    assert np.abs(np.asarray(halved) - np.asarray(expected)).max() <= 1
    assert list(dict.fromkeys(sizes)) == [5, 2, 1]

    limit = 0
    failed = refiner.refine(pixels[:2], masks[:2], prompts[:2], [1, 2])
    codes = [result.code for result in failed if isinstance(result, RowError)]
    assert codes == ["model.out_of_memory"] * 2
