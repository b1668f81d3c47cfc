"""Enlarging: a small network with random weights for tiles, real weights for pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from spandrel import ImageModelDescriptor, ModelLoader
from torch import Tensor, nn

from manifests.errors import RowError, WeightsError
from stages.arrays import UInt8Array
from stages.models.single_file import load_network
from stages.models.upscaler import Upscaler, to_size
from stages.recipe.refiners import UpscaleOptions
from tests.support.models.lama_networks import apart, dat_weights, needs_gpu, random_upscaler

EXACT = UpscaleOptions(dtype="float32")
TILES = UpscaleOptions(dtype="float32", tile_px=64, overlap_px=32)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_upscaler(tmp_path_factory.mktemp("weights") / "small.pth")


@pytest.fixture(scope="session")
def real() -> Upscaler:
    return Upscaler.load(dat_weights(), TILES, "cpu")


def test_gives_what_spandrel_gives(real: Upscaler, coffee: UInt8Array) -> None:
    pixels = coffee[200:219, 250:281]
    plain = ModelLoader().load_from_file(dat_weights())
    assert isinstance(plain, ImageModelDescriptor)
    image = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255
    expected = (plain(image)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    enlarged = real.enlarge(pixels)
    assert real.scale == 2
    assert enlarged.shape == (38, 62, 3)
    assert apart(enlarged, expected) == 0


def test_real_weights_bring_back_detail_without_moving_it(
    real: Upscaler, coffee: UInt8Array
) -> None:
    """Better than Lanczos, against the photo that was shrunk; in tiles, without a seam."""
    truth = coffee[160:240, 240:400]
    shrunk = Image.fromarray(truth).resize((80, 40), Image.Resampling.BICUBIC)
    small = np.asarray(shrunk)  # as the network was taught
    enlarged, lanczos = real.enlarge(small), to_size(small, 160, 80, None)

    def error(image: UInt8Array) -> float:
        return float(np.square(image.astype(float) - truth)[8:-8, 8:-8].mean())

    assert error(enlarged) < 0.5 * error(lanczos)
    untiled = Upscaler.load(dat_weights(), EXACT, "cpu").enlarge(small)
    # This network looks at whole tiles: they cannot be equal, but nowhere may it show.
    off = enlarged.astype(float) - untiled
    assert np.abs(off).mean() < 0.2
    assert np.abs(off).max() <= 4
    # From one column to the next, neighbours in the photo differ by 5 levels on average.
    assert np.abs(np.diff(off, axis=1)).mean(axis=(0, 2)).max() < 1


@pytest.mark.parametrize("size", [(64, 65), (100, 63), (200, 333), (129, 1)], ids=str)
@pytest.mark.parametrize("overlap", [32, 48, 512])
def test_tiles_are_seamless_for_a_network_that_sees_not_too_far(
    size: tuple[int, int], overlap: int, weights: Path, coffee: UInt8Array
) -> None:
    pixels = coffee[: size[0], : size[1]]
    options = TILES.model_copy(update={"overlap_px": overlap})
    tiled = Upscaler.load(weights, options, "cpu").enlarge(pixels)
    untiled = Upscaler.load(weights, EXACT, "cpu").enlarge(pixels)
    assert apart(tiled, untiled) <= 1
    assert (tiled != untiled).mean() < 1e-3, "rounding alone"


@pytest.mark.parametrize("size", [(1, 1), (17, 16)], ids=str)
def test_takes_any_size(size: tuple[int, int], real: Upscaler, coffee: UInt8Array) -> None:
    pixels = coffee[: size[0], : size[1]]
    assert real.enlarge(pixels).shape == (2 * size[0], 2 * size[1], 3)


def test_16_bits_where_the_network_declares_them(
    weights: Path, coffee: UInt8Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = coffee[:40, :50]
    exact = Upscaler.load(weights, EXACT, "cpu").enlarge(pixels)
    for dtype, levels in (("float16", 1), ("bfloat16", 4)):
        options = UpscaleOptions.model_validate({"dtype": dtype})
        assert apart(Upscaler.load(weights, options, "cpu").enlarge(pixels), exact) <= levels
    with pytest.raises(WeightsError, match=r"DAT\) cannot compute in float16") as error:
        Upscaler.load(dat_weights(), UpscaleOptions(dtype="float16"), "cpu")
    assert error.value.code == "model.unavailable"


def _with(path: Path, network: nn.Module, options: UpscaleOptions) -> Upscaler:
    """An upscaler by x2 whose network is another one."""
    found: Any = load_network(path, "SR")
    found._model = network
    return Upscaler(found, options, "cpu")


class Fake(nn.Module):
    """Repeats pixels; fails as it is told."""

    def __init__(self, largest_px: int = 10**6, nan_in: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.largest_px, self.nan_in = largest_px, nan_in

    def forward(self, image: Tensor) -> Tensor:
        if max(image.shape[2:]) > self.largest_px:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        out = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return out * torch.nan if self.nan_in in (image.dtype, torch.float64) else out


def test_tiles_are_the_recipes_wherever_memory_ends(weights: Path, coffee: UInt8Array) -> None:
    """With a network that only says that memory has ended; a real GPU's end is not shown here."""
    pixels = coffee[:300, :400]
    twice = pixels.repeat(2, axis=0).repeat(2, axis=1)
    assert apart(_with(weights, Fake(largest_px=64), TILES).enlarge(pixels), twice) == 0
    with pytest.raises(RowError, match="does not fit") as error:
        _with(weights, Fake(largest_px=63), TILES).enlarge(pixels)
    assert error.value.code == "model.out_of_memory"
    assert "upscale.tile_px" in error.value.remedy


