"""Write the result's file in memory."""

from __future__ import annotations

from manifests.errors import RowError
from stages.codecs import encode as coding
from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction


def build_encode(recipe: Recipe) -> PhotoFunction:
    """Build the function that encodes the photo; an unchanged photo is copied byte for byte."""

    def process(photo: Photo) -> None:
        row = photo.lineage
        if not photo.patches and not coding.changes_format(photo.original, recipe.output.format):
            photo.result, row.fidelity = photo.original, "identical"
            return
        assert photo.decoded is not None
        assert photo.changed is not None
        decoded = photo.decoded
        encoded = coding.encode(
            photo.original,
            decoded,
            photo.changed,
            row.image_uri,
            output=recipe.output,
            metadata=recipe.metadata,
            is_generative=recipe.is_generative,
        )
        if recipe.output.fidelity == "exact" and encoded.fidelity == "reencoded":
            raise RowError(
                "output.not_exact",
                f"The result for {row.image_uri} would not be exact: {encoded.note}.",
            )
        photo.result, row.fidelity = encoded.data, encoded.fidelity
        notes = [row.fidelity_note, decoded.note, encoded.note]  # the first: repairs
        row.fidelity_note = "; ".join(filter(None, notes)) or None
        row.metadata_note = "; ".join(encoded.metadata_notes) or None

    return process
