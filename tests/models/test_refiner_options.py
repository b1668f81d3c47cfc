"""Prompts apart from the model, and each switch: it works, or it is said that it cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from manifests.errors import RowError, WeightsError
from stages.models.refiners import diffusers_folder
from stages.models.refiners.flow import unshifted_scheduler
from stages.models.refiners.flux2_klein import Flux2Klein
from stages.models.refiners.flux_fill import FluxFill
from stages.models.refiners.prompts import Prompt
from stages.recipe.refiners import FluxFillOptions
from tests.support.models.lama_networks import needs_gpu
from tests.support.models.networks import make_flux_fill
from tests.support.models.refining import (
    apart,
    load_flux,
    load_klein,
    make_crops,
    make_prompts,
    pictures_of,
)


def test_flux_prompts_equal_the_whole_pipelines(flux_folder: Path) -> None:
    encode = FluxFill.load_encoder(flux_folder, FluxFillOptions(dtype="float32"))
    whole = FluxFillPipeline.from_pretrained(flux_folder, local_files_only=True)

    prompt = encode("a wooden table")
    embeds, pooled, _ = whole.encode_prompt("a wooden table", None, max_sequence_length=256)

    assert prompt.embeds.shape == (256, 32)
    assert np.allclose(prompt.embeds, embeds[0].detach().numpy(), atol=1e-4)
    assert np.allclose(prompt.pooled, pooled[0].detach().numpy(), atol=1e-4)
    assert encode("a wooden table") is prompt  # encoded once
    assert prompt.text_hash != encode("").text_hash
    assert not np.array_equal(prompt.embeds, encode("").embeds)


def test_a_text_that_does_not_fit_into_memory_is_an_error_of_its_row(flux_folder: Path) -> None:
    encode = FluxFill.load_encoder(flux_folder, FluxFillOptions(dtype="float32"))
    out_of_memory = torch.OutOfMemoryError("CUDA out of memory")
    with (
        mock.patch.object(FluxFillPipeline, "encode_prompt", side_effect=out_of_memory),
        pytest.raises(RowError) as caught,
    ):
        encode("a wooden table")
    assert caught.value.code == "model.out_of_memory"
    assert encode("a wooden table").embeds.any(), "the next one may fit"


@pytest.mark.parametrize(
    ("letters", "tokens"), [(0, 256), (200, 256), (254, 256), (300, 302), (510, 512), (700, 512)]
)
def test_flux_pads_short_texts_and_keeps_all_of_long_ones(
    letters: int, tokens: int, flux_folder: Path
) -> None:
    """The test's tokenizer makes a token of each letter, of the first space, and of the end."""
    encode = FluxFill.load_encoder(flux_folder, FluxFillOptions(dtype="float32"))
    text = "".join(chr(97 + index % 26) for index in range(letters))

    assert encode(text).embeds.shape == (tokens, 32)
    if 254 < letters < 510:
        assert not np.array_equal(encode(text).embeds, encode(text[:-1] + "!").embeds)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_prompts_travel_as_bytes_without_loss(dtype: Any, flux_folder: Path) -> None:
    prompt = FluxFill.load_encoder(flux_folder, FluxFillOptions(dtype=dtype))("grass")

    packed = prompt.to_bytes()
    again = Prompt.from_bytes(packed)

    assert np.array_equal(again.embeds, prompt.embeds)
    assert np.array_equal(again.pooled, prompt.pooled)
    assert again.text_hash == prompt.text_hash
    size = 2 if dtype == "bfloat16" else 4
    assert len(packed) < size * prompt.embeds.size + 2000


def test_bfloat16_comes_near_float32(flux_folder: Path) -> None:
    """Within 8 levels on average; random weights amplify rounding more than trained ones."""
    pixels, masks = make_crops(2)
    prompts = make_prompts(2)

    exact = pictures_of(load_flux(flux_folder).refine(pixels, masks, prompts, [1, 2]))
    short = pictures_of(
        load_flux(flux_folder, dtype="bfloat16").refine(pixels, masks, prompts, [1, 2])
    )

    for one, other in zip(exact, short, strict=True):
        assert 0 < apart(one, other) < 8


