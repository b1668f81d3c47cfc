"""What the removal sees and what the refiner sees, and the way from one to the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.schema import LineageRow, PatchRecord
from stages.arrays import BoolMask
from stages.photo import CropPatch, Photo, WindowPatch
from stages.pixels.boxes import Box
from stages.pixels.windows import max_side_px, plan_patches, refiner_size, window_of, working_size
from stages.recipe import Recipe
from stages.recipe.removal_methods import LamaOptions
from stages.steps.focus import build_focus


def planned(recipe: Recipe, width: int = 1200, height: int = 800) -> tuple[Box, Box]:
    mask = np.zeros((height, width), np.bool_)
    mask[300:380, 500:620] = True
    (plan,) = plan_patches(mask, recipe)
    return plan.crop, window_of(plan, recipe, width, height)


@pytest.mark.parametrize("name", ["telea", "patchmatch", "lama"])
def test_without_a_refiner_window_and_crop_are_one(name: str) -> None:
    crop, window = planned(Recipe.load(name))
    assert crop == window


def test_lama_sees_its_own_surroundings_or_the_whole_photo() -> None:
    crop, _ = planned(Recipe.load("lama"))
    assert (crop.width, crop.height) == (384, 384), "of 120 x 80 and 128 on each side, in 64s"
    crop, _ = planned(Recipe.load("lama", ["remove.window=photo"]))
    assert crop == Box(0, 0, 1200, 800)


def test_with_a_refiner_the_window_holds_the_crop() -> None:
    crop, window = planned(Recipe.load("clean"))
    assert crop.width == crop.height
    assert window.union(crop) == window
    _, window = planned(Recipe.load("clean", ["remove.window=photo"]))
    assert window == Box(0, 0, 1200, 800)
    crop, window = planned(Recipe.load("flux-fill"))
    assert crop == window
    assert planned(Recipe.load("clean", ["remove.window=photo"]), 1205, 803)[1].width == 1200


def test_only_the_removal_scales_its_window() -> None:
    assert max_side_px(Recipe.load("patchmatch")) == 768
    assert max_side_px(Recipe.load("clean")) == 2048
    assert max_side_px(Recipe.load("clean", ["remove.max_side_px=2000"])) == 2048
    assert max_side_px(Recipe.load("flux-fill")) == 0


@st.composite
def marked_photos(draw: st.DrawFn) -> BoolMask:
    """A photo's mask, with up to four marks, at the borders as often as not."""
    height, width = draw(st.integers(1, 2500)), draw(st.integers(1, 2500))
    mask = np.zeros((height, width), np.bool_)
    for _ in range(draw(st.integers(1, 4))):
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        wide, high = draw(st.integers(1, width)), draw(st.integers(1, 300))
        mask[y : y + high, x : x + wide] = True
    return mask


RECIPES = [
    ("clean", []),
    ("clean", ["remove.window=photo", "mask.feather_px=40"]),
    ("clean", ["remove.max_side_px=500", "crop.aspect=1.5"]),
    ("clean-apache", ["crop.aspect=0"]),
    ("clean", ["remove.method=telea", "crop.context=1", "crop.min_context_px=1"]),
    ("flux-fill", ["mask.feather_px=0"]),
    ("lama", []),
    ("lama", ["remove.window=photo", "mask.feather_share=0.1"]),
    ("patchmatch", ["crop.aspect=0.3"]),
]


@given(mask=marked_photos(), recipe=st.sampled_from(RECIPES))
def test_nothing_that_a_model_sees_lies_outside_the_photo(
    mask: BoolMask, recipe: tuple[str, list[str]]
) -> None:
    """All that is painted is seen, and LaMa pads only where the marks leave no choice."""
    made = Recipe.load(*recipe)
    height, width = mask.shape
    photo, edge_px = Box(0, 0, width, height), made.mask.feather_for(width, height) + 1
    for plan in plan_patches(mask, made):
        window = window_of(plan, made, width, height)
        needed = plan.bounds.grown(edge_px).clipped(width, height)
        assert photo.union(window) == photo
        assert window.union(plan.crop) == window
        assert plan.crop.union(needed) == plan.crop
        if isinstance(made.remove, LamaOptions):
            sides = zip(
                working_size(made, window.width, window.height),
                (needed.width, needed.height),
                (width, height),
                strict=True,
            )
            for side, least, limit in sides:
                assert side % 8 == 0 or least > limit - limit % 8 or limit < 8


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), size=st.integers(64, 2048))
def test_refined_sizes_are_multiples_of_16_and_keep_the_aspect(
    width: int, height: int, size: int
) -> None:
    wide, high = refiner_size(Box(0, 0, width, height), size)
    assert wide % 16 == high % 16 == 0
    assert abs(max(wide, high) - size) <= 8
    scale = size / max(width, height)
    assert abs(wide - max(width * scale, 16)) <= 8
    assert abs(high - max(height * scale, 16)) <= 8


def cut_patch(shrink: int, transparent: bool = False) -> tuple[WindowPatch, PatchRecord]:
    """A crop with a hole, in a window whose fill has level 77 and a resolution of its own.

    Half of the hole is not pasted if it is transparent there.
    """
    rng = np.random.default_rng(0)
    original_crop = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    hole = np.zeros((60, 80), np.uint8)
    hole[20:40, 30:50] = 255
    blend = hole.copy()
    blend[20:30] = 0 if transparent else blend[20:30]
    fill = np.full((160 // shrink, 200 // shrink, 3), 77, np.uint8)
    cut = WindowPatch(
        crop=Box(150, 250, 230, 310),
        window=Box(100, 200, 300, 360),
        pixels=fill,
        mask=np.zeros(fill.shape[:2], np.uint8),
        blend=blend,
        seed=0,
        original_crop=original_crop,
        hole=hole,
    )
    return cut, PatchRecord({}, {}, {}, 200 // shrink, 160 // shrink, seed=0)


@pytest.mark.parametrize("shrink", [1, 2])
def test_focus_puts_the_removals_result_into_the_hole_and_nowhere_else(shrink: int) -> None:
    cut, record = cut_patch(shrink)
    original_crop, hole = cut.original_crop, cut.hole
    assert original_crop is not None
    assert hole is not None
    photo = Photo(LineageRow(patches=[record]), patches=[cut])
    build_focus(Recipe.load("clean"))(photo)
    (patch,) = photo.patches
    assert isinstance(patch, CropPatch)
    assert patch.to_refine
    assert patch.pixels.shape == original_crop.shape
    assert (patch.pixels[hole > 0] == 77).all()
    assert np.array_equal(patch.pixels[hole == 0], original_crop[hole == 0])
    assert patch.mask is hole
    assert patch.original_pixels is None
    assert (record.refined, record.reason) == (True, "always")


def test_a_refiner_that_sees_the_photo_sees_the_object_but_no_transparent_pixels() -> None:
    cut, record = cut_patch(1, transparent=True)
    original_crop, hole, blend = cut.original_crop, cut.hole, cut.blend
    assert original_crop is not None
    assert hole is not None
    photo = Photo(LineageRow(patches=[record]), patches=[cut])
    build_focus(Recipe.load("clean-apache", ["refine.reference=photo"]))(photo)
    (patch,) = photo.patches
    assert isinstance(patch, CropPatch)
    assert patch.original_pixels is not None
    transparent = (hole > 0) & (blend == 0)
    assert (patch.original_pixels[transparent] == 77).all()
    assert np.array_equal(patch.original_pixels[~transparent], original_crop[~transparent])
    assert (patch.pixels[hole > 0] == 77).all()
