"""From the removal's result to the refined crop: focus, upscale, refine; and what prompts become.

The removal is sure, but soft. Here the crop is brought to the size a diffusion model knows, and the
model repairs its texture, held back by ``denoise`` from painting something new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from manifests.errors import RowError
from stages.attempts import FLAGS, Judge, Outcome, attempt
from stages.detail import lost_detail
from stages.judge import Scores, judge
from stages.masks import Bytes
from stages.options import JudgeOptions, RefineOptions
from stages.photo import Patch, Photo
from stages.recipe import Recipe
from stages.resize import scale_mask, scale_pixels
from stages.step import Together, Work, fail
from stages.weights import Weights, find
from stages.windows import refined_size

#: Without a judge, the first picture is taken.
_UNJUDGED = JudgeOptions(attempts=1)


def encode_prompt(recipe: Recipe) -> Work:
    """Make the step that encodes a row's prompt: the manifest's, or else the recipe's.

    The text encoders are large, and needed once for each text: they never sit with the refiner.
    """
    from stages.refiners import load_encoder  # noqa: PLC0415 - torch is an extra

    options = _options(recipe)
    encoder = load_encoder(options, find(options.weights, pin=options.weights_pin).path)

    def work(photo: Photo) -> None:
        if _to_refine(photo):
            text = photo.extra.get("prompt") or options.prompt
            photo.lineage.refine_prompt = str(text)
            photo.prompt = encoder.encode(str(text))

    return work


def focus(recipe: Recipe) -> Work:
    """Make the step from the window to the crop: as it was, the removal's result in its hole.

    With ``refine.when`` = auto, a patch whose fill lacks no detail goes no further than this.
    """
    options = _options(recipe)

    def work(photo: Photo) -> None:
        for patch, row in zip(photo.patches, photo.lineage.patches, strict=True):
            assert patch.detail is not None
            assert patch.hole is not None
            fill = scale_pixels(patch.pixels, patch.window.width, patch.window.height)
            inside = patch.crop.shifted(-patch.window.x0, -patch.window.y0).slices
            hole = patch.hole[..., None] > 0
            patch.pixels, patch.mask = np.where(hole, fill[inside], patch.detail), patch.hole
            patch.detail = patch.hole = None
            row["refined"], row["reason"] = True, "always"
            if options.when == "auto":
                patch.to_refine = lost_detail(patch.pixels, patch.mask) > options.auto_detail
                row["refined"] = patch.to_refine
                row["reason"] = "texture" if patch.to_refine else "smooth"

    return work


def upscale(recipe: Recipe) -> Work:
    """Make the step that brings each crop to the size at which it is refined."""
    from stages.upscale import Upscaler, to_size  # noqa: PLC0415 - torch is an extra

    size_px, options = _options(recipe).size_px, recipe.upscale
    upscaler, weights = None, None
    if options is not None and options.method == "model":
        weights = find(options.weights, pin=options.weights_pin)
        upscaler = Upscaler.load(weights.path, options)

    def work(photo: Photo) -> None:
        patches = _to_refine(photo)
        for patch in patches:
            width, height = refined_size(patch.crop, size_px)
            patch.pixels = to_size(patch.pixels, width, height, upscaler)
            patch.mask = scale_mask(patch.mask, width, height)
        if weights and patches:
            _note_weights(photo, weights)

    return work


def refine(recipe: Recipe) -> Together:
    """Make the step that refines the crops of several photos, and judges what came of it."""
    from stages.refiners import load_refiner  # noqa: PLC0415 - torch is an extra

    options = _options(recipe)
    weights = find(options.weights, pin=options.weights_pin)
    refiner = load_refiner(options, weights.path)
    record: dict[str, Any] = dict(refiner.record)
    judged, learned = _load_judge(recipe)

    def work(photos: Sequence[Photo]) -> None:
        places = [
            (photo, index)
            for photo in photos
            for index, patch in enumerate(photo.patches)
            if patch.to_refine
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

        outcomes = attempt(
            patches,
            paint,
            judged,
            recipe.judge or _UNJUDGED,
            options.denoise,
            has_removal=recipe.remove is not None,
        )
        for (photo, index), outcome in zip(places, outcomes, strict=True):
            if photo.ok:
                _take(photo, index, outcome)
        for photo in photos:
            photo.prompt = None
            if photo.ok and _to_refine(photo):
                for each in (weights, learned):
                    if each:
                        _note_weights(photo, each)
                photo.lineage.refine_sigmas = list(record["sigmas"])
                photo.lineage.refine_guidance = float(record["guidance"])

    return Together(work)


def _take(photo: Photo, index: int, outcome: Outcome) -> None:
    """Take over what a patch ended with, and note how."""
    if outcome.error:
        fail(photo, outcome.error.code, str(outcome.error), "refine")
        return
    line, row = photo.lineage, photo.lineage.patches[index]
    row["tries"] = [each.as_dict() for each in outcome.tries]
    row["refined"] = outcome.pixels is not None
    row["reason"] = outcome.reason or row["reason"]
    if outcome.pixels is not None:
        photo.patches[index].pixels = outcome.pixels
    if outcome.flag and (not line.flag or FLAGS.index(outcome.flag) < FLAGS.index(line.flag)):
        line.flag = outcome.flag
    if (scores := outcome.best.scores) is not None:
        line.score = max(line.score or 0.0, scores.reappearance)


def _load_judge(recipe: Recipe) -> tuple[Judge | None, Weights | None]:
    """What scores a refined patch, and the weights of the learned judge, if the recipe has them."""
    options, has_removal = recipe.judge, recipe.remove is not None
    if options is None:
        return None, None
    if not options.weights:
        return lambda patch, made: judge(made, patch.pixels, patch.mask, has_removal), None
    from stages.learned import LearnedJudge  # noqa: PLC0415 - torch is an extra

    weights = find(options.weights, pin=options.weights_pin)
    learned = LearnedJudge.load(weights.path)

    def both(patch: Patch, made: Bytes) -> Scores:
        scores = judge(made, patch.pixels, patch.mask, has_removal)
        return replace(scores, learned=learned.score(made, patch.pixels, patch.mask, has_removal))

    return both, weights


def _to_refine(photo: Photo) -> list[Patch]:
    return [patch for patch in photo.patches if patch.to_refine]


def _options(recipe: Recipe) -> RefineOptions:
    assert recipe.refine is not None
    return recipe.refine


def _note_weights(photo: Photo, weights: Weights) -> None:
    photo.lineage.weights[weights.name] = weights.sha256
