"""What the codecs that read and write through Pillow have in common."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from stages.codecs.picture import ColourModel, Decoded, Space, UnsupportedError, to_displayed

#: Modes that are edited without loss, and the one they are edited in: palettes are widened to the
#: colours they stand for, and a transparent colour to alpha, or paint could turn into a hole.
_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "CMYK": "CMYK",
}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
_MODELS: dict[str, ColourModel] = {"L": "grey", "LA": "grey", "RGB": "rgb", "RGBA": "rgb"}

_EXIF_ORIENTATION = 0x0112

# Pillow's own limit cannot follow the recipe's, which is checked before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# Profiles of printing presses and histories of edits are larger than Pillow expects.
PngImagePlugin.MAX_TEXT_CHUNK = 64 << 20
PngImagePlugin.MAX_TEXT_MEMORY = 128 << 20


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """Open a picture; what Pillow warns of (odd metadata, size) is not ours to tell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as picture:
            yield picture


def size(data: bytes) -> tuple[int, int]:
    """Width and height in the stored frame, px."""
    with opened(data) as picture:
        return picture.size


def decode(data: bytes) -> Decoded:
    """Decode a picture of 8 bits a sample.

    Raises:
        UnsupportedError: it is animated, or has other samples.
    """
    with opened(data) as picture:
        if picture.mode not in _MODES:
            raise UnsupportedError(f"its samples are of the kind {picture.mode}")
        if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
            raise UnsupportedError("it is animated")
        picture.load()
        scale_key(picture, data)
        mode = _MODES[picture.mode]
        if "transparency" in picture.info:
            mode = _WITH_ALPHA[mode]
        same_mode = picture if picture.mode == mode else picture.convert(mode)
        stored = np.asarray(same_mode)
        orientation = orientation_of(picture)
        return Decoded(
            to_displayed(stored.reshape(*stored.shape[:2], -1), orientation),
            orientation,
            Space(_MODELS.get(mode, "cmyk"), picture.info.get("icc_profile") or b""),
            "" if picture.mode == mode else f"{picture.mode} widened to {mode}",
        )


def scale_key(picture: Image.Image, data: bytes) -> None:
    """Pillow scales the samples of a grey PNG of 2 or 4 bits, but not its transparent colour."""
    key = picture.info.get("transparency")
    if picture.format == "PNG" and picture.mode == "L" and isinstance(key, int) and data[24] < 8:
        picture.info["transparency"] = key * 255 // ((1 << data[24]) - 1)


def orientation_of(picture: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none, or none that makes sense."""
    orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    return int(orientation) if orientation in range(1, 9) else 1


def upright_of(picture: Image.Image) -> Image.Image:
    """The picture in the displayed frame; itself, not a copy, where that is the stored one."""
    return ImageOps.exif_transpose(picture) if orientation_of(picture) != 1 else picture


def saved(picture: Image.Image, **how: Any) -> bytes:
    """The picture as a file's bytes, the same on every machine."""
    if how.get("format") == "AVIF":
        how["max_threads"] = 1  # else the number of cores decides how many tiles there are
    buffer = io.BytesIO()
    picture.save(buffer, **how)
    return buffer.getvalue()
