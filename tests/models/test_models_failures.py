"""What a model does wrong ends as a failed row with its own code, and never as a picture.

Through all steps of a recipe, in one process. Memory that runs out is only played.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from manifests.errors import WeightsError
from manifests.schema import LineageRow
from stages.arrays import UInt8Array
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.recipe import Recipe
from tests.support import encoded, write
from tests.support.models.lama_networks import dat_weights, hole
from tests.support.models.networks import make_lama
from tests.support.models.tiny_models import save_flux_fill


@pytest.fixture
def cleaned(coffee: UInt8Array, tmp_path: Path) -> Callable[..., LineageRow]:
    """What becomes of part of a photo; nothing is stored unless it is ok."""
    photo = write(tmp_path / "photo.png", encoded(coffee[:96, :96] // 2 + 100))
    mask = write(tmp_path / "mask.png", encoded(Image.fromarray(hole(coffee[:96, :96]))))

    def clean(recipe: str, *options: str) -> LineageRow:
        row = LineageRow(id="cleaned", image_uri=photo, mask_uri=mask)
        Pipeline.of(Recipe.load(recipe, options), str(tmp_path / "out")).run(Photo(row))
        assert any(tmp_path.glob("out/images/*/*")) == (row.status == "ok")
        return row

    return clean


def _weights(folder: Path, last_bias: float) -> str:
    """LaMa whose last layer adds so much, before the sigmoid."""
    network = make_lama()
    *_, last = (each for each in network.modules() if isinstance(each, torch.nn.Conv2d))
    with torch.no_grad():
        assert last.bias is not None
        last.bias.fill_(last_bias)
    path = folder / "lama.safetensors"
    save_file(network.state_dict(), path)
    return f"remove.weights={path}"


@pytest.mark.parametrize(
    ("last_bias", "ends"),
    [(0.0, None), (float("nan"), "model.bad_output"), (-1e6, "model.bad_output")],
    ids=["fine", "nan", "black"],
)
def test_what_lama_cannot_paint_fails_the_row(
    last_bias: float, ends: str | None, cleaned: Callable[..., LineageRow], tmp_path: Path
) -> None:
    row = cleaned("lama", _weights(tmp_path, last_bias), "remove.dtype=float32")
    assert row.error_code == ends
    assert row.error_stage == (ends and "remove")


def test_too_little_memory_for_a_single_crop_fails_the_row(
    cleaned: Callable[..., LineageRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("simulated")

    weights = _weights(tmp_path, 0.0)
    monkeypatch.setattr(nn.ConvTranspose2d, "forward", short_of_memory)  # LaMa's decoder
    row = cleaned("lama", weights, "remove.dtype=float32")
    assert (row.error_code, row.error_stage) == ("model.out_of_memory", "remove")
    monkeypatch.setattr(FluxTransformer2DModel, "forward", short_of_memory)
    row = cleaned("flux-fill", *_small(save_flux_fill(tmp_path / "flux")))
    assert (row.error_code, row.error_stage) == ("model.out_of_memory", "refine")


@pytest.mark.parametrize(
    ("bias", "told"), [(float("nan"), "NaN or infinity"), (-9.0, "black")], ids=["nan", "black"]
)
def test_what_a_refiner_cannot_paint_fails_the_row(
    bias: float, told: str, cleaned: Callable[..., LineageRow], tmp_path: Path
) -> None:
    folder = save_flux_fill(tmp_path / "flux")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["decoder.conv_out.bias"].fill_(bias)
    weights["decoder.conv_out.weight"].zero_()
    save_file(weights, path, metadata={"format": "pt"})
    row = cleaned("flux-fill", *_small(folder))
    assert (row.error_code, row.error_stage) == ("model.bad_output", "refine")
    assert told in (row.error or "")


def _small(folder: Path) -> list[str]:
    return [
        f"refine.weights={folder}",
        "refine.size_px=64",
        "refine.steps=1",
        "refine.dtype=float32",
    ]


def test_another_network_is_told_and_nothing_is_stored(
    cleaned: Callable[..., LineageRow], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="holds weights of DAT, which is for SR") as error:
        cleaned("lama", f"remove.weights={dat_weights()}")
    assert error.value.code == "weights.unusable"
    assert not (tmp_path / "out").exists()
