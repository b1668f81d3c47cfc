"""Make a benchmark of removal from any photos: paste things into them, keep them as references."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from jobs.evaluation.synthetic import THINGS, Place, paste
from manifests.errors import RowError
from manifests.storage.row_files import read
from stages.codecs.decode import decode_photo
from stages.pixels import colour
from stages.pixels.masks import Bytes

#: Side of what is pasted, over the photo's shorter side.
_LEAST_SHARE, _MOST_SHARE = 0.08, 0.25

#: A mask drawn by hand is a little larger than what it marks.
_GENEROUS_PX = 2

_MAX_MEGAPIXELS = 100.0


def make_benchmark(folder: Path, photos: Sequence[str]) -> Path:
    """Paste an object, a shape and a text into each photo, and write a manifest of the results.

    What is pasted where follows from the photo's file name and its number. Objects are cut from
    the other photos; of one photo alone, from itself.

    Args:
        folder: receives ``manifest.csv``, ``photos/``, ``masks/`` and ``references/``, all PNG.
        photos: paths or URIs.

    Returns:
        The manifest's path; its columns are id, image, mask, reference and kind.

    Raises:
        RowError: a photo cannot be read.
    """
    pictures = [_read(uri) for uri in photos]
    for name in ("photos", "masks", "references"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (uri, picture) in enumerate(zip(photos, pictures, strict=True), 1):
        stem = f"{number:03d}-{Path(uri).stem}"
        rng = np.random.default_rng(zlib.crc32(stem.encode()))
        others = [each for each in pictures if each is not picture] or [picture]
        _write(folder / "references" / f"{stem}.png", picture)
        for kind, thing in THINGS.items():
            made = paste(_somewhere(picture, rng), thing, others, rng)
            if made is None:
                raise RowError("image.unsupported", f"On {uri} nothing could be seen.")
            name = f"{stem}-{kind}"
            _write(folder / "photos" / f"{name}.png", made[0])
            kernel = np.ones((2 * _GENEROUS_PX + 1,) * 2, np.uint8)
            mask = np.asarray(cv2.dilate(made[1], kernel), np.uint8)
            _write(folder / "masks" / f"{name}.png", mask)
            files = (f"photos/{name}.png", f"masks/{name}.png", f"references/{stem}.png")
            rows.append((name, *files, kind))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("id", "image", "mask", "reference", "kind"), *rows])
    return manifest


def _read(uri: str) -> Bytes:
    decoded = decode_photo(read(uri, "image"), _MAX_MEGAPIXELS, uri)
    return colour.view(decoded.pixels, decoded.space)


def _somewhere(picture: Bytes, rng: np.random.Generator) -> Place:
    height, width = picture.shape[:2]
    x, y = rng.uniform(0.2, 0.8, 2) * (width, height)
    side_px = rng.uniform(_LEAST_SHARE, _MOST_SHARE) * min(height, width)
    return Place(picture, (float(x), float(y)), float(side_px))


def _write(path: Path, pixels: Bytes) -> None:
    Image.fromarray(pixels).save(path, compress_level=4)