def test_what_is_not_a_number_is_tried_in_float32(weights: Path, coffee: UInt8Array) -> None:
    pixels = coffee[:20, :30]
    half = UpscaleOptions(dtype="float16")
    enlarged = _with(weights, Fake(nan_in=torch.float16), half).enlarge(pixels)
    assert apart(enlarged, pixels.repeat(2, axis=0).repeat(2, axis=1)) == 0
    for options in (half, EXACT):
        with pytest.raises(RowError) as error:
            _with(weights, Fake(nan_in=torch.float64), options).enlarge(pixels)
        assert error.value.code == "model.bad_output"


def test_black_is_tried_in_float32_and_believed_of_black_alone(
    weights: Path, coffee: UInt8Array
) -> None:
    class Dark(Fake):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image) * (image.dtype == self.good_in)

        good_in: torch.dtype | None = None

    pixels = coffee[:20, :30]
    half, network = UpscaleOptions(dtype="float16"), Dark()
    with pytest.raises(RowError, match="black") as error:
        _with(weights, network, half).enlarge(pixels)
    assert error.value.code == "model.bad_output"
    assert not _with(weights, network, EXACT).enlarge(pixels // 32).any()
    network.good_in = torch.float32
    enlarged = _with(weights, network, half).enlarge(pixels)
    assert apart(enlarged, pixels.repeat(2, axis=0).repeat(2, axis=1)) == 0


def test_other_networks_and_damage_are_told(weights: Path, tmp_path: Path) -> None:
    grey = random_upscaler(tmp_path / "grey.pth", channels=1)
    cleaner = random_upscaler(tmp_path / "cleaner.pth", scale=1)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(weights.read_bytes()[:-2000])
    cases = {
        grey: "of pictures with 1 channels, not for SR of RGB",
        cleaner: "which is for Restoration of pictures with 3 channels, not for SR",
        cut: "is damaged",
    }
    for path, what in cases.items():
        with pytest.raises(WeightsError, match=what) as error:
            Upscaler.load(path, EXACT)
        assert error.value.code == "weights.unusable"


class TestToSize:
    def test_asks_the_network_only_to_grow(self, weights: Path, coffee: UInt8Array) -> None:
        calls: list[tuple[int, ...]] = []

        class Counting(Fake):
            def forward(self, image: Tensor) -> Tensor:
                calls.append(tuple(image.shape[2:]))
                return super().forward(image)

        upscaler = _with(weights, Counting(), EXACT)
        pixels = coffee[:90, :120]
        for width, height, expected in (
            (120, 90, []),
            (60, 33, []),
            (121, 60, [(90, 120)]),
            (333, 250, [(90, 120)]),
        ):
            calls.clear()
            sized = to_size(pixels, width, height, upscaler)
            assert sized.shape == (height, width, 3)
            assert calls == expected
        same = to_size(pixels, 120, 90, None)
        assert np.array_equal(same, pixels)
        assert not np.shares_memory(same, pixels)

    @pytest.mark.parametrize("size", [(150, 100), (300, 250), (250, 90), (500, 60)], ids=str)
    def test_moves_nothing(self, size: tuple[int, int], coffee: UInt8Array, weights: Path) -> None:
        """Whatever moved a picture to one side would move its mirror image to the other."""
        pixels = coffee[100:300, 100:300]
        for upscaler in (None, _with(weights, Fake(), EXACT)):
            sized = to_size(pixels, *size, upscaler)
            mirrored = to_size(pixels[::-1, ::-1], *size, upscaler)
            assert apart(mirrored[::-1, ::-1], sized) <= 2, "each of two steps rounds"
            assert (mirrored[::-1, ::-1] != sized).mean() < 0.2


@pytest.mark.gpu
@needs_gpu(4)
def test_a_gpu_enlarges_as_the_cpu_does(weights: Path, coffee: UInt8Array) -> None:
    pixels = coffee[:100, :130]
    for path, levels in ((weights, 2), (dat_weights(), 6)):
        on_gpu = Upscaler.load(path, TILES.model_copy(update={"dtype": "auto"}))
        on_cpu = Upscaler.load(path, TILES, "cpu")
        assert apart(on_gpu.enlarge(pixels), on_cpu.enlarge(pixels)) <= levels
