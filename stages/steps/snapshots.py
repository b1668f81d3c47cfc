"""Stores snapshots: crops between two steps, for reports."""

from __future__ import annotations

import io
from typing import Literal

from PIL import Image

from manifests.storage.row_files import write
from stages.photo import Photo
from stages.pixels.resize import limited_size, scale_pixels
from stages.recipe import Recipe
from stages.steps.base import PhotoFunction

#: The crop after the removal (its fill in the hole), or after the refiner.
SnapshotStage = Literal["removal", "refined"]

#: Good enough for viewing; WebP allows at most 16,383 px per side.
_QUALITY = 92
_MAX_SIDE_PX = 4096


def snapshot_uri(output: str, label: str, name: str, index: int, stage: SnapshotStage) -> str:
    """URI of the snapshot of patch ``index`` of photo ``name``; ``label`` is the recipe's."""
    return f"{output}/steps/{label}/{name}/{index}-{stage}.webp"


def build_snapshots(output: str, recipe: Recipe, stage: SnapshotStage) -> PhotoFunction:
    """Build the function that stores a snapshot of each patch: its crop, at its size in the photo.

    Crops with a side over 4096 px are scaled down to that.
    """
    label = recipe.label

    def process(photo: Photo) -> None:
        for index, patch in enumerate(photo.patches):
            size = limited_size(patch.crop.width, patch.crop.height, _MAX_SIDE_PX)
            pixels = scale_pixels(patch.pixels, *size)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY)
            uri = snapshot_uri(output, label, photo.lineage.id, index, stage)
            write(uri, buffer.getvalue())

    return process
