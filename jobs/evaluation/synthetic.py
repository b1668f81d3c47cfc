"""Pastes objects, shapes and text into photos, to make cases with a known correct result.

Such cases calibrate the judge and compare recipes. :func:`make_benchmark` makes a catalog of them,
with the original photos as references.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from manifests.storage.row_files import read
from stages.arrays import Float32Array, UInt8Array
from stages.codecs.decode import decode_photo
from stages.pixels.colour import to_srgb8
from stages.pixels.samples import to_lab

#: Min mean difference from the background for a visible object, CIE76.
VISIBLE_DELTA_E = 10.0

_LETTERS = "ABEGHKMNRSW%2358"

#: Min area of an object.
_MIN_PX = 40

_MAX_ATTEMPTS = 200

#: Min and max side of an object, relative to the photo's shorter side.
_MIN_SHARE, _MAX_SHARE = 0.08, 0.25

#: A mask drawn by hand is slightly larger than the object.
_MASK_MARGIN_PX = 2

_MAX_MEGAPIXELS = 100.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an object goes: the ``(h, w, 3)`` uint8 picture, the centre (x, y) and the side, px."""

    base: UInt8Array
    centre: tuple[float, float]
    side_px: float


#: Draws an object: its colours, ``(h, w, 3)`` float32 of 0 to 255, and its coverage, ``(h, w)``
#: float32 of 0 to 1, both of the size of the placement's picture.
DrawObject = Callable[
    [Placement, Sequence[UInt8Array], np.random.Generator], tuple[Float32Array, Float32Array]
]


def paste(
    placement: Placement,
    draw: DrawObject,
    others: Sequence[UInt8Array],
    rng: np.random.Generator,
    *,
    opacity: float = 1.0,
    within: UInt8Array | None = None,
) -> tuple[UInt8Array, UInt8Array] | None:
    """Paste a visible object with a slightly soft edge.

    Args:
        placement: where to paste it.
        draw: one of :data:`OBJECTS`.
        others: photos that objects are cut from, each at least as large as an object.
        rng: source of randomness.
        opacity: up to 1.
        within: ``(h, w)`` uint8; the object is limited to where this is above 0. None: anywhere.

    Returns:
        The picture, and ``(h, w)`` uint8, 255 wherever it changed; None if no object was
        visible after 200 attempts.
    """
    lab = to_lab(placement.base)
    for _ in range(_MAX_ATTEMPTS):
        colours, coverage = draw(placement, others, rng)
        coverage = cv2.GaussianBlur(coverage, (0, 0), rng.uniform(0.7, 2)) * np.float32(opacity)
        if within is not None:
            coverage = np.where(within > 0, coverage, 0)
        mixed = placement.base + (colours - placement.base) * coverage[..., None]
        pasted = np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)
        core = coverage > 0.5 * opacity
        if core.sum() < _MIN_PX:
            continue
        if np.linalg.norm(to_lab(pasted) - lab, axis=2)[core].mean() >= VISIBLE_DELTA_E:
            return pasted, np.where(
                (pasted != placement.base).any(axis=2), np.uint8(255), np.uint8(0)
            )
    return None


