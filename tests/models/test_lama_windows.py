"""What LaMa does around its network: padding, batches that do not fit, output that is unusable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from manifests.errors import RowError, WeightsError
from stages.arrays import UInt8Array
from stages.models.lama import Lama
from stages.recipe.removal_methods import LamaOptions
from tests.support.models.lama_networks import apart, hole, pixels_of

EXACT = LamaOptions(dtype="float32")


class Fake(nn.Module):
    """A network that paints what a function says, and remembers its batches."""

    def __init__(self, paint: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.paint = paint
        self.batches: list[int] = []

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002 - as LaMa's
        self.batches.append(len(image))
        return self.paint(image)


def test_what_is_no_picture_costs_only_its_own_row(
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
    assert network.batches == [3]


def test_black_is_believed_only_where_something_near_is_dark(coffee: UInt8Array) -> None:
    bright = coffee[:64, :64] // 2 + 100
    dark = bright.copy()
    dark[:, :24] = 5
    lama = Lama(Fake(torch.zeros_like), EXACT, "cpu")
    failed, believed = lama.fill([bright, dark], [hole(bright)] * 2)
    assert isinstance(failed, RowError)
    assert failed.code == "model.bad_output"
    assert (pixels_of(believed)[hole(bright) > 0] == 0).all()


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


def test_where_nothing_compiles_it_is_told_before_work_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_compiler(*args: object) -> None:
        raise RuntimeError("no C++ compiler\nin a long trace")

    monkeypatch.setattr(torch, "compile", lambda _: no_compiler)
    with pytest.raises(WeightsError, match=r"cannot be compiled: no C\+\+ compiler\.") as error:
        Lama(Fake(lambda image: image), LamaOptions(compile=True), "cpu")
    assert error.value.code == "model.unavailable"
