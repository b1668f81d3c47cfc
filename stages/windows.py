"""What the removal sees, and what is pasted back: the boxes that follow from a recipe.

Without a refiner both are one. With one, the removal sees its *window*, generous or the whole
photo, and the refiner the smaller *crop* inside it, at a higher resolution.
"""

from __future__ import annotations

from stages.geometry import Box, context_box
from stages.options import CropOptions, LamaOptions
from stages.patches import PlannedPatch
from stages.recipe import Recipe


def crop_options(recipe: Recipe, width: int, height: int) -> CropOptions:
    """How the crops of a photo of that size are placed."""
    remove = recipe.remove
    if not isinstance(remove, LamaOptions) or recipe.refiner:
        return recipe.crop
    changes: dict[str, float] = {"context": remove.context, "aspect": 0.0}
    changes["min_context_px"] = remove.min_context_px
    if remove.window == "photo":
        changes["min_context_px"] = max(width, height)
    return recipe.crop.model_copy(update=changes)


def window_of(plan: PlannedPatch, recipe: Recipe, width: int, height: int) -> Box:
    """What the removal sees of a photo of that size; holds the crop."""
    remove = recipe.remove
    if not isinstance(remove, LamaOptions) or not recipe.refiner:
        return plan.crop
    if remove.window == "photo":
        return plan.crop.union(Box(0, 0, width, height))
    around = context_box(
        plan.region,
        width,
        height,
        context=remove.context,
        min_context_px=remove.min_context_px,
    )
    return plan.crop.union(around)


def max_side_px(recipe: Recipe) -> int:
    """Windows with a longer side are worked on at this one; 0: never scaled."""
    if isinstance(recipe.remove, LamaOptions):
        return recipe.remove.max_side_px
    return recipe.resize.max_side_px if recipe.remove else 0


def refined_size(crop: Box, size_px: int) -> tuple[int, int]:
    """Width and height at which a crop is refined: multiples of 16, the longer near ``size_px``."""
    scale = size_px / max(crop.width, crop.height)
    width, height = (max(round(side * scale / 16), 1) * 16 for side in (crop.width, crop.height))
    return width, height
