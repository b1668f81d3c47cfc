"""OSOR-SDXL: the real networks, tiny, against the authors' arithmetic with the same weights.

Published weights could not be had. The names and shapes of their tensors follow from the size of
the published file, which the layout read here gives to the byte.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch.nn import functional

from manifests.errors import RowError, WeightsError
from stages.arrays import UInt8Array
from stages.models import FillWithAlpha
from stages.models.osor import Osor
from stages.recipe.removal_methods import OsorOptions
from tests.support.models.networks import make_sdxl_unet
from tests.support.models.tiny_models import osor_tensors, save_osor


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_osor(tmp_path_factory.mktemp("osor"))


@pytest.fixture(scope="module")
def osor(parts: dict[str, str]) -> Osor:
    return load(parts)


def load(parts: dict[str, str], **options: Any) -> Osor:
    return Osor.load(OsorOptions(**({"dtype": "float32"} | parts | options)))


def window(height: int, width: int, seed: int = 0) -> tuple[UInt8Array, UInt8Array]:
    random = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2 + 3, width // 3 : width // 2 + 5] = 255
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8), mask


def filled(
    osor: Osor, *windows: tuple[UInt8Array, UInt8Array], seeds: list[int]
) -> list[FillWithAlpha]:
    results = osor.fill([pixels for pixels, _ in windows], [mask for _, mask in windows], seeds)
    assert not any(isinstance(each, RowError) for each in results), results
    return [each for each in results if isinstance(each, FillWithAlpha)]


def authors(
    parts: dict[str, str], pixels: UInt8Array, mask: UInt8Array, seed: int
) -> tuple[Any, Any]:
    """Picture and opacity, 0 to 1, in the order of the authors' script; adapters are not merged."""
    base, tensors = Path(parts["base_weights"]), load_file(parts["weights"])
    vae = AutoencoderKL.from_pretrained(base / "vae")
    scheduler = DDPMScheduler.from_pretrained(base / "scheduler")
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    unet.conv_out = torch.nn.Conv2d(unet.conv_out.in_channels, 5, 3, padding=1)
    last = {name: tensors.pop(f"unet.conv_out.{name}") for name in ("weight", "bias")}
    unet.conv_out.load_state_dict(last)
    for name, layer in unet.named_modules():
        down = tensors.get(f"unet.{name}.lora_A.default.weight")
        if down is not None:
            adapt(layer, down, tensors[f"unet.{name}.lora_B.default.weight"])
    text = load_file(parts["prompt_weights"])

    random = torch.Generator().manual_seed(seed)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    shown = vae.encode(image).latent_dist.sample(random) * vae.config.scaling_factor
    marked = functional.max_pool2d(torch.from_numpy(mask)[None, None].float() / 255, 8)
    time = torch.full((1,), 400)
    noisy = scheduler.add_noise(shown, torch.randn(shown.shape, generator=random), time)
    height, width = mask.shape
    output = unet(
        torch.cat([noisy, marked, shown], dim=1),
        time,
        encoder_hidden_states=text["prompt_embeds"],
        added_cond_kwargs={
            "text_embeds": text["pooled_prompt_embeds"],
            "time_ids": torch.tensor([[height, width, 0, 0, height, width]]).float(),
        },
    ).sample
    alpha = torch.sigmoid(output[:, 4:])
    painted = scheduler.step(output[:, :4], time, noisy).pred_original_sample
    latents = painted * alpha + shown * (1 - alpha)
    picture = vae.decode(latents / vae.config.scaling_factor).sample
    levels = ((picture + 1) / 2).clamp(0, 1) * 255
    opacity = functional.interpolate(alpha, (height, width), mode="bilinear")
    return levels[0].permute(1, 2, 0).numpy(), opacity[0, 0].numpy()


def adapt(layer: Any, down: torch.Tensor, up: torch.Tensor) -> None:
    """Add ``up(down(x))`` to a layer's output."""

    def add(_: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        if down.ndim == 2:
            return output + inputs[0] @ down.T @ up.T
        inner = functional.conv2d(inputs[0], down, stride=layer.stride, padding=layer.padding)
        return output + functional.conv2d(inner, up)

    layer.register_forward_hook(add)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (128, 48), (72, 88)])
def test_it_paints_what_the_authors_script_paints(
    parts: dict[str, str], osor: Osor, size: tuple[int, int]
) -> None:
    pixels, mask = window(*size)
    levels, opacity = authors(parts, pixels, mask, seed=7)
    (made,) = filled(osor, (pixels, mask), seeds=[7])
    assert np.abs(made.pixels - levels).max() <= 0.51, "rounded to 8 bits"
    assert np.abs(made.alpha - 255 * opacity).max() <= 0.51
    assert levels.std() > 10
    assert opacity.std() > 0.05


def test_windows_of_any_size_do_not_depend_on_their_batch(osor: Osor) -> None:
    windows = [window(64, 96, 1), window(64, 96, 2), window(50, 81, 3), window(1, 9, 4)]
    together = filled(osor, *windows, seeds=[1, 2, 3, 4])
    for index, (pixels, mask) in enumerate(windows):
        assert together[index].pixels.shape == pixels.shape
        assert together[index].alpha.shape == mask.shape
        (alone,) = filled(osor, (pixels, mask), seeds=[index + 1])
        assert np.abs(alone.pixels.astype(int) - together[index].pixels).max() <= 1
        assert np.abs(alone.alpha.astype(int) - together[index].alpha).max() <= 1
    again, other = (filled(osor, windows[0], seeds=[seed])[0] for seed in (1, 2))
    assert np.array_equal(again.pixels, filled(osor, windows[0], seeds=[1])[0].pixels)
    assert (again.pixels != other.pixels).mean() > 0.5, "another seed"


