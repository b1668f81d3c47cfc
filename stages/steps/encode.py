"""Write the result's file in memory."""

from __future__ import annotations

from manifests.errors import RowError
from stages.codecs import encode as coding
from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import Work


def encode(recipe: Recipe) -> Work:
    """Make the step that writes the photo as the recipe says; byte for byte if nothing changes."""

    def work(photo: Photo) -> None:
        row = photo.lineage
        if not photo.patches and not coding.converts(photo.original, recipe.output.format):
            photo.result, row.fidelity = photo.original, "identical"
            return
        assert photo.decoded is not None
        assert photo.changed is not None
        decoded = photo.decoded
        made = coding.encode(
            photo.original,
            decoded,
            photo.changed,
            row.image_uri,
            output=recipe.output,
            metadata=recipe.metadata,
            is_generative=recipe.is_generative,
        )
        if recipe.output.fidelity == "exact" and made.fidelity == "reencoded":
            raise RowError(
                "output.not_exact",
                f"The result for {row.image_uri} would not be exact: {made.note}.",
            )
        photo.result, row.fidelity = made.data, made.fidelity
        notes = [row.fidelity_note, decoded.note, made.note]  # the first: what was repaired
        row.fidelity_note = "; ".join(filter(None, notes)) or None
        row.metadata_note = "; ".join(made.metadata_notes) or None

    return work
