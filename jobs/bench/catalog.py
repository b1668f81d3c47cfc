"""A catalog to measure on: large real photos with marks, made of the bundled ones.

Those are of a megapixel or less. Enlarged, they would be smoother than a camera's, and cheaper to
code; so a large photo is a mosaic of small ones at their own scale, each mirrored at random.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from jobs.bench.judge import bundled_photos
from stages.masks import Bytes

#: How files are written, in turn: shops have JPEGs above all.
_KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    (".jpg", {"quality": 90}),
    (".jpg", {"quality": 92, "subsampling": 0}),
    (".png", {}),
)

#: Width over height.
_ASPECT = 1.5

#: Side of a mark over the photo's longer side: a sticker, a tag, a logo.
_LEAST_SHARE, _MOST_SHARE = 0.05, 0.1

#: So many photos are made; beyond it they come again.
_DIFFERENT = 24

#: One photo in so many has two marks.
_TWO_MARKS_EVERY = 3


@dataclass(frozen=True, slots=True)
class Catalog:
    """Photos in a folder, masks of the same names in another, and a manifest of both.

    Attributes:
        folder: holds ``photos/``, ``masks/`` and ``manifest.csv``.
        count: photos.
        megapixels: of all of them.
    """

    folder: Path
    count: int
    megapixels: float

    @property
    def photos(self) -> Path:
        """JPEGs and PNGs."""
        return self.folder / "photos"

    @property
    def masks(self) -> Path:
        """PNGs of 0 and 255, 255 where there is a mark."""
        return self.folder / "masks"

    def mask_of(self, name: str) -> Path:
        """Of a photo, by its name or its file's."""
        return self.masks / f"{Path(name).stem}.png"

    @property
    def manifest(self) -> Path:
        """With absolute paths."""
        return self.folder / "manifest.csv"


def make_catalog(folder: Path, count: int, most_megapixels: float) -> Catalog:
    """Write photos of 1 to ``most_megapixels``, each by the same factor larger, in mixed order.

    Below a megapixel, all have ``most_megapixels``. From the 25th on, photos are the first ones
    again, under other names. The same arguments make the same files.
    """
    rng = np.random.default_rng(0)
    pieces = list(bundled_photos().values())
    least = min(1.0, most_megapixels)
    sizes = rng.permutation(np.geomspace(least, most_megapixels, min(count, _DIFFERENT)))
    catalog = Catalog(folder, count, float(np.resize(sizes, count).sum()))
    for path in (catalog.photos, catalog.masks):
        path.mkdir(parents=True)
    names = [f"{number:04d}{_KINDS[number % len(_KINDS)][0]}" for number in range(count)]
    for number, (name, size) in enumerate(zip(names, sizes, strict=False)):
        photo, mask = _marked_photo(pieces, size, 1 if number % _TWO_MARKS_EVERY else 2, rng)
        Image.fromarray(photo).save(catalog.photos / name, **_KINDS[number % len(_KINDS)][1])
        Image.fromarray(mask).save(catalog.mask_of(name))
    for number, name in enumerate(names[_DIFFERENT:]):
        first = names[number % _DIFFERENT]
        (catalog.photos / name).hardlink_to(catalog.photos / first)
        catalog.mask_of(name).hardlink_to(catalog.mask_of(first))
    rows = [(Path(n).stem, str(catalog.photos / n), str(catalog.mask_of(n))) for n in names]
    with catalog.manifest.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "image", "mask"), *rows])
    return catalog


def _marked_photo(
    pieces: list[Bytes], megapixels: float, marks: int, rng: np.random.Generator
) -> tuple[Bytes, Bytes]:
    """``(h, w, 3)`` uint8 RGB, and the ``(h, w)`` mask of what is laid on it."""
    height = round(math.sqrt(megapixels * 1e6 / _ASPECT))
    pixels = _mosaic(pieces, height, round(height * _ASPECT), rng)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    for _ in range(marks):
        _mark(pixels, mask, rng)
    return pixels, mask


def _mosaic(pieces: list[Bytes], height: int, width: int, rng: np.random.Generator) -> Bytes:
    """Rows of photos, each row as high as its first one."""
    made = np.zeros((height, width, 3), np.uint8)
    top = 0
    while top < height:
        left, bottom = 0, height
        while left < width:
            piece = pieces[rng.integers(len(pieces))][:, :: rng.choice((-1, 1))]
            if not left:
                bottom = min(top + piece.shape[0], height)
            rows = np.arange(bottom - top) % piece.shape[0]
            part = piece[rows, : width - left]
            made[top:bottom, left : left + part.shape[1]] = part
            left += part.shape[1]
        top = bottom
    return made


def _mark(pixels: Bytes, mask: Bytes, rng: np.random.Generator) -> None:
    """Lay a white ellipse on, in place."""
    height, width = mask.shape
    axes = rng.uniform(_LEAST_SHARE, _MOST_SHARE, 2) * width / 2
    centre = rng.uniform(0.15, 0.85, 2) * (width, height)
    shape = (centre.tolist(), (2 * axes).tolist(), float(rng.uniform(0, 180)))
    cv2.ellipse(pixels, shape, (255, 255, 255), -1)
    cv2.ellipse(mask, shape, (255,), -1)