@pytest.mark.parametrize("family", ["flux", "klein"])
def test_compiled_blocks_give_the_same_and_no_other_shape_compiles_them(
    family: str, flux_folder: Path, klein_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced, but run as they are: misses what generating code can break, which takes minutes."""
    traced: list[Any] = []
    runs = 0

    def backend(graph: Any, _: Any) -> Any:
        def run(*inputs: Any) -> Any:
            nonlocal runs
            runs += 1
            return graph.forward(*inputs)

        traced.append(graph)
        return run

    monkeypatch.setattr(diffusers_folder, "COMPILE_BACKEND", backend)
    torch._dynamo.reset()
    dim, tokens = (48, 512) if family == "klein" else (32, 256)

    def load(**options: Any) -> FluxFill | Flux2Klein:
        options = {"steps": 2, "size_px": 64, **options}
        is_klein = family == "klein"
        return (
            load_klein(klein_folder, **options) if is_klein else load_flux(flux_folder, **options)
        )

    plain, compiled = load(), load(compile=True)
    blocks = [each.pipe.transformer.transformer_blocks[0] for each in (plain, compiled)]
    assert [each._compiled_call_impl is not None for each in blocks] == [False, True], "auto"
    kinds, runs = len(traced), 0
    assert kinds in (4, 6), "two kinds of blocks; a second single block has inputs of other strides"
    sizes = set()
    compiled.pipe.transformer.register_forward_pre_hook(
        lambda _, __, call: sizes.add(len(call["hidden_states"])), with_kwargs=True
    )
    for shape, length in (((64, 64), tokens), ((48, 64), tokens), ((64, 64), 9)):
        for count in (4, 3):
            pixels, masks = make_crops(count, *shape)
            prompts = make_prompts(count, dim, length)
            one, other = (
                np.asarray(pictures_of(each.refine(pixels, masks, prompts, range(count))))
                for each in (plain, compiled)
            )
            assert np.abs(one - other).max() <= 1
            assert (runs > 0) == ((shape, length) == ((64, 64), tokens)), "others run as they are"
            runs = 0
    assert sizes == {4, 1}, "three are run one by one"
    assert len(traced) == kinds


def test_where_nothing_can_be_compiled_auto_runs_without(
    flux_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a CPU, where `auto` does not try it."""
    monkeypatch.setattr(diffusers_folder, "COMPILE_BACKEND", "no-such-backend")
    refiner, (pixels, masks) = load_flux(flux_folder, size_px=64), make_crops(2)
    expected = pictures_of(refiner.refine(pixels, masks, make_prompts(2), [1, 2]))

    refiner.compile()

    assert "refine.compile is not available" in caplog.text
    again = pictures_of(refiner.refine(pixels, masks, make_prompts(2), [1, 2]))
    assert [picture.shape for picture in again] == [picture.shape for picture in expected]
    assert not refiner.limit.is_all_or_one


@pytest.mark.parametrize("family", ["flux", "klein"])
def test_projections_are_fused_and_give_the_same(
    family: str, flux_folder: Path, klein_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, masks = make_crops(1)
    prompts = make_prompts(1, dim=48 if family == "klein" else 32)

    def run() -> tuple[Any, int, int]:
        refiner = load_flux(flux_folder) if family == "flux" else load_klein(klein_folder)
        transformer, calls = refiner.pipe.transformer, []
        for layer in transformer.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.register_forward_hook(lambda *_: calls.append(1))
        pictures = pictures_of(refiner.refine(pixels, masks, prompts, [1]))
        return pictures[0], len(calls), sum(each.numel() for each in transformer.parameters())

    fused, calls, weights = run()
    monkeypatch.setattr(diffusers_folder, "fuse_projections", lambda _: None)
    plain, plain_calls, plain_weights = run()

    assert np.abs(fused - plain).max() <= 1
    assert weights == plain_weights, "the fused layers replace the others"
    # A double block has two sets of three, a single block of FLUX.1 one; FLUX.2's are always fused.
    steps, spared = 3, (2 * 2 + 2 * 2 if family == "flux" else 2 * 2)
    assert plain_calls - calls == steps * spared


def test_attention_backend_is_used_and_stays_with_the_model(flux_folder: Path) -> None:
    refiner = load_flux(flux_folder, attention="_native_math")
    processors = {
        module.processor._attention_backend.value
        for module in refiner.pipe.transformer.modules()
        if hasattr(module, "processor")
    }
    pixels, masks = make_crops(1)

    assert processors == {"_native_math"}
    assert _AttentionBackendRegistry.get_active_backend()[0].value == "native"
    prompts = make_prompts(1)
    one = pictures_of(refiner.refine(pixels, masks, prompts, [1]))
    other = pictures_of(load_flux(flux_folder).refine(pixels, masks, prompts, [1]))
    assert np.abs(np.asarray(one) - np.asarray(other)).max() <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "no-such-backend"},
        {"attention": "sage"},  # not installed
        {"attention": "_native_cudnn"},  # takes a GPU, which only shows when it runs
        {"fp8": True, "dtype": "bfloat16"},
        {"offload": True},
        {
            "compile": True,
            "size_px": 64,
        },  # with a backend that does not exist, as if no compiler did
    ],
    ids=str,
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do some of these")
def test_what_cannot_be_had_is_said_at_load(
    options: dict[str, Any], flux_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffusers_folder, "COMPILE_BACKEND", "no-such-backend")

    with pytest.raises(WeightsError) as raised:
        load_flux(flux_folder, **options)

    assert raised.value.code == "model.unavailable"
    assert next(iter(options)) in raised.value.message
    assert _AttentionBackendRegistry.get_active_backend()[0].value == "native"


