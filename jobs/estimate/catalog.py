"""What a manifest's photos are like: all rows are counted, and some photos are looked at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from jobs.clean import steps
from manifests.read import find_files
from manifests.sample import count_rows, sample_rows
from manifests.schema import LineageRow
from stages.detail import lost_detail
from stages.masks import Bytes
from stages.photo import Patch, Photo
from stages.recipe import Recipe
from stages.step import run_steps
from stages.windows import plan_crops, window_of

#: These are run on the photos that are looked at.
_STEPS = ("fetch", "decode", "mask", "cut")

#: Without photos to look at: a mask in their middle, this share of them, and so large a file.
_ASSUMED_SHARE = 0.03
_ASSUMED_MB_PER_MEGAPIXEL = 0.4
_ASSUMED_ASPECT = 4 / 3

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class PatchShape:
    """A patch of a photo, as a recipe places it.

    Attributes:
        window: width and height of what the removal sees, px of the photo.
        crop: width and height of what a refiner sees, px of the photo.
        is_smooth: whether ``refine.when`` = auto would leave it to the removal; None: not known.
    """

    window: Size
    crop: Size
    is_smooth: bool | None = None


@dataclass(frozen=True, slots=True)
class PhotoShape:
    """A photo that was looked at; one without patches is passed on as it is.

    Attributes:
        megapixels: of it.
        megabytes: of its file.
        masked_share: of its pixels.
        patches: of it.
    """

    megapixels: float
    megabytes: float
    masked_share: float
    patches: Sequence[PatchShape]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The photos of a manifest.

    Attributes:
        rows: all of them.
        photos: those that were looked at and can be cleaned, or one that was assumed.
        failed: error code -> of those that were looked at, how many cannot.
        is_assumed: whether no photo was looked at.
    """

    rows: int
    photos: Sequence[PhotoShape]
    failed: Mapping[str, int] = field(default_factory=dict)
    is_assumed: bool = False

    @property
    def looked_at(self) -> int:
        """How many photos; failing ones, which take hardly any time, included."""
        return len(self.photos) + sum(self.failed.values())

    @property
    def megapixels(self) -> float:
        """Of a photo, on average."""
        return self._mean([photo.megapixels for photo in self.photos])

    @property
    def masked_share(self) -> float:
        """Of a photo's pixels, on average."""
        return self._mean([photo.masked_share for photo in self.photos])

    @property
    def patches(self) -> float:
        """Of a photo, on average."""
        return self._mean([len(photo.patches) for photo in self.photos])

    @property
    def smooth_share(self) -> float | None:
        """Of the patches, those that ``refine.when`` = auto would leave; None: not known."""
        known = [
            patch.is_smooth
            for photo in self.photos
            for patch in photo.patches
            if patch.is_smooth is not None
        ]
        return sum(known) / len(known) if known else None

    @staticmethod
    def _mean(values: Sequence[float]) -> float:
        return sum(values) / len(values) if values else 0.0


def look_at(manifest: str, recipe: Recipe, sample: int, seed: int = 0) -> Catalog:
    """Count a manifest's rows, and take some photos, chosen at random, through the first steps.

    Args:
        manifest: path or URI of a file, folder or pattern.
        recipe: places the patches.
        sample: so many photos are read and decoded, one or more.
        seed: chooses which.

    Raises:
        ManifestError: as planning does.
        StorageError: a storage does not answer, or does not let us in.
    """
    chosen = sample_rows(find_files(manifest), sample, seed)
    photos, failed = [], Counter[str]()
    first = [step for step in steps(recipe, "") if step.name in _STEPS]
    made = [(step.name, step.make()) for step in first]
    for row in chosen.rows:
        line = LineageRow(
            id=row["id"], image_uri=row["image_uri"], mask_uri=row["mask_uri"], marks=row["marks"]
        )
        photo = Photo(line)
        if row["error_code"]:
            failed[row["error_code"]] += 1
            continue
        run_steps([photo], made)
        if photo.ok:
            photos.append(_shape_of(photo, recipe))
        else:
            failed[line.error_code or ""] += 1
    return Catalog(chosen.count, photos, failed)


def assume(manifest: str, recipe: Recipe, megapixels: float) -> Catalog:
    """Count a manifest's rows, and take all its photos to be of one size, with one mask each."""
    rows = count_rows(find_files(manifest))
    return Catalog(rows, [assumed_photo(recipe, megapixels)], is_assumed=True)


def assumed_photo(recipe: Recipe, megapixels: float) -> PhotoShape:
    """A photo of 4:3 with a square mask in its middle, 3 % of it."""
    height = max(round(math.sqrt(megapixels * 1e6 / _ASSUMED_ASPECT)), 1)
    width = max(round(height * _ASSUMED_ASPECT), 1)
    mask = np.zeros((height, width), np.bool_)
    half = max(round(math.sqrt(_ASSUMED_SHARE * mask.size) / 2), 1)
    mask[height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half] = True
    patches = []
    for plan in plan_crops(mask, recipe):
        window = window_of(plan, recipe, width, height)
        sides = (window.width, window.height), (plan.crop.width, plan.crop.height)
        patches.append(PatchShape(*sides))
    megabytes = megapixels * _ASSUMED_MB_PER_MEGAPIXEL
    return PhotoShape(mask.size / 1e6, megabytes, float(mask.mean()), patches)


def _shape_of(photo: Photo, recipe: Recipe) -> PhotoShape:
    line = photo.lineage
    assert line.width is not None
    assert line.height is not None
    pixels = line.width * line.height
    return PhotoShape(
        megapixels=pixels / 1e6,
        megabytes=len(photo.original) / 1e6,
        masked_share=(line.masked_px or 0) / pixels,
        patches=list(_patches_of(photo, recipe)),
    )


def _patches_of(photo: Photo, recipe: Recipe) -> Iterator[PatchShape]:
    for patch in photo.patches:
        yield PatchShape(
            (patch.window.width, patch.window.height),
            (patch.crop.width, patch.crop.height),
            _is_smooth(patch, recipe),
        )


def _is_smooth(patch: Patch, recipe: Recipe) -> bool | None:
    """As ``refine.when`` = auto would find; its fill is as soft as one by fast marching."""
    if not recipe.refine or not recipe.remove or patch.detail is None or patch.hole is None:
        return None
    fill: Bytes = np.asarray(cv2.inpaint(patch.detail, patch.hole, 3, cv2.INPAINT_TELEA), np.uint8)
    return lost_detail(fill, patch.hole) <= recipe.refine.auto_detail
