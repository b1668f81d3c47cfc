"""Decode masks and photo."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from manifests.errors import RowError
from manifests.storage.row_files import is_same
from stages.arrays import BoolMask
from stages.codecs.decode import check_photo, decode_mask, decode_photo
from stages.codecs.encode import changes_format
from stages.codecs.repair import repaired
from stages.photo import Photo
from stages.pixels.masks import marked_pixels
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction

_UNREPAIRED = "damaged, passed on unchanged, without: "


def build_decode(recipe: Recipe) -> PhotoFunction:
    """Build the function that decodes masks and photo.

    A photo of which nothing is changed is only checked, unless the recipe's detector looks at it.
    """

    def process(photo: Photo) -> None:
        row, limit = photo.lineage, recipe.limits.max_megapixels
        if photo.is_unmarked and not recipe.detect:
            raise RowError("mask.no_uri", f"Nothing marks what to remove from {row.image_uri}.")
        marks, repair = photo.marks, _repairer(recipe)
        notes: list[str] = []
        is_a_mask = any(is_same(row.image_uri, uri) for uri in marks.files)
        photo.alpha_is_mask = is_a_mask and recipe.mask.channel == "alpha"
        for uri, data in zip(marks.files, photo.mask_files, strict=True):
            if data == photo.original and recipe.mask.guesses_values:
                raise RowError("mask.ambiguous", f"The mask {uri} is the photo itself.")
            repaired_data, repairs = repair(data)
            notes += [f"{each} (mask)" for each in repairs]
            drawn = decode_mask(repaired_data, limit, uri, recipe.mask)
            _unite(photo.marked, uri, marked_pixels(drawn, recipe.mask, uri))
        photo.mask_files = []
        is_empty = not any(each.any() for each in photo.marked.values())
        is_empty &= not any(marks.shapes.values())
        source, repairs = repair(photo.original)
        is_edited = not is_empty or changes_format(photo.original, recipe.output.format)
        if is_edited or should_detect(photo, recipe):
            photo.decoded = decode_photo(source, limit, row.image_uri)
            row.width, row.height = photo.decoded.width, photo.decoded.height
        else:
            row.width, row.height = check_photo(source, limit, row.image_uri)
        # The mask step uses the repaired file if the marks are not empty: shapes may mark nothing.
        notes = [*(f"{_UNREPAIRED}{each}" for each in repairs), *notes]
        row.fidelity_note = "; ".join(notes) or None

    return process


def should_detect(photo: Photo, recipe: Recipe) -> bool:
    """Whether the recipe's detector looks at this photo."""
    return recipe.detect is not None and (recipe.detect.when == "always" or photo.is_unmarked)


def use_repaired(photo: Photo, recipe: Recipe) -> None:
    """Replace a damaged file by the repaired one, for a photo that is to be edited."""
    source, repairs = _repairer(recipe)(photo.original)
    if repairs and not photo.is_repaired:
        photo.original, photo.is_repaired = source, True
        photo.lineage.fidelity_note = (photo.lineage.fidelity_note or "").replace(_UNREPAIRED, "")


def _repairer(recipe: Recipe) -> Callable[[bytes], tuple[bytes, list[str]]]:
    """Return the repair function for ``limits.damage``, which returns the file and notes."""
    return repaired if recipe.limits.damage == "repair" else lambda data: (data, [])


def _unite(marked: dict[str, BoolMask], uri: str, pixels: BoolMask) -> None:
    """Combine a mask with the one of the same size, so that many masks need no more memory."""
    for each in marked.values():
        if each.shape == pixels.shape:
            np.logical_or(each, pixels, out=each)
            return
    marked[uri] = pixels
