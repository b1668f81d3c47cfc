"""Paste the filled patches into the photo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from manifests.schema import LineageRow
from stages.arrays import BoolMask
from stages.codecs import encode as coding
from stages.codecs.decode import decode_photo
from stages.photo import Photo
from stages.pixels.blend import stitch
from stages.pixels.resize import scale_pixels
from stages.pixels.shapes import encode_rle
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction


def build_stitch(recipe: Recipe) -> PhotoFunction:
    """Build the function that pastes the filled patches into the photo.

    A photo from another actor is decoded again, since decoded pixels are not sent.
    """

    def process(photo: Photo) -> None:
        has_effects = recipe.mask.effects != "off"
        photo.lineage.effects_px = 0 if has_effects else None
        if not photo.patches and not coding.changes_format(photo.original, recipe.output.format):
            return
        decoded = photo.decoded or decode_photo(
            photo.original, recipe.limits.max_megapixels, photo.lineage.image_uri
        )
        pixels = decoded.pixels.copy()
        changed = np.zeros(pixels.shape[:2], np.bool_)
        masked = changed.copy()
        for patch in photo.patches:
            fill = scale_pixels(patch.pixels, patch.crop.width, patch.crop.height)
            stitch(
                pixels,
                fill,
                patch.opacity,
                patch.crop,
                decoded.space,
                opaque=photo.alpha_is_mask,
            )
            changed[patch.crop.slices] |= patch.opacity > 0
            masked[patch.crop.slices] |= patch.blend > 0
        if has_effects:
            _record_effects(photo.lineage, changed & ~masked)
        photo.decoded, photo.changed = replace(decoded, pixels=pixels), changed

    return process


def _record_effects(row: LineageRow, effects: BoolMask) -> None:
    """Record which pixels beyond the mask and its soft edge may have changed."""
    row.effects_px = int(np.count_nonzero(effects))
    row.effects = encode_rle(effects) if row.effects_px else None
