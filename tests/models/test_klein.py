"""FLUX.2-klein's references and decoder, against diffusers' own pipelines with the same weights."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinInpaintPipeline, Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from PIL import Image
from safetensors.torch import load_file, save_file

from manifests.errors import WeightsError
from stages.arrays import UInt8Array
from stages.models.refiners.flux2_klein import Flux2Klein
from stages.recipe.refiners import Flux2KleinOptions
from tests.support.models.networks import make_klein_vae
from tests.support.models.refining import (
    apart,
    load_klein,
    make_crops,
    make_prompts,
    pictures_of,
)

#: Tokens of a crop of 64 x 64 px, and steps: the pipelines derive their shift from them.
TOKENS, STEPS = 4 * 4, 4

#: Latents of the same picture differ by less than this, in units of their standard deviation.
SAME = 1e-5


@pytest.fixture(scope="module")
def attentive(klein_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with strong attention: at random, it hardly heeds its reference."""
    folder = Path(shutil.copytree(klein_folder, tmp_path_factory.mktemp("attentive") / "klein"))
    (file,) = (folder / "transformer").glob("*.safetensors")
    weights = load_file(file)
    weights["transformer_blocks.0.attn.to_out.0.weight"] *= 30
    save_file(weights, file, {"format": "pt"})
    return folder


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


def ours(
    folder: Path, pixels: UInt8Array, mask: UInt8Array, photo: UInt8Array, **options: Any
) -> tuple[torch.Tensor, npt.NDArray[np.int64], list[int]]:
    """Latents and picture with the pipelines' shift, and the number of tokens in each step."""
    options |= {"steps": STEPS, "shift": compute_empirical_mu(TOKENS, STEPS)}
    refiner = load_klein(folder, **options)
    prompt = Flux2Klein.load_encoder(folder, Flux2KleinOptions(dtype="float32"))("bare wood")
    tokens: list[int] = []
    refiner.pipe.transformer.register_forward_pre_hook(
        lambda _, __, call: tokens.append(call["hidden_states"].shape[1]), with_kwargs=True
    )
    latents: list[torch.Tensor] = []
    decode = refiner.pipe.vae.decode

    def watch(these: torch.Tensor, **more: Any) -> Any:
        latents.append(these)
        return decode(these, **more)

    refiner.pipe.vae.decode = watch
    (picture,) = pictures_of(refiner.refine([pixels], [mask], [prompt], [5], [photo]))
    return latents[0], picture, tokens


def theirs(pipe: Any, sigmas: list[float], **call: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    latents: torch.Tensor = pipe(
        prompt="bare wood",
        height=64,
        width=64,
        sigmas=sigmas,
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        generator=[torch.Generator().manual_seed(5)],
        output_type="latent",
        **call,
    ).images
    return latents


def test_with_the_fill_as_reference_it_equals_diffusers_inpainting(attentive: Path) -> None:
    """The referee has its own text encoder, and shifts the levels itself."""
    pixels, photo = make_crops(2, 64, 64)[0]
    mask = np.zeros((64, 64), np.uint8)
    mask[16:32, 16:48] = 255
    made, _, tokens = ours(attentive, pixels, mask, photo, reference="fill")
    expected = theirs(
        Flux2KleinInpaintPipeline.from_pretrained(attentive, local_files_only=True),
        [0.8, 0.6, 0.4, 0.2],
        strength=1.0,
        image=torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255,
        mask_image=torch.from_numpy(mask)[None, None] / 255,
    )
    assert (made - expected).abs().max() < SAME
    assert tokens == [2 * TOKENS] * STEPS
    for other in ("photo", "none"):
        differs, *_ = ours(attentive, pixels, mask, photo, reference=other)
        assert (differs - expected).abs().max() > 100 * SAME


def test_with_another_reference_it_equals_diffusers_editing_where_all_is_painted_from_noise(
    attentive: Path, decoder: Path
) -> None:
    """Diffusers' inpainting has no such reference, its editing no mask; in a full mask they agree.

    Both have the small decoder, which the referee takes as its makers say.
    """
    pixels, photo = make_crops(2, 64, 64)[0]
    whole = np.full((64, 64), 255, np.uint8)
    vae = AutoencoderKLFlux2.from_pretrained(decoder, local_files_only=True)
    pipe = Flux2KleinPipeline.from_pretrained(attentive, vae=vae, local_files_only=True)
    found = {}
    for reference, shown in (("photo", Image.fromarray(photo)), ("none", None)):
        made, picture, tokens = ours(
            attentive, pixels, whole, photo,
            reference=reference, denoise=1.0, decoder=str(decoder),
        )  # fmt: skip
        expected = theirs(pipe, [1.0, 0.75, 0.5, 0.25], image=shown)
        assert (made - expected).abs().max() < SAME
        with torch.no_grad():
            decoded = (vae.decode(expected).sample[0].clamp(-1, 1) + 1) * 127.5
        assert np.abs(picture - decoded.permute(1, 2, 0).numpy()).max() <= 1
        assert tokens == [TOKENS * (2 if shown else 1)] * STEPS
        found[reference] = made
    assert (found["photo"] - found["none"]).abs().max() > 100 * SAME


def test_in_a_batch_each_crop_sees_its_own_reference(attentive: Path) -> None:
    """Sums in another order differ by a few levels in single pixels; another reference in all."""
    refiner = load_klein(attentive, reference="photo", batch_size=3)
    pixels, masks = make_crops(3)
    photos, prompts = make_crops(3)[0], make_prompts(3, dim=48)
    together = pictures_of(refiner.refine(pixels, masks, prompts, [1, 2, 3], photos))
    for index, made in enumerate(together):
        one = slice(index, index + 1)
        call = (pixels[one], masks[one], prompts[one], [index + 1])
        (alone,) = pictures_of(refiner.refine(*call, photos[one]))
        (other,) = pictures_of(refiner.refine(*call, photos[index - 1 :][:1]))
        assert 20 * apart(made, alone) < apart(other, alone)
    with pytest.raises(ValueError, match="do not match"):
        refiner.refine(*call, [photos[0][:32]])


def test_at_4_steps_08_does_not_start_from_noise_alone(klein_folder: Path) -> None:
    refiner, documented = load_klein(klein_folder, steps=4), inspect.getsource(Flux2KleinOptions)
    levels = [
        f"{refiner.with_options(denoise=each).sigmas[0]:.3g}"
        for each in (0.81, 0.8, 0.66, 0.57, 0.5)
    ]
    assert levels == ["1", "0.968", "0.938", "0.91", "0.883"]
    assert all(level in documented for level in levels)
    last = load_klein(klein_folder, steps=3, denoise=0.75)
    assert last.sigmas == refiner.with_options(denoise=1.0).sigmas[1:]


@pytest.mark.parametrize("fault", ["nothing there", "other latents", "its own"])
def test_a_decoder_that_does_not_fit_is_refused(
    fault: str, attentive: Path, tmp_path: Path
) -> None:
    if fault != "nothing there":
        widths = {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 4, "layers_per_block": 1}
        AutoencoderKLFlux2(latent_channels=8, **widths).save_pretrained(tmp_path)
    folder, decoder = attentive, {"decoder": str(tmp_path)}
    if fault == "its own":
        folder, decoder = shutil.copytree(attentive, tmp_path / "klein"), {}
        shutil.rmtree(folder / "vae")
        (folder / "vae").symlink_to(tmp_path)
    named = str(folder / "vae" if fault == "its own" else tmp_path)
    with pytest.raises(WeightsError, match=f"^{named} ") as raised:
        load_klein(folder, **decoder)
    assert raised.value.code == "weights.unusable"
