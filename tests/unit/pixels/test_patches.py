"""Geometry of patches, over many sizes, positions and borders."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.arrays import BoolMask
from stages.pixels.blend import stitch
from stages.pixels.boxes import Box, context_box
from stages.pixels.masks import blend_mask, distance_outside
from stages.pixels.patches import crop_blend, cut_mask, group_into_patches
from stages.pixels.samples import ColourSpace
from stages.recipe.options import CropOptions


@st.composite
def masks(draw: st.DrawFn) -> BoolMask:
    """A photo's mask with up to six rectangular marks anywhere, borders included."""
    height, width = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    mask = np.zeros((height, width), np.bool_)
    for _ in range(draw(st.integers(0, 6))):
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        mask[y : y + draw(st.integers(1, 60)), x : x + draw(st.integers(1, 60))] = True
    return mask


@st.composite
def crops(draw: st.DrawFn) -> CropOptions:
    return CropOptions(
        context=draw(st.floats(1.0, 4.0)),
        min_context_px=draw(st.integers(8, 64)),
        aspect=draw(st.sampled_from([0.0, 1.0, 1.5, 0.5])),
        merge_px=draw(st.integers(0, 80)),
        max_patches=draw(st.integers(1, 8)),
    )


@given(mask=masks(), options=crops(), feather=st.integers(0, 7))
def test_patches_share_out_the_mask(mask: BoolMask, options: CropOptions, feather: int) -> None:
    patches = group_into_patches(mask, options, feather_px=feather)
    assert len(patches) <= options.max_patches
    shared_out = np.zeros(mask.shape, np.int32)
    photo = Box(0, 0, mask.shape[1], mask.shape[0])
    for patch in patches:
        assert photo.union(patch.bounds) == photo
        assert patch.crop.union(patch.bounds) == patch.crop
        assert photo.union(patch.crop) == photo
        shared_out[patch.bounds.slices] += patch.own
    assert np.array_equal(shared_out, mask.astype(np.int32)), "each masked pixel is in one patch"


@given(mask=masks(), options=crops(), feather=st.integers(0, 7), seed=st.integers(0, 2**32 - 1))
def test_cutting_and_stitching_an_unchanged_patch_is_the_identity(
    mask: BoolMask, options: CropOptions, feather: int, seed: int
) -> None:
    photo = np.random.default_rng(seed).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    stitched = photo.copy()
    for patch in group_into_patches(mask, options, feather_px=feather):
        blend = crop_blend(patch, feather)
        stitch(stitched, photo[patch.crop.slices].copy(), blend, patch.crop, ColourSpace("rgb"))
    assert np.array_equal(stitched, photo)


@given(mask=masks(), options=crops(), feather=st.integers(0, 7))
def test_the_mask_is_replaced_whole_and_nothing_beyond_the_feather(
    mask: BoolMask, options: CropOptions, feather: int
) -> None:
    photo = np.zeros((*mask.shape, 3), np.uint8)
    for patch in group_into_patches(mask, options, feather_px=feather):
        blend = crop_blend(patch, feather)
        white = np.full((patch.crop.height, patch.crop.width, 3), 255, np.uint8)
        stitch(photo, white, blend, patch.crop, ColourSpace("rgb"))
    assert (photo[mask] == 255).all(), "no old pixel shows through the soft edge"
    assert not photo[distance_outside(mask) >= feather + 1].any()


@given(mask=masks(), options=crops(), feather=st.integers(0, 7))
def test_a_patch_sees_all_masked_pixels_of_its_crop_as_unknown(
    mask: BoolMask, options: CropOptions, feather: int
) -> None:
    for patch in group_into_patches(mask, options, feather_px=feather):
        assert np.array_equal(cut_mask(mask, patch.crop) == 255, mask[patch.crop.slices])


@given(mask=masks(), options=crops(), feather=st.integers(0, 100))
def test_a_crop_shows_more_than_its_soft_edge(
    mask: BoolMask, options: CropOptions, feather: int
) -> None:
    height, width = mask.shape
    for patch in group_into_patches(mask, options, feather_px=feather):
        shown = patch.bounds.grown(feather + 1).clipped(width, height)
        assert patch.crop.union(shown) == patch.crop


def test_marks_are_not_merged_into_a_crop_that_must_be_shrunk() -> None:
    mask = np.zeros((600, 2400), np.bool_)
    for x in range(100, 2300, 200):
        mask[250:350, x : x + 120] = True
    options = CropOptions(context=1.0, min_context_px=300, merge_px=16)
    free = group_into_patches(mask, options, feather_px=2)
    bounded = group_into_patches(mask, options, feather_px=2, max_side_px=768)
    assert max(patch.crop.width for patch in free) > 768
    assert max(patch.crop.width for patch in bounded) <= 768


