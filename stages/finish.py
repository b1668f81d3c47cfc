"""The last steps: from filled patches to a stored file."""

from __future__ import annotations

import hashlib

import numpy as np

from manifests.errors import RowError
from stages.codecs.decode import Decoded, decode_photo, suffix_of
from stages.codecs.encode import encode_like
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
        if not photo.patches:
            return
        decoded = photo.decoded or decode_photo(
            photo.original, recipe.limits.max_megapixels, photo.lineage.image_uri
        )
        pixels = decoded.pixels.copy()
        changed = np.zeros(pixels.shape[:2], np.bool_)
        for patch in photo.patches:
            fill = scale_pixels(patch.pixels, patch.crop.width, patch.crop.height)
            stitch(pixels, fill, patch.blend, patch.crop)
            mark_changed(changed, patch.blend, patch.crop)
        photo.decoded, photo.changed = Decoded(pixels, decoded.orientation), changed

    return work


def encode(recipe: Recipe) -> Work:
    """Make the step that writes the photo in its source's format; byte for byte if unchanged."""

    def work(photo: Photo) -> None:
        if not photo.patches:
            photo.result = photo.original
            photo.lineage.fidelity = "identical"
            return
        assert photo.decoded is not None
        assert photo.changed is not None
        encoded = encode_like(
            photo.original,
            photo.decoded.pixels,
            photo.changed,
            photo.decoded.orientation,
            recipe.output,
        )
        photo.result = encoded.data
        photo.lineage.fidelity = encoded.fidelity
        photo.lineage.fidelity_note = encoded.note or None

    return work


def publish(output: str) -> Work:
    """Make the step that stores ``<output>/images/<id>.<suffix>``."""

    def work(photo: Photo) -> None:
        suffix = suffix_of(photo.original, photo.lineage.image_uri)
        _store(photo, f"{output}/images/{photo.lineage.id}.{suffix}")

    return work


def check_suffix(uri: str) -> Work:
    """Make the step that refuses an output whose suffix names another format than the photo's."""
    name = uri.rpartition("/")[2]
    given = name.rpartition(".")[2].lower().replace("jpeg", "jpg") if "." in name else "nothing"

    def work(photo: Photo) -> None:
        suffix = suffix_of(photo.original, photo.lineage.image_uri)
        if given != suffix:
            raise RowError(
                "output.other_format", f"{uri} ends in {given}, but the photo stays a {suffix}."
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
