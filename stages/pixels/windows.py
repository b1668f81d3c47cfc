"""What the removal sees, and what is pasted back: the boxes that follow from a recipe.

Without a refiner both are one. With one, the removal sees its *window*, generous or the whole
photo, and the refiner the smaller *crop* inside it, at a higher resolution.
"""

from __future__ import annotations

from stages.pixels import resize
from stages.pixels.boxes import Box, context_box
from stages.pixels.masks import Bits
from stages.pixels.patches import PlannedPatch, plan_patches
from stages.recipe import Recipe
from stages.recipe.options import LamaOptions

#: Sides of LaMa's windows are multiples of this, px, where the photo has room for it: few sizes
#: fill batches of one size.
_LAMA_MULTIPLE_PX = 64

#: At multiples of this, px, LaMa needs no padding: it halves a picture three times.
_HALVED_PX = 8


def plan_crops(mask: Bits, recipe: Recipe) -> list[PlannedPatch]:
    """The patches of a photo, from its generation mask, ``(h, w)`` bool."""
    height, width = mask.shape
    remove, options, multiple_px = recipe.remove, recipe.crop, 1
    if isinstance(remove, LamaOptions) and not recipe.refiner:
        context, min_context_px = _context(remove, width, height)
        changes = {"context": context, "min_context_px": min_context_px, "aspect": 0.0}
        options, multiple_px = options.model_copy(update=changes), _LAMA_MULTIPLE_PX
    return plan_patches(
        mask,
        options,
        feather_px=recipe.mask.feather_for(width, height),
        max_side_px=max_side_px(recipe),
        multiple_px=multiple_px,
    )


def window_of(plan: PlannedPatch, recipe: Recipe, width: int, height: int) -> Box:
    """What the removal sees of a photo of that size; holds the crop."""
    remove = recipe.remove
    if not isinstance(remove, LamaOptions) or not recipe.refiner:
        return plan.crop
    context, min_context_px = _context(remove, width, height)
    return context_box(
        plan.region,
        width,
        height,
        context=context,
        min_context_px=min_context_px,
        needed=plan.crop,
        multiple_px=_LAMA_MULTIPLE_PX,
    )


def _context(remove: LamaOptions, width: int, height: int) -> tuple[float, int]:
    """How much LaMa sees: side over side of the masked part, and px on each side, the minimum."""
    whole_photo = remove.window == "photo"
    return remove.context, max(width, height) if whole_photo else remove.min_context_px


def max_side_px(recipe: Recipe) -> int:
    """Windows with a longer side are worked on at this one; 0: never scaled."""
    if isinstance(recipe.remove, LamaOptions):
        return -(-recipe.remove.max_side_px // _LAMA_MULTIPLE_PX) * _LAMA_MULTIPLE_PX
    return recipe.resize.max_side_px if recipe.remove else 0


def working_size(recipe: Recipe, width: int, height: int) -> tuple[int, int]:
    """Width and height at which the removal works on a window of that size."""
    multiple_px = _HALVED_PX if isinstance(recipe.remove, LamaOptions) else 1
    return resize.working_size(width, height, max_side_px(recipe), multiple_px)


def refined_size(crop: Box, size_px: int) -> tuple[int, int]:
    """Width and height at which a crop is refined: multiples of 16, the longer near ``size_px``."""
    scale = size_px / max(crop.width, crop.height)
    width, height = (max(round(side * scale / 16), 1) * 16 for side in (crop.width, crop.height))
    return width, height
