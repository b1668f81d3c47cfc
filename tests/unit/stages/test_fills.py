"""The classical fills, on real photos."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from stages.arrays import UInt8Array
from stages.models.classical import Classical, fill_one
from stages.pixels.resize import limited_size, scale_mask, scale_pixels
from stages.recipe import Recipe
from stages.recipe.removal_methods import NavierStokesOptions, PatchMatchOptions, TeleaOptions

METHODS: list[Classical] = [TeleaOptions(), NavierStokesOptions(), PatchMatchOptions()]


@pytest.fixture
def table_top(coffee: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
    """The wooden table of the photo, and a mask on it."""
    pixels = np.ascontiguousarray(coffee[280:400, 0:160])
    mask = np.zeros(pixels.shape[:2], np.uint8)
    cv2.circle(mask, (80, 60), 14, (255,), -1)
    return pixels, mask


@pytest.mark.parametrize("options", METHODS, ids=lambda options: options.method)
def test_known_pixels_stay_and_the_object_goes(
    options: Classical, table_top: tuple[UInt8Array, UInt8Array]
) -> None:
    pixels, mask = table_top
    marked = pixels.copy()
    marked[mask > 0] = (0, 255, 255)
    filled = fill_one(options, marked, mask, 7)
    assert filled.shape == pixels.shape
    assert filled.dtype == np.uint8
    assert np.array_equal(filled[mask == 0], marked[mask == 0])
    # The wood is red-brown: a fill by its mean colour would be this far off, the mark far more.
    flat = np.abs(pixels[mask > 0] - pixels[mask == 0].mean(axis=0)).mean()
    off = np.abs(filled[mask > 0].astype(float) - pixels[mask > 0]).mean()
    assert off < 1.5 * flat
    assert (filled[mask > 0][:, 0] > filled[mask > 0][:, 2]).all(), "no cyan is left"


def test_patchmatch_follows_its_seed_and_nothing_else(
    table_top: tuple[UInt8Array, UInt8Array],
) -> None:
    pixels, mask = table_top
    first, other, again = (fill_one(PatchMatchOptions(), pixels, mask, seed) for seed in (1, 2, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_patchmatch_brings_texture_where_telea_smears(
    table_top: tuple[UInt8Array, UInt8Array],
) -> None:
    pixels, mask = table_top

    def detail(image: UInt8Array) -> float:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        inner = cv2.erode(mask, np.ones((9, 9), np.uint8)) > 0
        return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F))[inner].mean())

    patchmatch = detail(fill_one(PatchMatchOptions(), pixels, mask, 0))
    telea = detail(fill_one(TeleaOptions(), pixels, mask, 0))
    assert patchmatch > 1.5 * telea


def test_shrinking_leaves_no_colour_of_the_object_among_known_pixels() -> None:
    pixels = np.full((400, 600, 3), 100, np.uint8)
    mask = np.zeros((400, 600), np.uint8)
    mask[123:277, 191:402] = 255
    pixels[mask > 0] = 255
    width, height = limited_size(600, 400, 253)
    assert (width, height) == (253, 169)
    small, small_mask = scale_pixels(pixels, width, height), scale_mask(mask, width, height)
    assert (small[small_mask == 0] == 100).all()
    assert (small_mask > 0).sum() < 1.1 * (mask > 0).sum() * (253 / 600) ** 2


def test_scaling_down_and_up_moves_nothing(coffee: npt.NDArray[np.uint8]) -> None:
    back = scale_pixels(scale_pixels(coffee, 300, 200), 600, 400).astype(np.float32)
    grey, grey_back = coffee.mean(axis=2, dtype=np.float32), back.mean(axis=2)
    (dx, dy), _ = cv2.phaseCorrelate(grey, grey_back)
    assert abs(dx) < 0.02
    assert abs(dy) < 0.02


@pytest.mark.parametrize("name", ["telea", "navier-stokes", "patchmatch"])
def test_each_shipped_recipe_names_its_method(name: str) -> None:
    remove = Recipe.load(name).remove
    assert remove is not None
    assert remove.method == name