@pytest.mark.parametrize("family", ["flux", "klein"])
def test_offloaded_parts_come_when_they_are_needed(
    family: str, flux_folder: Path, klein_folder: Path
) -> None:
    """Diffusers' own hooks, which move the parts from the CPU to the CPU: misses real memory."""
    refiner = load_flux(flux_folder) if family == "flux" else load_klein(klein_folder)
    pixels, masks = make_crops(1)
    prompts = make_prompts(1, dim=32 if family == "flux" else 48)
    before = pictures_of(refiner.refine(pixels, masks, prompts, [1]))

    refiner.pipe.enable_model_cpu_offload(device=torch.device("cpu"))
    for _ in range(2):
        offloaded = pictures_of(refiner.refine(pixels, masks, prompts, [1]))
        assert np.array_equal(before, offloaded)


def test_without_the_libraries_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "stages.models.refiners.flux_fill")
    monkeypatch.setitem(sys.modules, "diffusers", None)

    with pytest.raises(WeightsError) as raised:
        FluxFillOptions().load_module()

    assert raised.value.code == "model.not_installed"
    assert ".ci/uv sync --extra models" in str(raised.value)


@pytest.mark.gpu
@needs_gpu(40)
def test_full_size_runs_in_bfloat16() -> None:
    """The published architecture, 11.9 B parameters, random: says nothing about pictures."""
    device, dtype = torch.device("cuda"), torch.bfloat16
    pipe = make_flux_fill(unshifted_scheduler(), device, dtype)
    assert 11.8e9 < sum(weights.numel() for weights in pipe.transformer.parameters()) < 12.0e9
    refiner = FluxFill(pipe, FluxFillOptions(steps=2), device, dtype)
    pixels, masks = make_crops(2, 1024, 1024)
    prompt = Prompt(np.zeros((512, 4096), np.float32), np.zeros(768, np.float32), "")

    pictures = pictures_of(refiner.refine(pixels, masks, [prompt] * 2, [1, 2]))

    assert [picture.shape for picture in pictures] == [(1024, 1024, 3)] * 2
