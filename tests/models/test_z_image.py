"""Z-Image-Turbo: the real pipeline, tiny, against diffusers' own with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ZImageInpaintPipeline
from PIL import Image
from pydantic import ValidationError

from manifests.errors import WeightsError
from stages.models.refiners import diffusers_folder
from stages.models.refiners.z_image import ZImage
from stages.recipe.refiners import ZImageOptions
from tests.support.models.refining import apart, make_crops, pictures_of
from tests.support.models.tiny_models import save_z_image

PROMPT = "an empty table"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_z_image(tmp_path_factory.mktemp("z-image"))


def load(folder: Path, **options: Any) -> ZImage:
    options = {"steps": 4, "dtype": "float32"} | options
    return ZImage.load(folder, ZImageOptions(weights=str(folder), **options))


def test_it_paints_what_diffusers_own_call_paints(folder: Path) -> None:
    """At denoise 1: its pipeline has no levels between."""
    (pixels, *_), (mask, *_) = make_crops(1, 64, 96)
    pipe = ZImageInpaintPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.scheduler.config.shift == 3
    (expected,) = pipe(
        prompt=PROMPT,
        image=Image.fromarray(pixels),
        mask_image=Image.fromarray(mask),
        num_inference_steps=4,
        guidance_scale=0.0,
        generator=torch.Generator().manual_seed(7),
    ).images
    refiner = load(folder, denoise=1.0)
    prompt = ZImage.load_encoder(folder, refiner.options)(PROMPT)
    (made,) = pictures_of(refiner.refine([pixels], [mask], [prompt], [7]))
    assert np.abs(made - np.asarray(expected, int)).max() <= 1
    assert made.std() > 10


def test_crops_with_texts_of_any_length_do_not_depend_on_their_batch(folder: Path) -> None:
    refiner = load(folder, batch_size=2)
    encode = ZImage.load_encoder(folder, refiner.options)
    prompts = [encode(text) for text in ("a", PROMPT, PROMPT, "a" * 600)]
    assert [len(each.embeds) < 512 for each in prompts] == [True, True, True, False]
    pixels, masks = make_crops(4)
    together = pictures_of(refiner.refine(pixels, masks, prompts, [1, 2, 3, 4]))
    for index, each in enumerate(together):
        part = slice(index, index + 1)
        alone = refiner.refine(pixels[part], masks[part], prompts[part], [index + 1])
        assert np.abs(pictures_of(alone)[0] - each).max() <= 1
    first, other = [prompts[1]] * 2, [prompts[0]]
    again = refiner.refine([pixels[1]] * 3, [masks[1]] * 3, [*first, *other], [2, 9, 2])
    same, reseeded, reprompted = pictures_of(again)
    assert np.abs(same - together[1]).max() <= 1
    assert apart(same, reseeded) > 1
    assert apart(same, reprompted) > 0.01


def test_the_switches_of_flow_models_work_or_are_refused(
    folder: Path, flux_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, masks = make_crops(1)
    plain = load(folder)
    prompt = ZImage.load_encoder(folder, plain.options)(PROMPT)
    (expected,) = pictures_of(plain.refine(pixels, masks, [prompt], [1]))
    monkeypatch.setattr(diffusers_folder, "COMPILE_BACKEND", "eager")
    switched = load(folder, compile=True, attention="native", batch_size=1, size_px=64)
    (found,) = pictures_of(switched.refine(pixels, masks, [prompt], [1]))
    assert np.abs(found - expected).max() <= 1
    with pytest.raises(ValidationError, match=r"guidance[\s\S]*less than or equal to 0"):
        ZImageOptions(guidance=5)
    with pytest.raises(WeightsError, match="holds a FluxFillPipeline, not a ZImagePipeline"):
        load(flux_folder)
