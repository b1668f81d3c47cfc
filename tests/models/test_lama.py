"""LaMa at full size, with random weights: the arithmetic is the published network's."""

from __future__ import annotations

import copy
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.LaMa import LaMa
from torch import Tensor, nn

from manifests.errors import RecipeError, RowError, WeightsError
from stages.arrays import UInt8Array
from stages.models.lama import Lama
from stages.models.simple_lama import SimpleLamaNetwork
from stages.recipe import Recipe
from stages.recipe.removal_methods import LamaOptions
from tests.support import DEMO, encoded, photo_of, upright_rgb
from tests.support.models.lama_networks import (
    apart,
    dat_weights,
    hole,
    needs_gpu,
    pixels_of,
    random_lama,
)
from tests.support.models.networks import save_torchscript

EXACT = LamaOptions(dtype="float32")


@pytest.fixture(scope="session")
def network(coffee: UInt8Array) -> LaMa:
    return random_lama(coffee[100:292, 200:424])


@pytest.fixture(scope="session")
def published(network: LaMa, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as the TorchScript that people have."""
    return save_torchscript(network, tmp_path_factory.mktemp("weights") / "big-lama.pt")


@pytest.fixture(scope="session")
def lama(published: Path) -> Lama:
    return Lama.load(published, EXACT, "cpu")


@pytest.fixture(scope="session")
def reference(published: Path) -> Lama:
    return Lama(SimpleLamaNetwork.load(published, "cpu"), EXACT, "cpu")


@pytest.fixture
def window(coffee: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
    """Part of a photo with a hole in it; its sides are no multiples of 8."""
    pixels = coffee[150:250, 100:241]
    return pixels, hole(pixels)


@pytest.mark.parametrize(
    ("photo", "part"),
    [
        ("coffee-stray-coins.jpg", np.s_[150:342, 100:356]),
        ("wall-clock-corner-logo.jpg", np.s_[300:400, 500:641]),
        ("nuthatch-caption.webp", np.s_[100:257, 200:261]),
    ],
    ids=["192x256", "100x141", "157x61"],
)
def test_fills_as_the_published_program_does(
    photo: str, part: tuple[slice, slice], lama: Lama, reference: Lama
) -> None:
    pixels = upright_rgb(DEMO / "photos" / photo)[part]
    mask = hole(pixels)
    expected = pixels_of(reference.fill([pixels], [mask])[0])
    filled = pixels_of(lama.fill([pixels], [mask])[0])
    inside = mask > 0
    assert pixels[inside].std() > 0
    assert filled[inside].std() > 20, "the random network paints with contrast"
    difference = filled[inside].astype(int) - expected[inside]
    # The reference truncates: on average half a level less.
    assert difference.min() >= 0
    assert difference.max() <= 1
    assert difference.mean() == pytest.approx(0.5, abs=0.05)
    assert np.array_equal(filled[~inside], expected[~inside])


def test_both_engines_make_the_same_photo_through_the_steps(
    published: Path, coffee: UInt8Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAMA_MODEL", raising=False)
    made, weights = [], []
    recipes = [
        Recipe.load("lama", [f"remove.weights={published}", "remove.dtype=float32", engine])
        for engine in ("remove.engine=built-in", "remove.engine=simple-lama")
    ]
    for recipe in recipes:
        mask = np.zeros(coffee.shape[:2], np.uint8)
        mask[150:190, 100:130] = 255
        photo = photo_of(encoded(coffee), encoded(mask))
        from stages.pipeline import Pipeline  # needs codecs that a machine with a GPU may lack

        Pipeline.of(recipe).after("fetch").run(photo)
        assert photo.decoded is not None, photo.lineage.error
        made.append(np.asarray(photo.decoded.pixels, np.uint8))
        weights.append(photo.lineage.weights)
    assert 0 < apart(*made) <= 1
    assert apart(made[0], coffee) > 20
    assert weights[0] == weights[1]
    assert recipes[0].hash != recipes[1].hash
    assert "LAMA_MODEL" not in os.environ


def test_the_reference_marks_its_own_failures(
    published: Path, window: tuple[UInt8Array, UInt8Array], tmp_path: Path
) -> None:
    class Flat(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, image: Tensor, hole: Tensor) -> Tensor:  # noqa: ARG002 - as LaMa
            return image * 0 + self.value

    bright = [window[0] // 2 + 100], [window[1]]
    for value in (float("nan"), 0.0):
        network: Any = SimpleNamespace(model=Flat(value))
        path = save_torchscript(network, tmp_path / f"{value}.pt")
        broken = Lama(SimpleLamaNetwork.load(path, "cpu"), EXACT, "cpu")
        (result,) = broken.fill(*bright)
        assert isinstance(result, RowError)
        assert result.code == "model.bad_output"
    torch.save({"a": torch.zeros(2)}, tmp_path / "state-dict.pth")
    with pytest.raises(WeightsError, match=r"is not the TorchScript that remove\.engine") as caught:
        SimpleLamaNetwork.load(tmp_path / "state-dict.pth", "cpu")
    assert caught.value.code == "weights.unusable"
    with pytest.raises(RecipeError, match="runs in float32"):
        Recipe.load("lama", ["remove.engine=simple-lama", "remove.compile=true"])


@pytest.mark.parametrize(
    "where",
    [np.s_[:9, :9], np.s_[40:41, 70:71], np.s_[63:96, 130:141], np.s_[::97, ::13], np.s_[:, :]],
    ids=["a corner", "a pixel", "an edge", "far apart", "all"],
)
def test_what_is_decoded_around_a_hole_is_what_the_whole_network_paints(
    where: tuple[slice, slice], network: LaMa, lama: Lama, coffee: UInt8Array
) -> None:
    pixels = coffee[150:254, 100:244]
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    marked = torch.zeros((1, 1, *pixels.shape[:2]))
    marked[(0, 0, *where)] = 1
    with torch.inference_mode():
        whole, part = network(image, marked), lama._network(image, marked)
    assert float((whole - part).abs().max()) < 1e-4
    assert torch.equal(part * (1 - marked), image * (1 - marked))


def test_a_batch_is_decoded_around_all_its_holes(lama: Lama, coffee: UInt8Array) -> None:
    windows, masks = [coffee[:96, :96]] * 2, [np.zeros((96, 96), np.uint8) for _ in range(2)]
    masks[0][3:20, 5:30] = masks[1][80:90, 60:96] = 255
    together = lama.fill(windows, masks)
    alone = [lama.fill([windows[0]], [mask])[0] for mask in masks]
    assert max(map(apart, together, alone)) <= 1


def test_16_bits_stay_near_float32(
    network: LaMa, lama: Lama, window: tuple[UInt8Array, UInt8Array]
) -> None:
    """The random network's fills vary by 50 levels from pixel to pixel, and bfloat16 keeps 8 bits
    of each of its 70 layers: this is the harder case.
    """
    pixels, mask = window
    (exact,) = lama.fill([pixels], [mask])
    half = Lama(copy.deepcopy(network), LamaOptions(dtype="bfloat16"), "cpu")
    assert half.dtype == torch.bfloat16
    (filled,) = half.fill([pixels], [mask])
    off = np.abs(pixels_of(filled).astype(int) - pixels_of(exact))[mask > 0]
    assert off.mean() < 3
    assert np.percentile(off, 99) < 10
    assert np.array_equal(pixels_of(filled)[mask == 0], pixels[mask == 0])


def test_a_batch_gives_what_single_windows_give(lama: Lama, coffee: UInt8Array) -> None:
    windows = [coffee[y : y + 64, 40 : 40 + width] for y in (0, 90, 180) for width in (72, 67, 40)]
    masks = [hole(each) for each in windows]
    together = lama.fill(windows, masks)
    alone = [lama.fill([pixels], [mask])[0] for pixels, mask in zip(windows, masks, strict=True)]
    assert [pixels_of(each).shape for each in together] == [each.shape for each in windows]
    assert max(map(apart, together, alone)) <= 1


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 9), (7, 5), (8, 8), (15, 17), (33, 16), (257, 513)], ids=str
)
def test_takes_any_size_and_keeps_known_pixels(
    size: tuple[int, int], lama: Lama, coffee: UInt8Array
) -> None:
    pixels = np.resize(coffee, (*size, 3)) if max(size) > 400 else coffee[: size[0], : size[1]]
    mask = hole(pixels)
    before = pixels.copy(), mask.copy()
    filled = pixels_of(lama.fill([pixels], [mask])[0])
    assert filled.shape == pixels.shape
    assert filled.dtype == np.uint8
    assert np.array_equal(filled[mask == 0], pixels[mask == 0])
    assert (filled[mask > 0] != pixels[mask > 0]).any()
    assert np.array_equal(pixels, before[0])
    assert np.array_equal(mask, before[1])


def test_an_empty_mask_changes_nothing_and_a_whole_one_everything(
    lama: Lama, window: tuple[UInt8Array, UInt8Array]
) -> None:
    pixels, mask = window
    empty, whole, soft = lama.fill(
        [pixels, pixels, pixels], [np.zeros_like(mask), np.full_like(mask, 255), mask // 255]
    )
    assert np.array_equal(pixels_of(empty), pixels)
    assert empty is not pixels
    (other,) = lama.fill([255 - pixels], [np.full_like(mask, 255)])
    assert np.array_equal(pixels_of(whole), pixels_of(other)), "nothing shows through a whole mask"
    assert apart(soft, lama.fill([pixels], [mask])[0]) <= 1, "1 marks as 255 does"
    assert lama.fill([], []) == []


def test_weights_that_are_not_numbers_end_as_bad_output(
    network: LaMa, window: tuple[UInt8Array, UInt8Array]
) -> None:
    broken = copy.deepcopy(network)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    (result,) = Lama(broken, EXACT, "cpu").fill([window[0]], [window[1]])
    assert isinstance(result, RowError)
    assert result.code == "model.bad_output"


@pytest.mark.parametrize("kind", ["state-dict.pth", "big-lama.safetensors", "generator.ckpt"])
def test_reads_weights_however_they_are_packed(
    kind: str, network: LaMa, lama: Lama, window: tuple[UInt8Array, UInt8Array], tmp_path: Path
) -> None:
    path = tmp_path / kind
    tensors = network.state_dict()
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    elif path.suffix == ".ckpt":  # as its authors name things
        tensors = {
            "generator." + name.removeprefix("model."): each for name, each in tensors.items()
        }
        torch.save({"state_dict": tensors}, path)
    else:
        torch.save(tensors, path)
    (filled,) = Lama.load(path, EXACT, "cpu").fill([window[0]], [window[1]])
    assert apart(filled, lama.fill([window[0]], [window[1]])[0]) == 0


def test_other_networks_and_damage_are_told(published: Path, tmp_path: Path) -> None:
    whole = published.read_bytes()
    stranger, smaller, evil = tmp_path / "a.pt", tmp_path / "b.pth", tmp_path / "c.pth"
    torch.save({"fc.weight": torch.zeros(2, 2)}, stranger)
    torch.save({"model.model.1.bn_l.running_mean": torch.zeros(2)}, smaller)
    torch.save({"fc.weight": print}, evil)  # a name to import and call: it could be os.system
    cases = {
        dat_weights(): "weights of DAT, which is for SR of pictures with 3 channels, not for Inpai",
        stranger: "no known network .it begins with fc.weight",
        smaller: "another size",
        evil: "is damaged, or holds no weights",
    }
    for size in (0, 4, 1000, len(whole) // 2, len(whole) - 1000):
        cut = tmp_path / f"cut-{size}.pt"
        cut.write_bytes(whole[:size])
        cases[cut] = "is damaged"
    for path, what in cases.items():
        with pytest.raises(WeightsError, match=f"{path.name} .*{what}") as error:
            Lama.load(path, EXACT)
        assert error.value.code == "weights.unusable"
    with pytest.raises(WeightsError, match="no file of weights at") as error:
        Lama.load(tmp_path / "none.pt", EXACT)
    assert error.value.code == "weights.missing"


def test_a_compiled_network_fills_the_same_around_any_hole(
    coffee: UInt8Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled as far as the graphs, as above; of a tiny network, since tracing takes long."""
    pixels = coffee[:64, :128]
    network = random_lama(pixels, tiny=True)
    lama = Lama(copy.deepcopy(network), EXACT, "cpu")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    compiled = Lama(
        copy.deepcopy(network), LamaOptions(dtype="float32", compile=True, batch_size=1), "cpu"
    )
    for top, left, side in ((0, 0, 8), (20, 50, 30), (40, 100, 24), (0, 0, 64)):
        mask = np.zeros((64, 128), np.uint8)
        mask[top : top + side, left : left + side] = 255
        filled = pixels_of(lama.fill([pixels], [mask])[0])
        assert filled[mask > 0].std() > 10, "what it paints has contrast"
        assert apart(compiled.fill([pixels], [mask])[0], filled) <= 1


@pytest.mark.gpu
@needs_gpu(4)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpu_fills_as_the_cpu_does(
    dtype: str, network: LaMa, published: Path, window: tuple[UInt8Array, UInt8Array]
) -> None:
    pixels, mask = window
    on_gpu = Lama.load(published, LamaOptions.model_validate({"dtype": dtype}))
    on_cpu = Lama(copy.deepcopy(network), EXACT, "cpu")
    filled = pixels_of(on_gpu.fill([pixels] * 3, [mask] * 3)[2])
    off = np.abs(filled.astype(int) - pixels_of(on_cpu.fill([pixels], [mask])[0]))
    assert off[mask > 0].mean() < {"float32": 0.5, "bfloat16": 3, "float16": 1}[dtype]
    assert not off[mask == 0].any()
