"""Store the result."""

from __future__ import annotations

import hashlib

from manifests.errors import RowError
from manifests.storage.row_files import is_same, write
from stages.codecs import encode as coding
from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction


def build_publish(output: str, recipe: Recipe) -> PhotoFunction:
    """Build the function that stores ``<output>/images/<recipe>-<hash>/<id>.<suffix>``."""
    folder = f"{output}/images/{recipe.label}"

    def process(photo: Photo) -> None:
        suffix = coding.suffix_of(photo.original, photo.lineage.image_uri, recipe.output.format)
        _store(photo, f"{folder}/{photo.lineage.id}.{suffix}")

    return process


_SPELLINGS = {"jpeg": "jpg", "tiff": "tif", "heif": "heic"}


def build_check_suffix(uri: str, recipe: Recipe) -> PhotoFunction:
    """Build the function that rejects an output whose suffix does not match the result's format."""
    name = uri.rpartition("/")[2]
    chosen = name.rpartition(".")[2].lower() if "." in name else "nothing"

    def process(photo: Photo) -> None:
        suffix = coding.suffix_of(photo.original, photo.lineage.image_uri, recipe.output.format)
        if _SPELLINGS.get(chosen, chosen) != suffix:
            raise RowError(
                "output.other_format", f"{uri} ends in {chosen}, but the result is a {suffix}."
            )

    return process


def build_publish_as(uri: str) -> PhotoFunction:
    """Build the function that stores the photo at a path or URI of the user's choice."""
    return lambda photo: _store(photo, uri)


def _store(photo: Photo, uri: str) -> None:
    for used in (photo.lineage.image_uri, *photo.marks.files):
        if is_same(uri, used):
            raise RowError("output.is_input", f"The result would overwrite {used}.")
    write(uri, photo.result, photo.lineage.run_id)
    photo.lineage.output_uri = uri
    photo.lineage.output_sha256 = hashlib.sha256(photo.result).hexdigest()
