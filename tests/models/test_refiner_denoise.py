"""Which noise levels a refiner runs, from where, and what it keeps."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import FluxFillPipeline

from stages.arrays import UInt8Array
from stages.models.refiners.flow import FlowRefiner
from stages.models.refiners.flux_fill import FluxFill
from stages.models.refiners.sigmas import comfy_sigmas
from stages.recipe.refiners import FluxFillOptions
from tests.support.models.refining import (
    apart,
    load_flux,
    load_klein,
    make_crops,
    make_prompts,
    pictures_of,
    through_vae,
)


@pytest.mark.parametrize(("steps", "denoise"), [(4, 0.8), (3, 1.0), (2, 0.3)])
def test_the_model_sees_exactly_comfyuis_levels_and_start(
    steps: int, denoise: float, flux_folder: Path
) -> None:
    refiner = load_flux(flux_folder, steps=steps, denoise=denoise)
    times: list[float] = []
    starts: list[torch.Tensor] = []

    def watch(_: Any, __: Any, call: dict[str, Any]) -> None:
        times.append(float(call["timestep"][0]))
        starts.append(call["hidden_states"][..., :64])

    refiner.pipe.transformer.register_forward_pre_hook(watch, with_kwargs=True)
    pixels, masks = make_crops(1)
    refiner.refine(pixels, masks, make_prompts(1), [5])

    levels = comfy_sigmas(steps, denoise, 1.15)
    assert refiner.sigmas == levels
    assert times == pytest.approx(levels[:-1], abs=1e-6)
    noise = torch.randn(16, 6, 8, generator=torch.Generator().manual_seed(5))
    image = torch.from_numpy(pixels[0]).permute(2, 0, 1)[None] / 127.5 - 1
    known = refiner.pipe.vae.encode(image).latent_dist.mode()[0]
    known = (known - 0.1159) * 0.3611
    expected = levels[0] * noise + (1 - levels[0]) * known
    # Token by token, each 2 by 2 latents, channel by channel:
    tokens = expected.view(16, 3, 2, 4, 2).permute(1, 3, 0, 2, 4).reshape(12, 64)
    assert torch.allclose(starts[0][0], tokens, atol=1e-5)
    assert refiner.guidance == 30


def test_klein_runs_the_same_schedule_with_its_own_shift(klein_folder: Path) -> None:
    refiner = load_klein(klein_folder, steps=4, denoise=0.5)
    times: list[float] = []
    refiner.pipe.transformer.register_forward_pre_hook(
        lambda _, __, call: times.append(float(call["timestep"][0])), with_kwargs=True
    )
    pixels, masks = make_crops(1)

    refiner.refine(pixels, masks, make_prompts(1, dim=48), [5])

    levels = comfy_sigmas(4, 0.5, 2.02)
    assert levels[0] == pytest.approx(math.exp(2.02) / (math.exp(2.02) + 1), abs=1e-6)
    assert times == pytest.approx(levels[:-1], abs=1e-6)
    assert refiner.sigmas == levels


def test_equals_diffusers_whole_pipeline_set_up_likewise(flux_folder: Path) -> None:
    """The referee has its own text encoders, shifts the levels itself, and decodes itself."""
    options = FluxFillOptions(steps=4, dtype="float32")
    refiner = load_flux(flux_folder, steps=4)
    prompt = FluxFill.load_encoder(flux_folder, options)("bare wood")
    pixels, masks = make_crops(1)
    starts: list[torch.Tensor] = []
    refiner.pipe.transformer.register_forward_pre_hook(
        lambda _, __, call: starts.append(call["hidden_states"]), with_kwargs=True
    )
    (ours,) = pictures_of(refiner.refine(pixels, masks, [prompt], [5]))

    whole = FluxFillPipeline.from_pretrained(flux_folder, local_files_only=True)
    whole.set_progress_bar_config(disable=True)
    whole.scheduler.register_to_config(base_shift=1.15, max_shift=1.15)
    with torch.no_grad():  # a posterior that is all but its mode, which the referee draws from
        whole.vae.encoder.conv_out.weight[16:] = 0
        whole.vae.encoder.conv_out.bias[16:] = -30
    theirs = whole(
        prompt="bare wood",
        image=torch.from_numpy(pixels[0]).permute(2, 0, 1)[None] / 255,
        mask_image=torch.from_numpy(masks[0])[None, None] / 255,
        height=48,
        width=64,
        latents=starts[0][..., :64],
        sigmas=[0.8, 0.6, 0.4, 0.2],
        num_inference_steps=4,
        strength=1.0,
        guidance_scale=30.0,
        max_sequence_length=256,
        output_type="np",
    ).images[0]

    assert np.abs(ours - np.round(theirs * 255)).max() <= 1


def test_what_is_known_is_the_mode_of_its_latents_whatever_the_seed(flux_folder: Path) -> None:
    refiner = load_flux(flux_folder, steps=1)
    shown: list[torch.Tensor] = []
    refiner.pipe.transformer.register_forward_pre_hook(
        lambda _, __, call: shown.append(call["hidden_states"][..., 64:]), with_kwargs=True
    )
    pixels, masks = make_crops(1)
    refiner.refine(pixels * 2, masks * 2, make_prompts(1) * 2, [5, 6])

    grey = pixels[0].astype(np.float32) / 127.5 - 1
    grey[masks[0] > 0] = 0
    with torch.no_grad():
        known = refiner.pipe.vae.encode(torch.from_numpy(grey).permute(2, 0, 1)[None])
    known = (known.latent_dist.mode()[0] - 0.1159) * 0.3611
    tokens = known.view(16, 3, 2, 4, 2).permute(1, 3, 0, 2, 4).reshape(12, 64)
    for each in shown[0]:
        assert torch.allclose(each[:, :64], tokens, atol=1e-5)
        assert each[:, 64:].unique().tolist() == [0, 1]


@pytest.mark.parametrize("family", ["flux", "klein"])
def test_in_16_bits_the_model_reads_times_to_the_last_bit(
    family: str, flux_folder: Path, klein_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ComfyUI; diffusers rounds them. Times are amplified: random weights hardly heed them."""
    pixels, masks = make_crops(2)
    prompts = make_prompts(2, dim=32 if family == "flux" else 48)

    def ends(dtype: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
        load = load_flux if family == "flux" else load_klein
        refiner = load(flux_folder if family == "flux" else klein_folder, steps=8, dtype=dtype)
        embed = getattr(refiner.pipe.transformer, refiner.time_embed)
        latents, times = [], []
        with torch.no_grad():
            embed.timestep_embedder.linear_2.weight.mul_(100)
        with monkeypatch.context() as patch:
            decode = refiner.pipe.vae.decode

            def watch(these: torch.Tensor, **more: Any) -> Any:
                latents.append(these.float())
                return decode(these, **more)

            patch.setattr(refiner.pipe.vae, "decode", watch)
            embed.timestep_embedder.linear_1.register_forward_pre_hook(
                lambda _, inputs: times.append(inputs[0].float())
            )
            refiner.refine(pixels, masks, prompts, [1, 2])
        return torch.cat(latents), times

    (exact, exact_times), (short, times) = ends("float32"), ends("bfloat16")
    monkeypatch.setattr(FlowRefiner, "_exact_timesteps", nullcontext)
    rounded, _ = ends("bfloat16")

    for one, other in zip(times, exact_times, strict=True):
        assert torch.equal(one, other.bfloat16().float())
    assert (rounded - exact).abs().mean() > 6 * (short - exact).abs().mean()


def test_the_scheduler_is_chosen_by_its_name_in_comfyui(flux_folder: Path) -> None:
    refiner = load_flux(flux_folder, steps=5, scheduler="normal")

    assert refiner.sigmas == comfy_sigmas(5, 0.8, 1.15, "normal")
    assert refiner.with_options(denoise=0.5).sigmas == comfy_sigmas(5, 0.5, 1.15, "normal")


def test_little_denoise_stays_near_and_denoise_1_ignores_what_was_there(flux_folder: Path) -> None:
    pixels, masks = make_crops(1)
    other = pixels[0].copy()
    other[masks[0] > 0] = 255  # another removal's result: the masked part alone differs
    prompts = make_prompts(1)

    def result(refiner: FluxFill, crop: UInt8Array) -> npt.NDArray[np.int64]:
        return pictures_of(refiner.refine([crop], masks, prompts, [3]))[0]

    anew = load_flux(flux_folder, steps=4, denoise=1.0)
    assert np.array_equal(result(anew, pixels[0]), result(anew, other))
    usual = load_flux(flux_folder, steps=4, denoise=0.8)
    assert not np.array_equal(result(usual, pixels[0]), result(usual, other))

    little = result(load_flux(flux_folder, steps=4, denoise=0.003), pixels[0])
    assert apart(little, through_vae(usual, pixels[0])) < 3
    assert apart(little, through_vae(usual, other)) > 5
    assert apart(result(usual, pixels[0]), through_vae(usual, pixels[0])) > 10


@pytest.mark.parametrize("steps", [1, 3])
def test_noise_mask_keeps_the_known_area(steps: int, flux_folder: Path) -> None:
    """With it, latents of the known area end as they began, so at most the VAE blurs them."""
    pixels, masks = make_crops(1)
    ends = {}
    for noise_mask in (False, True):
        refiner = load_flux(flux_folder, steps=steps, noise_mask=noise_mask)
        decode = refiner.pipe.vae.decode

        def watch(
            latents: torch.Tensor, key: bool = noise_mask, decode: Any = decode, **more: Any
        ) -> Any:
            ends[key] = latents[0]
            return decode(latents, **more)

        refiner.pipe.vae.decode = watch
        refiner.refine(pixels, masks, make_prompts(1), [5])
        image = torch.from_numpy(pixels[0]).permute(2, 0, 1)[None] / 127.5 - 1
        known = refiner.pipe.vae.encode(image).latent_dist.mode()[0]
    touched = torch.from_numpy(masks[0]).view(6, 8, 8, 8).amax((1, 3)) > 0

    assert torch.allclose(ends[True][:, ~touched], known[:, ~touched], atol=1e-4)
    assert (ends[False] - known)[:, ~touched].abs().mean() > 0.1
    assert (ends[True] - known)[:, touched].abs().mean() > 0.1


def test_klein_paints_every_token_that_a_thin_mask_touches(klein_folder: Path) -> None:
    refiner = load_klein(klein_folder)
    pixels, masks = make_crops(1)
    masks[0][:] = 0
    masks[0][:, 17] = 255  # off the middle of its tokens, where the pipeline would look

    seen: list[torch.Tensor] = []
    decode = refiner.pipe.vae.decode

    def watch(latents: torch.Tensor, **more: Any) -> Any:
        seen.append(latents)
        return decode(latents, **more)

    refiner.pipe.vae.decode = watch
    refiner.refine(pixels, masks, make_prompts(1, dim=48), [5])
    image = torch.from_numpy(pixels[0]).permute(2, 0, 1)[None] / 127.5 - 1
    change = (seen[0] - refiner.pipe.vae.encode(image).latent_dist.mode())[0].abs().amax((0, 1))

    assert (change[2:4] > 0.01).all()
    assert (change[[0, 1, 4, 5, 6, 7]] < 1e-4).all()


def test_klein_does_not_shrink_what_is_over_a_megapixel(klein_folder: Path) -> None:
    pixels, masks = make_crops(1, 16, 16 * 4100)

    (picture,) = pictures_of(
        load_klein(klein_folder, steps=1).refine(pixels, masks, make_prompts(1, dim=48), [5])
    )

    assert picture.shape == pixels[0].shape
