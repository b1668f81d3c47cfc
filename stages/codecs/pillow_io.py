"""What the codecs that read and write through Pillow have in common."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from stages.codecs import orientation
from stages.codecs.picture import ColourModel, Decoded, Space, UnsupportedError, to_displayed
from stages.codecs.png.chunks import bit_depth

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

_EXIF_NAME = b"Exif\0\0"

#: An AVIF's entry for its EXIF (ISO 23008-12, ``infe`` of version 2) in the head of the file.
_EXIF_ITEM = re.compile(rb"(infe\x02.{7})Exif", re.DOTALL)
_HEAD = 65_536

#: Where ``opened`` leaves the orientation among a picture's ``info``.
_DISPLAYED = "displayed_orientation"
_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's own limit cannot follow the recipe's, which is checked before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# Profiles of printing presses and histories of edits are larger than Pillow expects.
PngImagePlugin.MAX_TEXT_CHUNK = 64 << 20
PngImagePlugin.MAX_TEXT_MEMORY = 128 << 20


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """Open a picture; what Pillow warns of (odd metadata, size) is not reported.

    Its orientation is that of :mod:`stages.codecs.orientation`, not Pillow's, which follows XMP.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _image(data) as picture:
            if picture.format == "TIFF":  # is turned while it is loaded, by XMP if there is no tag
                picture.info.pop("xmp", None)
            picture.info[_DISPLAYED] = _displayed(picture, data)
            yield picture


def _image(data: bytes) -> Image.Image:
    """The file, opened; of an AVIF whose EXIF cannot be read, EXIF that stands for that."""
    try:
        return Image.open(io.BytesIO(data))
    except (OSError, ValueError):
        readable = _EXIF_ITEM.sub(rb"\1free", data[:_HEAD]) + data[_HEAD:]
        if readable == data or data[4:8] != b"ftyp":
            raise
    picture = Image.open(io.BytesIO(readable))
    picture.info["exif"] = b"\0"
    return picture


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
        turn = orientation_of(picture)
        return Decoded(
            to_displayed(stored.reshape(*stored.shape[:2], -1), turn),
            turn,
            Space(_MODELS.get(mode, "cmyk"), picture.info.get("icc_profile") or b""),
            "" if picture.mode == mode else f"{picture.mode} widened to {mode}",
        )


def scale_key(picture: Image.Image, data: bytes) -> None:
    """Pillow scales the samples of a grey PNG of 2 or 4 bits, but not its transparent colour."""
    key = picture.info.get("transparency")
    if picture.format != "PNG" or picture.mode != "L" or not isinstance(key, int):
        return
    if (bits := bit_depth(data)) < 8:
        picture.info["transparency"] = key * 255 // ((1 << bits) - 1)


def orientation_of(picture: Image.Image) -> int:
    """The orientation, 1 to 8, in which a picture that :func:`opened` gave is displayed."""
    return int(picture.info.get(_DISPLAYED, 1))


def upright_of(picture: Image.Image) -> Image.Image:
    """The picture in the displayed frame; itself, not a copy, where that is the stored one."""
    method = _METHODS.get(orientation_of(picture))
    if method is None:
        return picture
    turned = picture.transpose(method)
    turned.info[_DISPLAYED] = 1
    return turned


def _displayed(picture: Image.Image, data: bytes) -> int:
    if picture.format == "AVIF":  # its reader states irot and imir as EXIF, in place of the file's
        exif = picture.info.get("exif", b"")
        return orientation.in_exif(exif.removeprefix(_EXIF_NAME)) or 1
    return orientation.displayed(data)


def saved(picture: Image.Image, **how: Any) -> bytes:
    """The picture as a file's bytes, the same on every machine."""
    if how.get("format") == "AVIF":
        how["max_threads"] = 1  # else the number of cores decides how many tiles there are
    buffer = io.BytesIO()
    picture.save(buffer, **how)
    return buffer.getvalue()