def test_far_marks_become_two_patches_and_near_ones_one() -> None:
    options = CropOptions(context=1.5, min_context_px=32, merge_px=48)
    far = np.zeros((1000, 1000), np.bool_)
    far[10:60, 10:60] = far[900:960, 900:960] = True
    assert len(group_into_patches(far, options, feather_px=3)) == 2
    near = np.zeros((1000, 1000), np.bool_)
    near[10:60, 10:60] = near[10:60, 90:140] = True
    assert len(group_into_patches(near, options, feather_px=3)) == 1


def test_a_mask_of_specks_stays_within_the_limit_of_patches() -> None:
    mask = np.zeros((2000, 3000), np.bool_)
    mask[::100, ::100] = True
    options = CropOptions(context=1.0, min_context_px=8, merge_px=0, max_patches=16)
    patches = group_into_patches(mask, options, feather_px=2)
    assert 1 <= len(patches) <= 16
    assert sum(int(patch.own.sum()) for patch in patches) == int(mask.sum())


def test_context_lost_at_one_border_is_given_to_the_other_side() -> None:
    crop = context_box(Box(0, 0, 40, 40), 1000, 800, context=3.0, min_context_px=8)
    assert (crop.width, crop.height) == (120, 120)
    assert (crop.x0, crop.y0) == (0, 0)


def test_the_crop_is_centred_where_there_is_room() -> None:
    crop = context_box(Box(500, 400, 540, 440), 1000, 800, context=3.0, min_context_px=8)
    assert crop == Box(460, 360, 580, 480)


@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_an_aspect_is_reached_by_growing_one_axis(aspect: float) -> None:
    bounds = Box(300, 300, 400, 340)
    free = context_box(bounds, 2000, 2000, context=2.0, min_context_px=8)
    crop = context_box(bounds, 2000, 2000, context=2.0, min_context_px=8, aspect=aspect)
    assert crop.width / crop.height == pytest.approx(aspect, abs=0.02)
    assert crop.width == free.width or crop.height == free.height


@pytest.mark.parametrize("upright", [False, True])
def test_an_aspect_is_reached_as_far_as_the_photo_allows(upright: bool) -> None:
    """The crop of a caption: beyond the photo, its edge would be repeated and taken for known."""

    def crop_of(bounds: Box, width: int, height: int) -> tuple[int, int]:
        if upright:
            bounds = Box(bounds.y0, bounds.x0, bounds.y1, bounds.x1)
            width, height = height, width
        box = context_box(bounds, width, height, context=2.0, min_context_px=128, aspect=1.0)
        assert Box(0, 0, width, height).union(box) == Box(0, 0, width, height)
        return (box.height, box.width) if upright else (box.width, box.height)

    assert crop_of(Box(60, 457, 940, 508), 1000, 533) == (1000, 528)
    assert crop_of(Box(300, 200, 500, 240), 1000, 533) == (456, 456)
    across, down = crop_of(Box(200, 200, 480, 240), 1000, 533)
    assert (across, down) == (563, 528), "15 of 16: crops of few shapes fill batches"


def test_a_view_that_spans_the_photo_needs_no_padding_unless_the_mark_spans_it_too() -> None:
    photo = Box(0, 0, 1003, 749)
    for x0, x1 in ((0, 40), (480, 520), (963, 1003)):
        bounds = Box(x0, 300, x1, 420)
        view = context_box(bounds, 1003, 749, context=1.0, min_context_px=1200)
        assert (view.width, view.height) == (1000, 744)
        assert photo.union(view) == photo
        assert view.union(bounds) == view
    banner = Box(2, 700, 1001, 740)
    view = context_box(banner, 1003, 749, context=2.0, min_context_px=8, needed=banner.grown(4))
    assert view.width == 1003


@given(feather=st.integers(0, 30))
def test_the_feather_is_measured_in_pixels_of_the_photo(feather: int) -> None:
    hole = np.zeros((101, 101), np.bool_)
    hole[50, 50] = True
    row = blend_mask(hole, feather)[50]
    assert row[50] == 255
    assert np.count_nonzero(row) == 2 * feather + 1
    assert (np.diff(row[50:].astype(int)) <= 0).all()


@pytest.mark.parametrize("feather", [0, 1, 3, 8, 16])
def test_the_soft_edge_has_no_steps_however_the_mask_runs(feather: int) -> None:
    hole = np.zeros((160, 200), np.uint8)
    cv2.circle(hole, (60, 70), 30, (1,), -1)
    cv2.line(hole, (120, 30), (170, 110), (1,), 5)
    hole[130:140, 100:150] = 1
    blend = blend_mask(hole > 0, feather).astype(int)
    steps = [np.abs(np.diff(blend, axis=axis)).max() for axis in (0, 1)]
    assert max(steps) <= 255 / (feather + 1) + 1, "of 255, rounded"
    assert (blend[hole > 0] == 255).all()
    assert not blend[distance_outside(hole > 0) >= feather + 1].any()
