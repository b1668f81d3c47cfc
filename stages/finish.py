"""The last steps: from filled patches to a stored file."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from manifests.errors import RowError
from stages.codecs import encode as coding
from stages.codecs.decode import decode_photo
from stages.photo import Photo
from stages.recipe import Recipe
from stages.resize import scale_pixels
from stages.step import Work
from stages.stitch import mark_changed, stitch
from stages.storage import is_same, write


def stitch_patches(recipe: Recipe) -> Work:
    """Make the step that pastes the filled patches into the photo.

    A photo that came from another actor is decoded again: its pixels did not travel.
    """

    def work(photo: Photo) -> None:
        if not photo.patches and not coding.converts(photo.original, recipe):
            return
        decoded = photo.decoded or decode_photo(
            photo.original, recipe.limits.max_megapixels, photo.lineage.image_uri
        )
        pixels = decoded.pixels.copy()
        changed = np.zeros(pixels.shape[:2], np.bool_)
        for patch in photo.patches:
            fill = scale_pixels(patch.pixels, patch.crop.width, patch.crop.height)
            stitch(
                pixels,
                fill,
                patch.blend,
                patch.crop,
                decoded.space,
                opaque=photo.alpha_is_mask,
            )
            mark_changed(changed, patch.blend, patch.crop)
        photo.decoded, photo.changed = replace(decoded, pixels=pixels), changed

    return work


def encode(recipe: Recipe) -> Work:
    """Make the step that writes the photo as the recipe says; byte for byte if nothing changes."""

    def work(photo: Photo) -> None:
        row = photo.lineage
        if not photo.patches and not coding.converts(photo.original, recipe):
            photo.result, row.fidelity = photo.original, "identical"
            return
        assert photo.decoded is not None
        assert photo.changed is not None
        decoded = photo.decoded
        made = coding.encode(photo.original, decoded, photo.changed, recipe, row.image_uri)
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


def publish(output: str, recipe: Recipe) -> Work:
    """Make the step that stores ``<output>/images/<recipe>-<hash>/<id>.<suffix>``."""
    folder = f"{output}/images/{recipe.label}"

    def work(photo: Photo) -> None:
        suffix = coding.suffix_of(photo.original, photo.lineage.image_uri, recipe)
        _store(photo, f"{folder}/{photo.lineage.id}.{suffix}")

    return work


_SPELLINGS = {"jpeg": "jpg", "tiff": "tif", "heif": "heic"}


def check_suffix(uri: str, recipe: Recipe) -> Work:
    """Make the step that refuses an output whose suffix names another format than it will have."""
    name = uri.rpartition("/")[2]
    given = name.rpartition(".")[2].lower() if "." in name else "nothing"

    def work(photo: Photo) -> None:
        suffix = coding.suffix_of(photo.original, photo.lineage.image_uri, recipe)
        if _SPELLINGS.get(given, given) != suffix:
            raise RowError(
                "output.other_format", f"{uri} ends in {given}, but the result is a {suffix}."
            )

    return work


def publish_as(uri: str) -> Work:
    """Make the step that stores the photo at a path or URI of the user's choice."""
    return lambda photo: _store(photo, uri)


def _store(photo: Photo, uri: str) -> None:
    for used in (photo.lineage.image_uri, *photo.marks.files):
        if is_same(uri, used):
            raise RowError("output.is_input", f"The result would overwrite {used}.")
    write(uri, photo.result)
    photo.lineage.output_uri = uri
    photo.lineage.output_sha256 = hashlib.sha256(photo.result).hexdigest()