def blob(
    centre: tuple[float, float], axes: tuple[float, float], rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    """The outline of an irregular round object, for ``cv2.fillPoly``."""
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    first, second = rng.uniform(0, 2 * np.pi, 2)
    radii = 1 + 0.25 * np.sin(2 * angles + first) + 0.2 * np.sin(3 * angles + second)
    points = np.stack([np.cos(angles) * axes[0], np.sin(angles) * axes[1]], axis=1)
    return np.asarray(np.rint(points * radii[:, None] + centre), np.int32)


def turned_box(
    centre: tuple[float, float], axes: tuple[float, float], rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    """The outline of a rectangle at a random angle, for ``cv2.fillPoly``."""
    box = (centre, (2 * axes[0], 2 * axes[1]), float(rng.uniform(0, 90)))
    return np.rint(cv2.boxPoints(box)).astype(np.int32)


def _axes(side_px: float, rng: np.random.Generator) -> tuple[float, float]:
    across, down = side_px / 2 * rng.uniform(0.7, 1.3, 2)
    return float(across), float(down)


def _object(
    placement: Placement, others: Sequence[UInt8Array], rng: np.random.Generator
) -> tuple[Float32Array, Float32Array]:
    """A piece of another photo."""
    other = others[int(rng.integers(len(others)))]
    zoom = rng.uniform(1.0, 2.0)
    need = min(int(np.ceil(placement.side_px * 1.6 / zoom)) + 4, *other.shape[:2])
    y, x = (int(rng.integers(0, length - need + 1)) for length in other.shape[:2])
    tile = cv2.resize(
        other[y : y + need, x : x + need], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC
    )
    height, width = placement.base.shape[:2]
    left, top = (c - s / 2 for c, s in zip(placement.centre, tile.shape[1::-1], strict=True))
    move = np.array([[1, 0, left], [0, 1, top]], np.float32)
    colours = cv2.warpAffine(tile, move, (width, height), borderMode=cv2.BORDER_REFLECT)
    coverage = np.zeros((height, width), np.float32)
    cv2.fillPoly(coverage, [blob(placement.centre, _axes(placement.side_px, rng), rng)], 1.0)
    return colours.astype(np.float32), coverage


def _shape(
    placement: Placement, _: Sequence[UInt8Array], rng: np.random.Generator
) -> tuple[Float32Array, Float32Array]:
    """An ellipse, a rectangle or a ring, shaded from one side."""
    height, width = placement.base.shape[:2]
    shade = np.linspace(-1, 1, width, dtype=np.float32) * rng.uniform(0, 60)
    colours = np.zeros((height, width, 3), np.float32) + rng.uniform(0, 255, 3).astype(np.float32)
    colours += shade[None, :, None]
    coverage = np.zeros((height, width), np.float32)
    axes = _axes(placement.side_px, rng)
    x, y = round(placement.centre[0]), round(placement.centre[1])
    kind = int(rng.integers(3))
    if kind == 0:
        cv2.fillPoly(coverage, [turned_box(placement.centre, axes, rng)], 1.0)
    else:
        line_px = -1 if kind == 1 else max(2, round(placement.side_px / 6))
        cv2.ellipse(coverage, (x, y), (round(axes[0]), round(axes[1])), 20, 0, 360, 1.0, line_px)
    return colours, coverage


def _text(
    placement: Placement, _: Sequence[UInt8Array], rng: np.random.Generator
) -> tuple[Float32Array, Float32Array]:
    """Two to four letters in one colour."""
    height, width = placement.base.shape[:2]
    colours = np.zeros((height, width, 3), np.float32) + rng.uniform(0, 255, 3).astype(np.float32)
    word = "".join(rng.choice(list(_LETTERS), int(rng.integers(2, 5))))
    font = cv2.FONT_HERSHEY_DUPLEX
    (wide, high), _base = cv2.getTextSize(word, font, 1, 2)
    scale = 1.3 * placement.side_px / wide
    start = (
        round(placement.centre[0] - wide * scale / 2),
        round(placement.centre[1] + high * scale / 2),
    )
    drawn = np.zeros((height, width), np.uint8)
    cv2.putText(drawn, word, start, font, scale, 255, max(2, round(3 * scale)), cv2.LINE_AA)
    return colours, np.asarray(drawn / 255, np.float32)


#: Name in tables -> function.
OBJECTS: dict[str, DrawObject] = {"object": _object, "shape": _shape, "text": _text}


def make_benchmark(folder: Path, photos: Sequence[str]) -> Path:
    """Paste an object, a shape and a text into each photo, and write a manifest of the results.

    The pasted objects depend only on the photo's file name and number. Objects are cut from the
    other photos, or from the photo itself if it is the only one.

    Args:
        folder: receives ``manifest.csv``, ``photos/``, ``masks/`` and ``references/``, all PNG.
        photos: paths or URIs.

    Returns:
        The manifest's path; its columns are id, image, mask, reference and kind.

    Raises:
        RowError: a photo cannot be read.
        ValueError: no visible object can be pasted into a photo.
    """
    pictures = [_read(uri) for uri in photos]
    for name in ("photos", "masks", "references"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (uri, picture) in enumerate(zip(photos, pictures, strict=True), 1):
        stem = f"{number:03d}-{Path(uri).stem}"
        rng = np.random.default_rng(zlib.crc32(stem.encode()))
        others = [each for each in pictures if each is not picture] or [picture]
        write_picture(folder / "references" / f"{stem}.png", picture)
        for kind, draw in OBJECTS.items():
            result = paste(_random_placement(picture, rng), draw, others, rng)
            if result is None:
                raise ValueError(f"no visible object could be pasted into {uri}")
            name = f"{stem}-{kind}"
            write_picture(folder / "photos" / f"{name}.png", result[0])
            kernel = np.ones((2 * _MASK_MARGIN_PX + 1,) * 2, np.uint8)
            mask = np.asarray(cv2.dilate(result[1], kernel), np.uint8)
            write_picture(folder / "masks" / f"{name}.png", mask)
            files = (f"photos/{name}.png", f"masks/{name}.png", f"references/{stem}.png")
            rows.append((name, *files, kind))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("id", "image", "mask", "reference", "kind"), *rows])
    return manifest


def _read(uri: str) -> UInt8Array:
    decoded = decode_photo(read(uri, "image"), _MAX_MEGAPIXELS, uri)
    return to_srgb8(decoded.pixels, decoded.space)


def _random_placement(picture: UInt8Array, rng: np.random.Generator) -> Placement:
    height, width = picture.shape[:2]
    x, y = rng.uniform(0.2, 0.8, 2) * (width, height)
    side_px = rng.uniform(_MIN_SHARE, _MAX_SHARE) * min(height, width)
    return Placement(picture, (float(x), float(y)), float(side_px))


def write_picture(path: Path, pixels: UInt8Array) -> None:
    """Write a PNG."""
    Image.fromarray(pixels).save(path, compress_level=4)
