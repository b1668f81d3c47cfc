"""A catalog of real photos at many sizes, with masks, and with bad rows among them."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.support import DEMO, encoded, upright_rgb

Pixels = npt.NDArray[np.uint8]

#: One bad row for each, by its error code.
BAD_ROWS = (
    "image.not_found",
    "image.zero_bytes",
    "image.not_an_image",
    "image.truncated",
    "image.too_large",
    "image.unsupported",
    "image.unknown_scheme",
    "mask.not_found",
    "mask.size_mismatch",
    "mask.covers_photo",
)


@dataclass(frozen=True)
class Catalog:
    manifest: Path
    good: list[str]
    bad: dict[str, str]


def make_catalog(folder: Path, good: int, least_mp: float, most_mp: float) -> Catalog:
    """Write ``good`` photos of so many megapixels, evenly spread by ratio, and the bad rows.

    Every fifth is a PNG, every eleventh a WebP, the others JPEGs.
    """
    rng = np.random.default_rng(1)
    sources = [upright_rgb(path) for path in sorted((DEMO / "photos").iterdir())]
    (folder / "in").mkdir(parents=True)
    rows = []
    for number in range(good):
        megapixels = least_mp * (most_mp / least_mp) ** (number / max(good - 1, 1))
        photo = _scaled(sources[number % len(sources)], megapixels)
        suffix = "png" if number % 5 == 0 else "webp" if number % 11 == 0 else "jpg"
        name = f"photo-{number:03d}"
        mask = _draw_mark(photo, rng)
        (folder / "in" / f"{name}.{suffix}").write_bytes(_as_file(photo, suffix))
        (folder / "in" / f"{name}-mask.png").write_bytes(encoded(mask))
        rows.append((name, f"in/{name}.{suffix}", f"in/{name}-mask.png", f"{number:05d}"))
    bad = {f"bad-{code}": code for code in BAD_ROWS}
    rows += [(name, *_bad_row(folder, name, code), "") for name, code in bad.items()]
    order = rng.permutation(len(rows))
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "image", "mask", "sku"))
        writer.writerows(rows[i] for i in order)
    return Catalog(folder / "manifest.csv", [row[0] for row in rows[:good]], bad)


def _scaled(source: Pixels, megapixels: float) -> Pixels:
    scale = (megapixels * 1e6 / (source.shape[0] * source.shape[1])) ** 0.5
    size = (round(source.shape[1] * scale), round(source.shape[0] * scale))
    return np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _as_file(photo: Pixels, suffix: str) -> bytes:
    if suffix == "png":
        return encoded(photo)
    if suffix == "webp":
        return encoded(photo, format="WEBP", quality=85, method=0)
    return encoded(photo, format="JPEG", quality=88)


def _draw_mark(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """Draw a round or long magenta mark somewhere, a tenth of the photo wide; returns its mask."""
    height, width = photo.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
    axes = (int(rng.integers(8, width // 10)), int(rng.integers(8, width // 20)))
    cv2.ellipse(mask, centre, axes, float(rng.integers(0, 180)), 0, 360, (255,), -1)
    photo[mask > 0] = (255, 0, 255)
    return mask


def _bad_row(folder: Path, name: str, code: str) -> tuple[str, str]:
    good = Image.open(DEMO / "photos" / "coffee-stray-coins.jpg")
    image, mask = f"in/{name}.jpg", f"in/{name}-mask.png"
    data = encoded(good, format="JPEG")
    drawn = Image.new("L", good.size)
    drawn.paste(255, (470, 275, 585, 370))
    match code:
        case "image.zero_bytes":
            data = b""
        case "image.not_an_image":
            data = b"<html>404 Not Found</html>"
        case "image.truncated":
            data = data[: len(data) // 2]
        case "image.too_large":
            data = encoded(Image.new("1", (12_000, 12_000)))
        case "image.unsupported":
            data = encoded(good, format="BMP")
        case "image.unknown_scheme":
            image = "ftp://shop/coffee.jpg"
        case "mask.size_mismatch":
            drawn = Image.new("L", (300, 200))
        case "mask.covers_photo":
            drawn = Image.new("L", good.size, 255)
    if code != "image.not_found":
        (folder / "in" / f"{name}.jpg").write_bytes(data)
    if code != "mask.not_found":
        (folder / "in" / f"{name}-mask.png").write_bytes(encoded(drawn))
    return image, mask


def small_demo(folder: Path, scale: float = 0.25) -> Path:
    """The demo at a fraction of its size: same ids, formats, marks and columns; its manifest."""
    for path in sorted(DEMO.glob("*/*.*")):
        with Image.open(path) as picture:
            size = (round(picture.width * scale), round(picture.height * scale))
            small = picture.resize(size)
            kind = {"format": picture.format, "exif": picture.getexif()}
        copy = folder / path.relative_to(DEMO)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(encoded(small, **kind))
    return Path(shutil.copy(DEMO / "manifest.csv", folder))
