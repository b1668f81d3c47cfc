"""Read the photo and its masks, and record their versions and hashes; read the photo again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from manifests.errors import RowError
from manifests.storage import row_files as storage
from manifests.storage.path import Content
from stages.codecs.repair import repaired
from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction


def build_fetch(recipe: Recipe, in_memory: Mapping[str, bytes] | None = None) -> PhotoFunction:
    """Build the function that reads photo and masks, and records their versions and hashes.

    Its errors are those of :func:`manifests.storage.row_files.fetch`.

    Args:
        recipe: the recipe to apply.
        in_memory: name used as URI -> file content; these are not read, and have no version.
    """
    schemes = recipe.limits.schemes

    def content(uri: str, role: str) -> Content:
        if in_memory and uri in in_memory:
            return Content(in_memory[uri], "")
        return storage.fetch(uri, role, schemes)

    def process(photo: Photo) -> None:
        row = photo.lineage
        image = content(row.image_uri, "image")
        photo.original, row.image_version = image.data, image.version or None
        row.image_sha256 = hashlib.sha256(image.data).hexdigest()
        masks = [
            image if uri == row.image_uri else content(uri, "mask") for uri in photo.marks.files
        ]
        photo.mask_files = [mask.data for mask in masks]
        row.mask_version = " ".join(mask.version for mask in masks).strip() or None
        hashes = [hashlib.sha256(mask.data).hexdigest() for mask in masks]
        if len(hashes) > 1:
            row.mask_sha256 = hashlib.sha256("".join(hashes).encode()).hexdigest()
        else:
            row.mask_sha256 = hashes[0] if hashes else None

    return process


def build_fetch_again(recipe: Recipe) -> PhotoFunction:
    """Build the function that reads the photo again, where the patches are pasted into it.

    Reading it twice costs less than sending it from actor to actor. Errors: as of
    :func:`build_fetch`, and ``image.changed``.
    """

    def process(photo: Photo) -> None:
        row = photo.lineage
        data = storage.fetch(row.image_uri, "image", recipe.limits.schemes).data
        if hashlib.sha256(data).hexdigest() != row.image_sha256:
            raise RowError("image.changed", f"{row.image_uri} was replaced during the run.")
        photo.original = repaired(data)[0] if photo.is_repaired else data

    return process
