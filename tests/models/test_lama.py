"""LaMa at full size, with random weights: the arithmetic is the published network's."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
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
from stages.pipeline import Pipeline
from stages.recipe import Recipe
from stages.recipe.options import LamaOptions
from tests.support import DEMO, encoded, photo_of, upright_rgb
from tests.support.lama_networks import dat_weights, hole, needs_gpu, random_lama
from tests.support.networks import save_torchscript

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


def pixels_of(result: UInt8Array | RowError) -> UInt8Array:
    assert isinstance(result, np.ndarray), result
    return result


def apart(one: UInt8Array | RowError, other: UInt8Array | RowError) -> int:
    """By how many levels of 255 two pictures differ at most."""
    return int(np.abs(pixels_of(one).astype(int) - pixels_of(other)).max())


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


class Fake(nn.Module):
    """A network that paints what a function says, and remembers its batches."""

    def __init__(self, paint: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.paint = paint
        self.batches: list[int] = []

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002 - as LaMa's
        self.batches.append(len(image))
        return self.paint(image)


def test_what_is_no_picture_is_tried_in_float32_and_costs_only_its_own_row(
    coffee: UInt8Array,
) -> None:
    def paint(image: Tensor) -> Tensor:
        out = image.clone()
        out[image.amax(dim=(1, 2, 3)) < 0.5] = torch.nan
        return out

    network = Fake(paint)
    bright, dim = coffee[:64, :64] // 2 + 128, coffee[:64, :64] // 4
    lama = Lama(network, LamaOptions(dtype="bfloat16"), "cpu")
    first, broken, last = lama.fill([bright, dim, bright], [hole(bright)] * 3)
    assert apart(first, bright) == 0
    assert isinstance(broken, RowError)
    assert broken.code == "model.bad_output"
    assert apart(last, bright) == 0
    assert network.batches == [3, 1], "the second try is for the broken one alone"


def test_a_second_try_in_float32_can_succeed(coffee: UInt8Array) -> None:
    def paint(image: Tensor) -> Tensor:
        return image + torch.inf if torch.is_autocast_enabled("cpu") else image

    pixels = coffee[:64, :64]
    (filled,) = Lama(Fake(paint), LamaOptions(dtype="float16"), "cpu").fill(
        [pixels], [hole(pixels)]
    )
    assert apart(filled, pixels) == 0


def test_black_is_believed_only_where_something_near_is_dark(coffee: UInt8Array) -> None:
    bright = coffee[:64, :64] // 2 + 100
    dark = bright.copy()
    dark[:, :24] = 5
    lama = Lama(Fake(torch.zeros_like), EXACT, "cpu")
    failed, believed = lama.fill([bright, dark], [hole(bright)] * 2)
    assert isinstance(failed, RowError)
    assert failed.code == "model.bad_output"
    assert (pixels_of(believed)[hole(bright) > 0] == 0).all()


def test_weights_that_are_not_numbers_end_as_bad_output(
    network: LaMa, window: tuple[UInt8Array, UInt8Array]
) -> None:
    broken = copy.deepcopy(network)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    (result,) = Lama(broken, EXACT, "cpu").fill([window[0]], [window[1]])
    assert isinstance(result, RowError)
    assert result.code == "model.bad_output"


def test_batches_are_halved_until_they_fit(coffee: UInt8Array) -> None:
    """With a network that only says that memory has ended; a real GPU's end is not shown here."""

    def paint(image: Tensor) -> Tensor:
        if len(image) > 2 or image.shape[-1] > 64:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 1 - image

    network = Fake(paint)
    pixels, large = coffee[:64, :64], coffee[:64, :72]
    windows = [pixels, large] + [pixels] * 8
    lama = Lama(network, LamaOptions(dtype="float32", batch_size=8), "cpu")
    results = lama.fill(windows, [hole(each) for each in windows])
    assert network.batches == [8, 4, 2, 2, 2, 2, 1, 1]
    assert isinstance(results[1], RowError)
    assert results[1].code == "model.out_of_memory"
    inside = hole(pixels) > 0
    for result in results[:1] + results[2:]:
        assert np.array_equal(pixels_of(result)[inside], 255 - pixels[inside])


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
        dat_weights(): "is not of LaMa, but of DAT .SR",
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
    with pytest.raises(WeightsError, match="no weights at") as error:
        Lama.load(tmp_path / "none.pt", EXACT)
    assert error.value.code == "weights.missing"


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_padded_is_unknown_and_the_same_on_every_device(
    compiled: bool, coffee: UInt8Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled as far as the graph; the code that is made of it takes minutes on a CPU."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    seen: list[tuple[Tensor, Tensor]] = []

    class Watching(Fake):
        def forward(self, image: Tensor, mask: Tensor) -> Tensor:
            seen.append((image, mask))
            return self.paint(image)

    options = LamaOptions(dtype="float32", compile=compiled)
    lama = Lama(Watching(lambda image: 1 - image), options, "cpu")
    seen.clear()
    windows = [coffee[:40, :60], coffee[:64, :64], coffee[:65, :128], coffee[:9, :70]]
    results = lama.fill(windows, [hole(each) for each in windows])
    assert [tuple(mask.shape[2:]) for _, mask in seen] == [(40, 64), (64, 64), (72, 128), (16, 72)]
    for pixels, result, (image, mask) in zip(windows, results, seen, strict=True):
        height, width = pixels.shape[:2]
        known = mask[0, 0].numpy() == 0
        assert not known[height:].any()
        assert not known[:, width:].any()
        shown = np.rint(image[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        assert np.array_equal(shown[known], pixels[known[:height, :width]])
        inside = hole(pixels) > 0
        assert np.array_equal(pixels_of(result)[inside], 255 - pixels[inside])


def test_a_compiled_network_fills_the_same_around_any_hole(
    network: LaMa, lama: Lama, coffee: UInt8Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled as far as the graphs, as above."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    compiled = Lama(
        copy.deepcopy(network), LamaOptions(dtype="float32", compile=True, batch_size=1), "cpu"
    )
    pixels = coffee[:64, :128]
    for top, left, side in ((0, 0, 8), (20, 50, 30), (40, 100, 24), (0, 0, 64)):
        mask = np.zeros((64, 128), np.uint8)
        mask[top : top + side, left : left + side] = 255
        assert apart(compiled.fill([pixels], [mask])[0], lama.fill([pixels], [mask])[0]) <= 1


def test_where_nothing_compiles_it_is_told_before_work_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_compiler(*args: object) -> None:
        raise RuntimeError("no C++ compiler\nin a long trace")

    monkeypatch.setattr(torch, "compile", lambda _: no_compiler)
    with pytest.raises(WeightsError, match=r"cannot be compiled: no C\+\+ compiler\.") as error:
        Lama(Fake(lambda image: image), LamaOptions(compile=True), "cpu")
    assert error.value.code == "model.unavailable"


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
