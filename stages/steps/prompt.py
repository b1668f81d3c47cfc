"""Encode a row's prompt."""

from __future__ import annotations

from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import Work
from stages.weights.find import find


def encode_prompt(recipe: Recipe) -> Work:
    """Build the step that encodes a row's prompt: the manifest's, or else the recipe's.

    The text encoders are large and run once per text, so they never share a GPU with the refiner.
    """
    from stages.models.refiners import load_encoder

    options = recipe.refine
    assert options is not None
    encoder = load_encoder(
        options, find(options.weights, pin=options.weights_pin, part="text").path
    )

    def work(photo: Photo) -> None:
        if photo.patches_to_refine:
            text = photo.extra.get("prompt") or options.prompt
            photo.lineage.refine_prompt = str(text)
            photo.prompt = encoder.encode(str(text))

    return work
