"""From the removal's result to the refined crop: focus, upscale, refine; and what prompts become.

The removal is sure, but soft. Here the crop is brought to the size a diffusion model knows, and the
model repairs its texture, held back by ``denoise`` from painting something new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from manifests.errors import RowError
from stages.masks import Bytes
from stages.options import RefineOptions
from stages.photo import Patch, Photo
from stages.recipe import Recipe
from stages.resize import scale_mask, scale_pixels
from stages.step import Together, Work, fail
from stages.weights import Weights, find
from stages.windows import refined_size


def encode_prompt(recipe: Recipe) -> Work:
    """Make the step that encodes a row's prompt: the manifest's, or else the recipe's.

    The text encoders are large, and needed once for each text: they never sit with the refiner.
    """
    from stages.refiners import load_encoder  # noqa: PLC0415 - torch is an extra

    options = _options(recipe)
    encoder = load_encoder(options, find(options.weights).path)

    def work(photo: Photo) -> None:
        if photo.patches:
            text = photo.extra.get("prompt") or options.prompt
            photo.lineage.refine_prompt = str(text)
            photo.prompt = encoder.encode(str(text))

    return work


def focus(photo: Photo) -> None:
    """Go from the window to the crop: the crop as it was, the removal's result in its hole."""
    for patch in photo.patches:
        assert patch.detail is not None
        assert patch.hole is not None
        fill = scale_pixels(patch.pixels, patch.window.width, patch.window.height)
        inside = patch.crop.shifted(-patch.window.x0, -patch.window.y0).slices
        hole = patch.hole[..., None] > 0
        patch.pixels, patch.mask = np.where(hole, fill[inside], patch.detail), patch.hole
        patch.detail = patch.hole = None


def upscale(recipe: Recipe) -> Work:
    """Make the step that brings each crop to the size at which it is refined."""
    from stages.upscale import Upscaler, to_size  # noqa: PLC0415 - torch is an extra

    size_px, options = _options(recipe).size_px, recipe.upscale
    upscaler, weights = None, None
    if options is not None and options.method == "model":
        weights = find(options.weights)
        upscaler = Upscaler.load(weights.path, options)

    def work(photo: Photo) -> None:
        for patch in photo.patches:
            width, height = refined_size(patch.crop, size_px)
            patch.pixels = to_size(patch.pixels, width, height, upscaler)
            patch.mask = scale_mask(patch.mask, width, height)
        if weights:
            _note_weights(photo, weights)

    return work


def refine(recipe: Recipe) -> Together:
    """Make the step that refines the crops of several photos."""
    from stages.refiners import load_refiner  # noqa: PLC0415 - torch is an extra

    options = _options(recipe)
    weights = find(options.weights)
    refiner = load_refiner(options, weights.path)
    record: dict[str, Any] = dict(refiner.record)

    def work(photos: Sequence[Photo]) -> None:
        def run(patches: Sequence[Patch], owners: Sequence[Photo]) -> Sequence[Bytes | RowError]:
            prompts = [photo.prompt for photo in owners]
            assert all(prompts)
            return refiner.refine(
                [patch.pixels for patch in patches],
                [patch.mask for patch in patches],
                [prompt for prompt in prompts if prompt],
                [patch.seed for patch in patches],
            )

        work_on_patches(photos, "refine", run)
        for photo in photos:
            photo.prompt = None
            if photo.ok and photo.patches:
                _note_weights(photo, weights)
                photo.lineage.refine_sigmas = list(record["sigmas"])
                photo.lineage.refine_guidance = float(record["guidance"])

    return Together(work)


def work_on_patches(
    photos: Sequence[Photo],
    name: str,
    run: Callable[[Sequence[Patch], Sequence[Photo]], Sequence[Bytes | RowError]],
) -> None:
    """Give all patches of several photos to a model at once, and put the results back.

    Args:
        photos: one with a patch that cannot be done fails as a whole.
        name: of the step, for the lineage.
        run: takes the patches and, for each, its photo; returns new pixels or an error for each.
    """
    owners = [photo for photo in photos for _ in photo.patches]
    patches = [patch for photo in photos for patch in photo.patches]
    if not patches:
        return
    for owner, patch, made in zip(owners, patches, run(patches, owners), strict=True):
        if not isinstance(made, RowError):
            patch.pixels = made
        elif owner.ok:
            fail(owner, made.code, str(made), name)


def _options(recipe: Recipe) -> RefineOptions:
    assert recipe.refine is not None
    return recipe.refine


def _note_weights(photo: Photo, weights: Weights) -> None:
    photo.lineage.weights[weights.name] = weights.sha256
