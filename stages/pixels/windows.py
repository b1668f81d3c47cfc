"""Boxes and sizes that follow from a recipe: the removal's window and the crop to paste back.

Without a refiner both are the same. With one, the removal sees its *window*, a large part of the
photo or all of it, and the refiner the smaller *crop* inside it, at a higher resolution.
"""

from __future__ import annotations

from stages.arrays import BoolMask
from stages.pixels import resize
from stages.pixels.boxes import Box, context_box
from stages.pixels.patches import PlannedPatch, group_into_patches
from stages.recipe import Recipe


def plan_patches(mask: BoolMask, recipe: Recipe) -> list[PlannedPatch]:
    """The patches of a photo, from its hole, ``(h, w)`` bool."""
    height, width = mask.shape
    options, multiple_px = recipe.crop, 1
    if recipe.remove and not recipe.refiner:
        multiple_px = recipe.remove.window_multiple_px
        if own := recipe.remove.context_for(width, height):
            changes = {"context": own[0], "min_context_px": own[1], "aspect": 0.0}
            options = options.model_copy(update=changes)
    return group_into_patches(
        mask,
        options,
        feather_px=recipe.mask.feather_for(width, height),
        effects_reach=recipe.mask.effects_reach if recipe.mask.effects == "alpha" else 0.0,
        max_side_px=max_side_px(recipe),
        multiple_px=multiple_px,
    )


def window_of(plan: PlannedPatch, recipe: Recipe, width: int, height: int) -> Box:
    """Return the removal's window in a photo of this size; it contains the crop."""
    own = recipe.remove.context_for(width, height) if recipe.remove and recipe.refiner else None
    if recipe.remove is None or own is None:
        return plan.crop
    return context_box(
        plan.bounds,
        width,
        height,
        context=own[0],
        min_context_px=own[1],
        needed=plan.crop,
        multiple_px=recipe.remove.window_multiple_px,
    )


def max_side_px(recipe: Recipe) -> int:
    """Maximum side of a window, px; larger ones are scaled down; 0: never scaled."""
    if recipe.remove is None:
        return 0
    own = recipe.remove.own_max_side_px
    return recipe.resize.max_side_px if own is None else own


def working_size(recipe: Recipe, width: int, height: int) -> tuple[int, int]:
    """Width and height at which the removal works on a window of that size."""
    multiple_px = recipe.remove.working_multiple_px if recipe.remove else 1
    return resize.limited_size(width, height, max_side_px(recipe), multiple_px)


def refiner_size(crop: Box, size_px: int) -> tuple[int, int]:
    """Width and height at which a crop is refined: multiples of 16, the longer near ``size_px``."""
    scale = size_px / max(crop.width, crop.height)
    width, height = (max(round(side * scale / 16), 1) * 16 for side in (crop.width, crop.height))
    return width, height
