"""Encode a row's prompt."""

from __future__ import annotations

from collections.abc import Callable

from stages.models.refiners.prompts import Prompt
from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction
from stages.weights.resolve import get_weights


def build_prompt(recipe: Recipe) -> PhotoFunction:
    """Build the function that encodes a row's prompt: the manifest's, or else the recipe's.

    The text encoders are large and run once per text, so they never share a GPU with the refiner.
    """
    options = recipe.refine
    assert options is not None
    weights = get_weights(options.weights, pin=options.weights_pin, part="text")
    encode: Callable[[str], Prompt] = options.load_module().load_encoder(weights.path, options)

    def process(photo: Photo) -> None:
        if photo.patches_to_refine:
            text = photo.extra.get("prompt") or options.prompt
            photo.lineage.refine_prompt = str(text)
            photo.prompt = encode(str(text))

    return process
