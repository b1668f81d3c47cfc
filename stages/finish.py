"""The last steps: from filled patches to a stored file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from manifests.errors import RowError
from stages.codecs.decode import Decoded, decode_photo
from stages.codecs.encode import encode_like, suffix_of
from stages.photo import Photo
from stages.recipe import Recipe
from stages.resize import scale_pixels
from stages.step import Work
from stages.stitch import mark_changed, stitch
from stages.storage import write


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
        name = f"{photo.lineage.id}.{suffix_of(photo.original)}"
        _store(photo, f"{output}/images/{name}")

    return work


def publish_as(path: Path) -> Work:
    """Make the step that stores the photo at a path of the user's choice."""

    def work(photo: Photo) -> None:
        suffix = suffix_of(photo.original)
        given = path.suffix.lower().removeprefix(".").replace("jpeg", "jpg")
        if given != suffix:
            raise RowError(
                "output.other_format",
                f"{path} ends in {path.suffix or 'nothing'}, but the photo stays a .{suffix}.",
            )
        _store(photo, str(path))

    return work


def _store(photo: Photo, uri: str) -> None:
    write(uri, photo.result)
    photo.lineage.output_uri = uri
    photo.lineage.output_sha256 = hashlib.sha256(photo.result).hexdigest()
