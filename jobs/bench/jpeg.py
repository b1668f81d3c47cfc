"""What keeping a JPEG's coefficients costs, against coding the whole picture again."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from PIL import Image

from jobs.demo import MANIFEST
from stages.codecs.decode import decode_photo
from stages.codecs.encode import encode
from stages.codecs.picture import as_pillow
from stages.masks import Bits
from stages.recipe import Recipe

_SIZE = (4000, 3000)
_REPEATS = 5

_KINDS: dict[str, dict[str, Any]] = {
    "4:2:0": {"subsampling": "4:2:0"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:0, progressive": {"subsampling": "4:2:0", "progressive": True},
    "4:4:4, progressive": {"subsampling": "4:4:4", "progressive": True},
}


@dataclass(frozen=True, slots=True)
class JpegCost:
    """One kind of 12-megapixel JPEG.

    Attributes:
        kind: subsampling, and whether it is progressive.
        megabytes: of the file.
        kept_seconds: CPU seconds to write an edit into it and verify the result; a median.
        whole_seconds: CPU seconds in which Pillow codes the whole picture; it verifies nothing.
        growth: size of the result over that of the source.
    """

    kind: str
    megabytes: float
    kept_seconds: float
    whole_seconds: float
    growth: float


def measure() -> Iterator[JpegCost]:
    """Time each kind, quality 90, a mask of 1 % of the photo."""
    with Image.open(MANIFEST.parent / "photos" / "fig-bowl-sticker-date.jpg") as photo:
        # Side by side, not enlarged: detail is what coding costs.
        tiles = np.tile(np.asarray(photo.convert("RGB")), (4, 4, 1))
    picture = Image.fromarray(tiles).crop((0, 0, *_SIZE))
    mask = np.zeros(_SIZE[::-1], np.uint8)
    cv2.ellipse(mask, (2200, 1500), (230, 170), 0, 0, 360, 255, -1)
    for kind, options in _KINDS.items():
        yield _cost(kind, options, picture, mask > 0)


def _cost(kind: str, options: dict[str, Any], picture: Image.Image, changed: Bits) -> JpegCost:
    source, recipe = _saved(picture, quality=90, **options), Recipe.load("telea")
    decoded = decode_photo(source, 100, kind)
    pixels = decoded.pixels.copy()
    pixels[changed] = 200
    edited, whole = replace(decoded, pixels=pixels), as_pillow(pixels, "rgb")
    kept = encode(source, edited, changed, recipe, kind)
    assert kept.fidelity == "coefficients", kept.note
    return JpegCost(
        kind,
        len(source) / 1e6,
        _cpu_seconds(lambda: encode(source, edited, changed, recipe, kind)),
        _cpu_seconds(lambda: _saved(whole, quality=90, **options)),
        len(kept.data) / len(source),
    )


def _cpu_seconds(work: Callable[[], object]) -> float:
    found = []
    for _ in range(_REPEATS):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return statistics.median(found)


def _saved(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()
