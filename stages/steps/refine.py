"""Repair the crops' texture with a diffusion model, and judge what came of it.

The removal is sure, but soft. The model starts from its result, and ``denoise`` holds it back from
painting something new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from manifests.errors import RowError
from stages.judging.reappearance import Scores, judge
from stages.judging.retries import FLAGS, Outcome, refine_with_retries
from stages.photo import CropPatch, Patch, Photo
from stages.pixels.masks import Bytes
from stages.recipe import Recipe
from stages.recipe.options import JudgeOptions
from stages.steps.base import BatchWork, fail
from stages.weights.find import find

#: Without a judge, the first picture is taken.
_UNJUDGED = JudgeOptions(attempts=1)


def refine(recipe: Recipe) -> BatchWork:
    """Make the step that refines the crops of several photos, and judges what came of it."""
    from stages.models.refiners import load_refiner

    options = recipe.refine
    assert options is not None
    weights = find(options.weights, pin=options.weights_pin)
    refiner = load_refiner(options, weights.path)
    record: dict[str, Any] = dict(refiner.record)
    has_removal = recipe.remove is not None

    def score(patch: Patch, made: Bytes) -> Scores:
        return judge(made, patch.pixels, patch.mask, has_removal)

    def work(photos: Sequence[Photo]) -> None:
        places = [
            (photo, index)
            for photo in photos
            for index, patch in enumerate(photo.patches)
            if isinstance(patch, CropPatch) and patch.to_refine
        ]
        patches = [photo.patches[index] for photo, index in places]

        def paint(
            some: Sequence[int], seeds: Sequence[int], denoise: float | None
        ) -> Sequence[Bytes | RowError]:
            prompts = [places[each][0].prompt for each in some]
            assert all(prompts)
            return (refiner if denoise is None else refiner.at_denoise(denoise)).refine(
                [patches[each].pixels for each in some],
                [patches[each].mask for each in some],
                [prompt for prompt in prompts if prompt],
                seeds,
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
                _take(photo, index, outcome)
        for photo in photos:
            photo.prompt = None
            if photo.ok and photo.patches_to_refine:
                photo.lineage.weights[weights.name] = weights.sha256
                photo.lineage.refine_sigmas = list(record["sigmas"])
                photo.lineage.refine_guidance = record["guidance"]

    return BatchWork(work)


def _take(photo: Photo, index: int, outcome: Outcome) -> None:
    """Take over what a patch ended with, and note how."""
    if outcome.error:
        fail(photo, outcome.error.code, str(outcome.error), "refine")
        return
    line, row = photo.lineage, photo.lineage.patches[index]
    row.tries = [each.record for each in outcome.tries]
    row.refined = outcome.pixels is not None
    row.reason = outcome.reason or row.reason
    if outcome.pixels is not None:
        photo.patches[index].pixels = outcome.pixels
    if outcome.flag and (not line.flag or FLAGS.index(outcome.flag) < FLAGS.index(line.flag)):
        line.flag = outcome.flag
    if (score := outcome.best.record.score) is not None:
        line.score = max(line.score or 0.0, score)
