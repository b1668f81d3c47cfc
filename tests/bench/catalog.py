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
import numpy.typing as npt
from PIL import Image

from tests.bench.common import Pixels
from tests.support import DEMO, upright_rgb

#: Of scikit-image's photos, those that come with the package.
_BUNDLED = (
    *("astronaut", "brick", "camera", "chelsea", "grass", "gravel"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "rocket"),
)

#: How files are written, in turn: shops have JPEGs above all.
_KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    (".jpg", {"quality": 90}),
    (".jpg", {"quality": 92, "subsampling": 0}),
    (".png", {}),
)

_ASPECT = 1.5

#: Side of a mark over the photo's longer side: a sticker, a tag, a logo.
_MIN_SHARE, _MAX_SHARE = 0.05, 0.1

#: Photos made; beyond it they come again. One in so many has two marks.
_DIFFERENT, _TWO_MARKS_EVERY = 24, 3


def bundled_photos() -> dict[str, Pixels]:
    """RGB each: those of the demo, and those that come with scikit-image."""
    import skimage.data

    with (DEMO / "manifest.csv").open(encoding="utf-8") as rows:
        demo = {row["id"]: upright_rgb(DEMO / row["image"]) for row in csv.DictReader(rows)}
    others = {name: _as_rgb(getattr(skimage.data, name)()) for name in _BUNDLED}
    return demo | others | {"motorcycle": _as_rgb(skimage.data.stereo_motorcycle()[0])}


def _as_rgb(pixels: npt.NDArray[Any]) -> Pixels:
    rgb = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels[..., :3]
    return np.ascontiguousarray(rgb, np.uint8)


@dataclass(frozen=True, slots=True)
class Catalog:
    """``photos/`` of JPEGs and PNGs, ``masks/`` of the same names (255 on a mark), a manifest.

    ``megapixels`` are those of all photos.
    """

    folder: Path
    count: int
    megapixels: float

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    @property
    def masks(self) -> Path:
        return self.folder / "masks"

    def mask_of(self, name: str) -> Path:
        return self.masks / f"{Path(name).stem}.png"

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.csv"


def make_catalog(folder: Path, count: int, max_megapixels: float) -> Catalog:
    """Write photos of 1 to ``max_megapixels``, each by the same factor larger, in mixed order.

    Below a megapixel, all have ``max_megapixels``. From the 25th on, photos are the first ones
    again, under other names. The same arguments make the same files.
    """
    rng = np.random.default_rng(0)
    pieces = list(bundled_photos().values())
    smallest = min(1.0, max_megapixels)
    sizes = rng.permutation(np.geomspace(smallest, max_megapixels, min(count, _DIFFERENT)))
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
    pieces: list[Pixels], megapixels: float, marks: int, rng: np.random.Generator
) -> tuple[Pixels, Pixels]:
    """``(h, w, 3)`` uint8 RGB, and the ``(h, w)`` mask of what is laid on it."""
    height = round(math.sqrt(megapixels * 1e6 / _ASPECT))
    pixels = _mosaic(pieces, height, round(height * _ASPECT), rng)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    for _ in range(marks):
        _mark(pixels, mask, rng)
    return pixels, mask


def _mosaic(pieces: list[Pixels], height: int, width: int, rng: np.random.Generator) -> Pixels:
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


def _mark(pixels: Pixels, mask: Pixels, rng: np.random.Generator) -> None:
    """Lay a white ellipse on, in place."""
    height, width = mask.shape
    axes = rng.uniform(_MIN_SHARE, _MAX_SHARE, 2) * width / 2
    centre = rng.uniform(0.15, 0.85, 2) * (width, height)
    shape = (centre.tolist(), (2 * axes).tolist(), float(rng.uniform(0, 180)))
    cv2.ellipse(pixels, shape, (255, 255, 255), -1)
    cv2.ellipse(mask, shape, (255,), -1)
