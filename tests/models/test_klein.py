"""FLUX.2-klein's references and decoder, against diffusers' own pipelines with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinInpaintPipeline, Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from PIL import Image

from manifests.errors import WeightsError
from stages.arrays import UInt8Array
from stages.models.refiners.flux2_klein import Flux2Klein
from stages.recipe.options import Flux2KleinOptions
from tests.support.models.networks import make_klein_vae
from tests.support.models.refining import apart, load_klein, make_crops, make_prompts, pictures_of

#: Of a crop of 48 x 64 px: the pipelines derive their shift from its number and the steps'.
TOKENS, STEPS = 3 * 4, 4


@pytest.fixture(scope="module")
def decoder(klein_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Laid out as FLUX.2-small-decoder: a VAE whose encoder is the model's own."""
    folder = tmp_path_factory.mktemp("small-decoder")
    own = AutoencoderKLFlux2.from_pretrained(klein_folder / "vae", local_files_only=True)
    vae = make_klein_vae(tiny=True, small_decoder=True)
    kept = {key: value for key, value in own.state_dict().items() if "decoder" not in key}
    assert not vae.load_state_dict(kept, strict=False).unexpected_keys
    vae.save_pretrained(folder)
    return folder


def refined(
    folder: Path, pixels: UInt8Array, mask: UInt8Array, photo: UInt8Array, **options: Any
) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Our result with the pipelines' shift, and the number of tokens in each step."""
    options |= {"steps": STEPS, "shift": compute_empirical_mu(TOKENS, STEPS)}
    refiner = load_klein(folder, **options)
    prompt = Flux2Klein.load_encoder(folder, Flux2KleinOptions(dtype="float32"))("bare wood")
    tokens: list[int] = []
    refiner.pipe.transformer.register_forward_pre_hook(
        lambda _, __, call: tokens.append(call["hidden_states"].shape[1]), with_kwargs=True
    )
    (picture,) = pictures_of(refiner.refine([pixels], [mask], [prompt], [5], [photo]))
    return picture, tokens


def theirs(pipe: Any, sigmas: list[float], **call: Any) -> npt.NDArray[np.float32]:
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        prompt="bare wood",
        height=48,
        width=64,
        sigmas=sigmas,
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        generator=[torch.Generator().manual_seed(5)],
        output_type="np",
        **call,
    )
    return np.asarray(np.round(made.images[0] * 255))


def test_with_the_fill_as_reference_it_equals_diffusers_inpainting(klein_folder: Path) -> None:
    """The referee has its own text encoder, shifts the levels itself, and decodes itself."""
    pixels = make_crops(1)[0][0]
    mask = np.zeros((48, 64), np.uint8)
    mask[16:32, 16:48] = 255
    ours, tokens = refined(klein_folder, pixels, mask, 255 - pixels, reference="fill")
    whole = Flux2KleinInpaintPipeline.from_pretrained(klein_folder, local_files_only=True)
    expected = theirs(
        whole,
        [0.8, 0.6, 0.4, 0.2],
        strength=1.0,
        image=torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255,
        mask_image=torch.from_numpy(mask)[None, None] / 255,
    )
    assert np.abs(ours - expected).max() <= 1
    assert tokens == [2 * TOKENS] * STEPS


@pytest.mark.parametrize("reference", ["photo", "none"])
def test_with_another_reference_it_equals_diffusers_editing_where_all_is_painted_from_noise(
    reference: Any, klein_folder: Path, decoder: Path
) -> None:
    """Diffusers' inpainting has neither, its editing has no mask; in a full mask both agree."""
    pixels, photo = make_crops(2)[0]
    ours, tokens = refined(
        klein_folder,
        pixels,
        np.full((48, 64), 255, np.uint8),
        photo,
        reference=reference,
        denoise=1.0,
        decoder=str(decoder),
    )
    vae = AutoencoderKLFlux2.from_pretrained(decoder, local_files_only=True)
    whole = Flux2KleinPipeline.from_pretrained(klein_folder, vae=vae, local_files_only=True)
    shown = Image.fromarray(photo) if reference == "photo" else None
    expected = theirs(whole, [1.0, 0.75, 0.5, 0.25], image=shown)
    assert np.abs(ours - expected).max() <= 1
    assert tokens == [TOKENS * (2 if shown else 1)] * STEPS


def test_what_it_sees_beside_the_crop_is_the_reference_alone(klein_folder: Path) -> None:
    pixels, masks = make_crops(2)
    crop, photo = pixels
    prompts = make_prompts(1, dim=48)

    def run(reference: str, *photos: UInt8Array) -> npt.NDArray[np.int64]:
        refiner = load_klein(klein_folder, reference=reference)
        return pictures_of(refiner.refine([crop], masks[:1], prompts, [5], photos))[0]

    results = {name: run(name, photo) for name in ("fill", "photo", "none")}
    assert apart(results["fill"], results["photo"]) > 0.5
    assert apart(results["fill"], results["none"]) > 0.5
    assert np.array_equal(results["fill"], run("fill"))
    assert np.array_equal(results["none"], run("none"))
    assert np.array_equal(results["fill"], run("photo", crop))
    with pytest.raises(ValueError, match="do not match"):
        run("photo", photo[:32])


def test_at_4_steps_08_does_not_start_from_noise_alone(klein_folder: Path) -> None:
    """The levels that the option's documentation gives."""
    documented = (Flux2KleinOptions.model_fields["denoise"].description or "").split()
    for denoise, level in {
        0.81: "1",
        0.8: "0.968",
        0.66: "0.938",
        0.57: "0.91",
        0.5: "0.883",
    }.items():
        refiner = load_klein(klein_folder, steps=4, denoise=denoise)
        assert f"{refiner.sigmas[0]:.3g}" == level
        assert any(word.strip(",;") == level for word in documented) or not documented


@pytest.mark.parametrize("fault", ["nothing there", "other latents"])
def test_a_decoder_that_does_not_fit_is_refused(
    fault: str, klein_folder: Path, tmp_path: Path
) -> None:
    if fault == "other latents":
        widths = {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 4, "layers_per_block": 1}
        AutoencoderKLFlux2(latent_channels=8, **widths).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=str(tmp_path)) as raised:
        load_klein(klein_folder, decoder=str(tmp_path))
    assert raised.value.code == "weights.unusable"
