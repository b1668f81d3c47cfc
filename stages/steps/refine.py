"""Repairs the crops' texture with a diffusion model, and judges the results.

The removal is reliable but soft. The model starts from its result, and ``denoise`` keeps it from
inventing objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.errors import RowError
from stages.arrays import UInt8Array
from stages.judging.reappearance import Scores, judge
from stages.judging.retries import Outcome, flag_row, refine_with_retries
from stages.judging.text import TextJudge
from stages.photo import CropPatch, Patch, Photo
from stages.pixels.resize import scale_mask, scale_pixels
from stages.recipe import Recipe
from stages.recipe.options import JudgeOptions
from stages.steps.base import BatchFunction, fail
from stages.weights.resolve import get_section_weights

if TYPE_CHECKING:
    from stages.models.refiners.base import DiffusionRefiner

#: Without a judge, the first picture is accepted.
_UNJUDGED = JudgeOptions(attempts=1)


def build_refine(recipe: Recipe) -> BatchFunction:
    """Build the function that refines the crops of several photos, and judges the results."""
    options = recipe.refine
    assert options is not None
    located, used = get_section_weights(recipe, "refine")
    refiner: DiffusionRefiner = options.load_module().load(Path(located.weights), located)
    has_removal = recipe.remove is not None

    text_judge = TextJudge() if recipe.judge and recipe.judge.text else None

    def score(patch: Patch, refined: UInt8Array) -> Scores:
        scores = judge(refined, patch.pixels, patch.mask, has_removal)
        if text_judge is None:
            return scores
        return text_judge.with_text_score(scores, refined, patch.pixels, patch.mask, has_removal)

    def process(photos: Sequence[Photo]) -> None:
        places = [
            (photo, index)
            for photo in photos
            for index, patch in enumerate(photo.patches)
            if isinstance(patch, CropPatch) and patch.to_refine
        ]
        patches = [patch for photo in photos for patch in photo.patches_to_refine]

        def paint(indices: Sequence[int], seeds: Sequence[int]) -> Sequence[UInt8Array | RowError]:
            prompts = [places[each][0].prompt for each in indices]
            originals = [patches[each].original_pixels for each in indices]
            assert all(prompts)
            return refiner.refine(
                [patches[each].pixels for each in indices],
                [patches[each].mask for each in indices],
                [prompt for prompt in prompts if prompt],
                seeds,
                [pixels for pixels in originals if pixels is not None],
            )

        outcomes = refine_with_retries(
            patches,
            paint,
            score if recipe.judge else None,
            recipe.judge or _UNJUDGED,
            options.denoise,
            has_removal=has_removal,
        )
        for (photo, index), outcome in zip(places, outcomes, strict=True):
            if photo.ok:
                _apply(photo, index, outcome)
        for photo in photos:
            for patch in photo.patches_to_refine:  # they leave as small as they came
                patch.pixels = scale_pixels(patch.pixels, patch.crop.width, patch.crop.height)
                patch.mask = scale_mask(patch.mask, patch.crop.width, patch.crop.height)
                patch.original_pixels = None
            photo.prompt = None
            if photo.ok and photo.patches_to_refine:
                photo.lineage.weights |= used
                photo.lineage.refine_sigmas = list(refiner.sigmas)
                photo.lineage.refine_guidance = refiner.guidance

    return BatchFunction(process)


def _apply(photo: Photo, index: int, outcome: Outcome) -> None:
    """Apply the outcome of a patch to the photo, and record it in the lineage."""
    if outcome.error:
        fail(photo, outcome.error.code, str(outcome.error), "refine")
        return
    row, patch_row = photo.lineage, photo.lineage.patches[index]
    patch_row.tries = outcome.tries
    patch_row.refined = outcome.pixels is not None
    patch_row.reason = outcome.reason or patch_row.reason
    if outcome.pixels is not None:
        photo.patches[index].pixels = outcome.pixels
    if outcome.flag:
        flag_row(row, outcome.flag)
    if outcome.score is not None:
        row.score = max(row.score or 0.0, outcome.score)