def test_padding_does_not_count_as_known(osor: Osor) -> None:
    pixels, mask = window(61, 90)
    rows, columns = 64 - 61, 96 - 90
    whole = np.pad(mask, [(0, rows), (0, columns)], constant_values=255)
    repeated = np.pad(pixels, [(0, rows), (0, columns), (0, 0)], mode="edge")
    (padded,), (made,) = (
        filled(osor, (repeated, whole), seeds=[1]),
        filled(osor, (pixels, mask), seeds=[1]),
    )
    assert np.array_equal(made.pixels, padded.pixels[:61, :90])
    assert np.array_equal(made.alpha, padded.alpha[:61, :90])


def test_the_layout_is_the_published_files_to_the_byte() -> None:
    """3,111,950,972 bytes are those of rank 256, in 32 bits, of all these layers by these names."""
    with torch.device("meta"):
        tensors = osor_tensors(make_sdxl_unet(), rank=256)
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in sorted(tensors.items()):
        begin, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": [*tensor.shape], "data_offsets": [begin, end]}
    size = len(json.dumps(header, separators=(",", ":")))
    assert 8 + -(-size // 8) * 8 + end == 3_111_950_972


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"unet.conv_out.weight": torch.zeros(4, 16, 3, 3)}, "it has no alpha, or is another's"),
        ({"unet.conv_in.lora_A.default.weight": torch.zeros(4, 9)}, "layer unet.conv_in is not"),
        ({"unet.time_proj.weight": torch.zeros(4)}, "cannot be merged, such as unet.time_proj"),
        ({"unet.mid_block.resnets.0.conv1.lora_A.default.weight": torch.zeros(4, 9)}, "shapes are"),
        ({"unet.conv_out.bias": None}, "it has no unet.conv_out.bias"),
    ],
    ids=["four channels", "a layer alone", "something else", "another size", "no last layer"],
)
def test_a_file_of_another_network_is_refused(
    parts: dict[str, str], change: dict[str, torch.Tensor | None], says: str, tmp_path: Path
) -> None:
    tensors = load_file(parts["weights"]) | change
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, tmp_path / "mine.safetensors")
    with pytest.raises(WeightsError, match=says) as caught:
        load(parts, weights=str(tmp_path / "mine.safetensors"))
    assert caught.value.code == "weights.unusable"


def test_files_that_are_none_of_its_parts_are_refused(
    parts: dict[str, str], flux_folder: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x99" * 64)
    without_scheduler = shutil.copytree(parts["base_weights"], tmp_path / "base")
    (without_scheduler / "scheduler" / "scheduler_config.json").write_text("{")
    for option, path, says in (
        ("weights", damaged, "cannot be read"),
        ("prompt_weights", Path(parts["weights"]), "has no prompt_embeds"),
        (
            "base_weights",
            flux_folder,
            "holds a FluxFillPipeline, not a StableDiffusionXLInpaintPipeline",
        ),
        ("base_weights", without_scheduler, "scheduler cannot be loaded"),
    ):
        with pytest.raises(WeightsError, match=says) as caught:
            load(parts, **{option: str(path)})
        assert caught.value.code == "weights.unusable"


def test_weights_in_16_bits_are_enough(parts: dict[str, str], tmp_path: Path) -> None:
    """As the published base has them, beside those in 32 bits."""
    base = tmp_path / "base"
    UNet2DConditionModel.from_pretrained(
        parts["base_weights"], subfolder="unet"
    ).half().save_pretrained(base / "unet", variant="fp16")
    for name in ("vae", "scheduler", "model_index.json"):
        (base / name).symlink_to(Path(parts["base_weights"]) / name)
    (base / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not needed")
    pixels, mask = window(64, 64)
    (exact,) = filled(load(parts), (pixels, mask), seeds=[1])
    (halved,) = filled(load(parts, base_weights=str(base)), (pixels, mask), seeds=[1])
    assert 0 < np.abs(exact.pixels.astype(int) - halved.pixels).max() <= 4


def test_an_autoencoder_that_overflows_in_float16_runs_in_float32(
    parts: dict[str, str], tmp_path: Path
) -> None:
    """As SDXL's does, where it encodes, too."""
    vae = AutoencoderKL.from_pretrained(parts["base_weights"], subfolder="vae")
    with torch.no_grad():
        vae.encoder.conv_in.weight.mul_(5e4 / vae.encoder.conv_in.weight.abs().max())
    vae.save_pretrained(tmp_path / "vae")
    for name in ("unet", "scheduler", "model_index.json"):
        (tmp_path / name).symlink_to(Path(parts["base_weights"]) / name)
    changed = parts | {"base_weights": str(tmp_path)}
    each = window(64, 64)
    (exact,) = filled(load(changed), each, seeds=[1])
    (halved,) = filled(load(changed, dtype="float16"), each, seeds=[1])
    assert 0 < np.abs(exact.pixels.astype(int) - halved.pixels).mean() < 2
