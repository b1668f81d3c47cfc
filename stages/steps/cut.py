"""Plan the patches around the hole, and cut each at its working size."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from manifests.schema import PatchRecord
from stages.arrays import BoolMask, UInt8Array
from stages.photo import Photo, WindowPatch
from stages.pixels import colour
from stages.pixels.boxes import Box, bounds_of
from stages.pixels.effects import effects_reach_px, effects_zone
from stages.pixels.patches import PlannedPatch, crop_blend, cut_mask
from stages.pixels.resize import scale_mask, scale_pixels
from stages.pixels.windows import plan_patches, window_of, working_size
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction


def build_cut(recipe: Recipe) -> PhotoFunction:
    """Build the function that plans the patches and cuts them; an empty mask has none."""

    def process(photo: Photo) -> None:
        assert photo.hole is not None
        filled = photo.hole if photo.shadow_mask is None else photo.hole | photo.shadow_mask
        for index, plan in enumerate(plan_patches(filled, recipe)):
            patch = _cut_patch(photo, filled, plan, recipe, _seed(photo, recipe, index))
            photo.patches.append(patch)
            photo.lineage.patches.append(_describe(_without_shadow(plan, photo), patch))

    return process


def _seed(photo: Photo, recipe: Recipe, index: int) -> int:
    """Derive the seed of patch ``index``, 0 to 2**32 - 1, from contents alone.

    It depends on the photo's file, the marked pixels and the recipe's ``seed``, but not on ids,
    paths or other options: the same photo gives the same result, and recipes share seeds.
    """
    row = photo.lineage
    assert row.image_sha256
    assert row.region_sha256
    key = f"{recipe.seed}/{row.image_sha256}/{row.region_sha256}/{index}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


def _cut_patch(
    photo: Photo, filled: BoolMask, plan: PlannedPatch, recipe: Recipe, seed: int
) -> WindowPatch:
    """Cut a patch; ``filled``: ``(h, w)`` bool, all that is filled of the photo."""
    photo_height, photo_width = filled.shape
    window = window_of(plan, recipe, photo_width, photo_height)
    seen, unknown = seen_by_models(photo, filled, window)
    inside = plan.crop.shifted(-window.x0, -window.y0).slices
    hole = unknown[inside].copy()
    if (unknown > 0).all():
        # A removal needs known pixels to copy from, so use the transparent ones.
        unknown = cut_mask(filled, window)
    width, height = working_size(recipe, window.width, window.height)
    blend, effects = _blends(photo, plan, recipe.mask.feather_for(photo_width, photo_height))
    beyond, reach_px = None, effects_reach_px(plan.bounds, recipe.mask.effects_reach)
    if recipe.mask.effects == "alpha":
        found = effects_zone(filled, plan.bounds, plan.own, plan.crop, reach_px) & (hole == 0)
        beyond = found.view(np.uint8) * np.uint8(255)
    return WindowPatch(
        crop=plan.crop,
        window=window,
        pixels=scale_pixels(seen, width, height),
        mask=scale_mask(unknown, width, height),
        blend=blend,
        effects=effects,
        seed=seed,
        original_crop=seen[inside].copy() if recipe.refiner else None,
        hole=hole if recipe.refiner else None,
        beyond=beyond,
        reach_px=reach_px,
    )


def _blends(
    photo: Photo, plan: PlannedPatch, feather_px: int
) -> tuple[UInt8Array, UInt8Array | None]:
    """Return the opacities of the mask and, where it is higher, of the shadows to be filled."""
    blend, effects = crop_blend(_without_shadow(plan, photo), feather_px), None
    if photo.shadow_mask is not None:
        whole = crop_blend(plan, feather_px)
        effects = np.where(whole > blend, whole, np.uint8(0))
    hidden = _hidden(photo, plan.crop)
    for opacity in (blend, effects):
        if opacity is not None and hidden is not None:
            opacity[hidden] = 0
    return blend, effects


def _without_shadow(plan: PlannedPatch, photo: Photo) -> PlannedPatch:
    """The patch without shadows: what is marked."""
    if photo.shadow_mask is None:
        return plan
    own = plan.own & ~photo.shadow_mask[plan.bounds.slices]
    inner = bounds_of(own)
    assert inner is not None, "shadows touch their objects"
    bounds = inner.shifted(plan.bounds.x0, plan.bounds.y0)
    return replace(plan, bounds=bounds, own=own[inner.slices])


def seen_by_models(photo: Photo, filled: BoolMask, box: Box) -> tuple[UInt8Array, UInt8Array]:
    """Return a part of the photo as models see it, and the mask of its unknown pixels.

    Args:
        photo: decoded.
        filled: ``(h, w)`` bool, all that is filled of it.
        box: the part.

    Returns:
        ``(h, w, 3)`` uint8 sRGB, and ``(h, w)`` uint8, 255 where pixels are to be filled or fully
        transparent: the colours of transparent pixels are arbitrary.
    """
    assert photo.decoded is not None
    unknown, hidden = cut_mask(filled, box), _hidden(photo, box)
    if hidden is not None:
        unknown[hidden] = 255
    return colour.to_srgb8(photo.decoded.pixels[box.slices], photo.decoded.space), unknown


def _hidden(photo: Photo, box: Box) -> BoolMask | None:
    """Where the photo is fully transparent, ``(h, w)``; None: no alpha, or it is the mask."""
    assert photo.decoded is not None
    if photo.decoded.alpha is None or photo.alpha_is_mask:
        return None
    return np.asarray(photo.decoded.pixels[box.slices][..., -1] == 0)


def _describe(plan: PlannedPatch, patch: WindowPatch) -> PatchRecord:
    height, width = patch.mask.shape
    return PatchRecord(
        region=plan.bounds.as_dict(),
        crop=plan.crop.as_dict(),
        window=patch.window.as_dict(),
        working_width=width,
        working_height=height,
        seed=patch.seed,
    )
