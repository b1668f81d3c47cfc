"""Keep what a crop looked like between two steps, for people to look at."""

from __future__ import annotations

import io
from typing import Literal

from PIL import Image

from manifests.storage.row_files import write
from stages.photo import Photo
from stages.pixels.resize import scale_pixels, working_size
from stages.recipe import Recipe
from stages.steps.base import Work

#: After the removal, in its hole of the crop; and after the refiner, the whole crop.
SnapshotStage = Literal["removal", "refined"]

#: They are looked at, not worked with, and no WebP is longer than 16,383 px.
_QUALITY = 92
_MAX_SIDE_PX = 4096


def snapshot_uri(output: str, label: str, name: str, index: int, step: SnapshotStage) -> str:
    """Where the crop of patch ``index`` of photo ``name`` is kept, by the recipe's label."""
    return f"{output}/steps/{label}/{name}/{index}-{step}.webp"


def save_snapshots(output: str, recipe: Recipe, step: SnapshotStage) -> Work:
    """Make the step that stores each patch's crop as it is now, at its size in the photo.

    Longer sides than 4096 px are scaled to that.
    """
    label = recipe.label

    def work(photo: Photo) -> None:
        for index, patch in enumerate(photo.patches):
            size = working_size(patch.crop.width, patch.crop.height, _MAX_SIDE_PX)
            pixels = scale_pixels(patch.pixels, *size)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY)
            uri = snapshot_uri(output, label, photo.lineage.id, index, step)
            write(uri, buffer.getvalue())

    return work
