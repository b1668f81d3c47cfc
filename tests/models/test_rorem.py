"""RORem: the real pipeline, tiny, against the authors' call of it with the same weights.

Published weights could not be had.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import (
    AutoPipelineForInpainting,
    LCMScheduler,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file

from manifests.errors import WeightsError
from stages import clean
from stages.arrays import UInt8Array
from stages.models import FillFunction, rorem
from stages.models.refiners.prompts import Prompt
from stages.models.refiners.rorem import Rorem
from stages.recipe.refiners import RoremRefinementOptions
from stages.recipe.removal_methods import RoremOptions
from tests.support.models.tiny_models import save_sdxl_inpaint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sdxl_inpaint(tmp_path_factory.mktemp("rorem") / "pipeline")


@pytest.fixture(scope="module")
def fill(folder: Path) -> FillFunction:
    return rorem.load(removal(folder))


@pytest.fixture(scope="module")
def prompt(folder: Path) -> Prompt:
    return Rorem.load_encoder(folder, refiner(folder))("a table")


def removal(folder: Path, **options: Any) -> RoremOptions:
    return RoremOptions(**({"weights": str(folder), "dtype": "float32", "steps": 4} | options))


def refiner(folder: Path, **options: Any) -> RoremRefinementOptions:
    return RoremRefinementOptions(
        **({"weights": str(folder), "dtype": "float32", "steps": 3} | options)
    )


def window(height: int, width: int, seed: int = 0) -> tuple[UInt8Array, UInt8Array]:
    """Noise, with a mask of whole latents."""
    random = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    mask[8:32, 16:40] = 255
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8), mask


def filled(
    fill: FillFunction, windows: Sequence[tuple[UInt8Array, UInt8Array]], seeds: Sequence[int]
) -> list[npt.NDArray[np.int64]]:
    results = fill([pixels for pixels, _ in windows], [mask for _, mask in windows], seeds)
    for (pixels, mask), result in zip(windows, results, strict=True):
        assert isinstance(result, np.ndarray), result
        assert (result[mask == 0] == pixels[mask == 0]).all()
    return [np.asarray(result, np.int64) for result in results]


def authors(folder: Path, pixels: UInt8Array, mask: UInt8Array, seed: int, **call: Any) -> Any:
    """Call the pipeline as ``inference_RORem.py`` or, with 4 steps, ``inference_RORem_4S.py``."""
    pipe = AutoPipelineForInpainting.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    if call["num_inference_steps"] == 4:
        pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    (made,) = pipe(
        prompt=RoremOptions().prompt,
        negative_prompt="low quality, worst, bad proportions, blurry",
        height=mask.shape[0],
        width=mask.shape[1],
        image=Image.fromarray(pixels),
        mask_image=Image.fromarray(mask),
        guidance_scale=1.0,
        strength=0.99,
        generator=torch.Generator().manual_seed(seed),
        **call,
    ).images
    return np.asarray(made, int)


@pytest.mark.parametrize(("steps", "sampler"), [(15, "euler"), (4, "lcm")])
def test_it_paints_what_the_authors_script_paints(steps: int, sampler: Any, folder: Path) -> None:
    pixels, mask = window(64, 96)
    expected = authors(folder, pixels, mask, seed=7, num_inference_steps=steps)
    fill = rorem.load(removal(folder, steps=steps, sampler=sampler))
    (made,) = filled(fill, [(pixels, mask)], [7])
    assert np.abs(made - expected)[mask > 0].max() <= 1
    assert expected[mask > 0].std() > 10


def test_windows_of_any_size_do_not_depend_on_their_batch(fill: FillFunction) -> None:
    sizes = [(64, 96), (64, 96), (50, 81), (33, 41)]
    windows = [window(*size, seed) for seed, size in enumerate(sizes)]
    together = filled(fill, windows, [1, 2, 3, 4])
    for index, each in enumerate(windows):
        (alone,) = filled(fill, [each], [index + 1])
        assert np.abs(alone - together[index]).max() <= 1
    (other,) = filled(fill, windows[:1], [2])
    assert (together[0] != other)[windows[0][1] > 0].mean() > 0.5, "another seed"


def test_every_latent_that_a_thin_mask_touches_is_painted(folder: Path, prompt: Prompt) -> None:
    """Diffusers samples the mask at one px of 8 by 8."""
    model = Rorem.load(folder, refiner(folder))
    pixels, mask = window(64, 64)
    mask[:] = 0
    mask[29:31, 19:43] = 255
    seen = []
    model.pipe.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, 4]))
    model.refine([pixels], [mask], [prompt], [0])
    expected = torch.zeros(8, 8)
    expected[3, 2:6] = 1
    assert len(seen) == 3
    assert all(torch.equal(each, expected) for each in seen)


def test_the_refiner_starts_from_the_fill_at_comfyuis_denoise(folder: Path, prompt: Prompt) -> None:
    model = Rorem.load(folder, refiner(folder, steps=3, denoise=0.6))
    assert model.guidance is None
    assert len(model.sigmas) == 4
    pipe = StableDiffusionXLInpaintPipeline.from_pretrained(folder)
    pipe.scheduler.set_timesteps(5)
    expected = pipe.scheduler.sigmas[2:].tolist()  # the last 3 of int(3 / 0.6)
    assert np.allclose(model.sigmas, expected, rtol=1e-4)

    starts: list[torch.Tensor] = []
    model.pipe.unet.register_forward_pre_hook(lambda _, inputs: starts.append(inputs[0][0, :4]))
    pixels, mask = window(64, 64)
    results = [
        each.refine([pixels], [mask], [prompt], [3])[0]
        for each in (model, model.with_options(denoise=0.02))
    ]
    assert len(starts) == 6, "both run 3 steps"
    near, far = (np.asarray(each, int)[mask > 0] for each in results)
    assert (near != far).mean() > 0.5

    random, sigma = torch.Generator().manual_seed(3), expected[0]
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        fill = pipe.vae.encode(image).latent_dist.sample(random) * pipe.vae.config.scaling_factor
    start = fill + sigma * torch.randn(fill.shape, generator=random)
    assert torch.allclose(starts[0], start[0] / (sigma**2 + 1) ** 0.5, atol=1e-4)


@pytest.mark.filterwarnings("ignore:rorem. CreativeML:UserWarning")
def test_a_removal_of_any_kind_is_refined(folder: Path, coffee: UInt8Array) -> None:
    photo, mask = coffee[:96, :128], np.zeros((96, 128), np.uint8)
    mask[30:60, 40:70] = 255
    options = {"method": "rorem", "weights": str(folder), "dtype": "float32", "size_px": 64}
    options |= {"steps": 2, "denoise": 0.5}
    result = clean(photo, mask, "telea", options={f"refine.{k}": v for k, v in options.items()})
    assert (result.array != photo)[mask > 0].mean() > 0.5
    assert result.record.refine_prompt == RoremRefinementOptions().prompt
    assert result.record.refine_guidance is None
    assert len(result.record.refine_sigmas or ()) == 3
    assert [*result.record.weights] == ["pipeline"]


def adapter(layers: dict[str, tuple[int, int]], down: str, up: str) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    found = {}
    for name, (out, into) in layers.items():
        found[f"{name}.{down}.weight"] = torch.randn(4, into, generator=random)
        found[f"{name}.{up}.weight"] = torch.randn(out, 4, generator=random)
    return found


_BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k"
_KOHYA = "lora_unet_" + _BLOCK.replace(".", "_")


@pytest.mark.parametrize(
    ("name", "down", "up", "alpha"),
    [
        (f"unet.{_BLOCK}", "lora.down", "lora.up", 4),  # as the authors' training script
        (f"unet.{_BLOCK}", "lora_A", "lora_B", 4),
        (_KOHYA, "lora_down", "lora_up", 2),
    ],
    ids=["diffusers", "peft", "kohya"],
)
def test_an_adapter_is_merged_as_by_hand(
    name: str, down: str, up: str, alpha: int, folder: Path, tmp_path: Path
) -> None:
    tensors = adapter({name: (32, 32)}, down, up)
    stored = tensors | ({f"{name}.alpha": torch.tensor(2.0)} if name == _KOHYA else {})
    save_file(stored, tmp_path / "lcm.safetensors")
    chosen = refiner(folder, lora=[str(tmp_path / "lcm.safetensors")], lora_scales=[0.5])
    plain, merged = (Rorem.load(folder, each).pipe.unet for each in (refiner(folder), chosen))
    change = merged.get_submodule(_BLOCK).weight - plain.get_submodule(_BLOCK).weight
    product = tensors[f"{name}.{up}.weight"] @ tensors[f"{name}.{down}.weight"]
    assert torch.allclose(change, 0.5 * alpha / 4 * product, atol=1e-5)


def test_files_that_do_not_fit_are_refused(folder: Path, flux_folder: Path, tmp_path: Path) -> None:
    save_file(
        adapter({"unet.mid_block.nothing": (32, 32)}, "lora_A", "lora_B"),
        tmp_path / "a.safetensors",
    )
    incomplete = shutil.copytree(folder, tmp_path / "incomplete")
    shutil.rmtree(incomplete / "text_encoder_2")
    no_scheduler = shutil.copytree(folder, tmp_path / "no-scheduler")
    shutil.rmtree(no_scheduler / "scheduler")
    for options, says in (
        (removal(flux_folder), "holds a FluxFillPipeline, not a StableDiffusionXLInpaintPipeline"),
        (removal(incomplete), "lacks text_encoder_2/"),
        (removal(no_scheduler), "scheduler cannot be loaded"),
        (
            removal(folder, lora=[str(tmp_path / "a.safetensors")]),
            "unet.mid_block.nothing is not in",
        ),
    ):
        with pytest.raises(WeightsError, match=says) as caught:
            rorem.load(options)
        assert caught.value.code == "weights.unusable"


def test_steps_that_a_sampler_cannot_plan_are_refused() -> None:
    for options, says in (
        ({"steps": 1}, "0 of 1 steps would run.*: change steps, strength or denoise"),
        (
            {"steps": 60, "sampler": "lcm"},
            "59 of 60 steps would run, but sampler = lcm schedules 1 to 50, of",
        ),
    ):
        with pytest.raises(ValidationError, match=says):
            RoremOptions(**options)
    with pytest.raises(ValidationError, match="20 of 2000 steps would run"):
        RoremRefinementOptions(denoise=0.01)
    RoremRefinementOptions(steps=4, sampler="lcm", denoise=0.5)


def test_16_bits_come_near_float32_and_float16_is_decoded_in_32(folder: Path) -> None:
    pixels, mask = window(64, 64)
    exact, short, half = (
        filled(rorem.load(removal(folder, dtype=dtype)), [(pixels, mask)], [1])[0][mask > 0]
        for dtype in ("float32", "bfloat16", "float16")
    )
    for each in (short, half):
        assert 0 < np.abs(exact - each).mean() < 6
