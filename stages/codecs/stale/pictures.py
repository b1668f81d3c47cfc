"""Detect, open, draw and encode the small pictures inside metadata."""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from PIL import Image, ImageOps

#: Start of a JPEG, including the first byte of the next marker.
SOI = b"\xff\xd8\xff"

#: Maximum size of a thumbnail: larger ones are damaged, or a decompression bomb.
_MAX_PIXELS = 4_000_000

#: Limits of the search for a JPEG's first scan: without them, some data take quadratic time.
_MAX_SEGMENTS, _MAX_GAP = 200, 65_536

#: Signatures of other pictures and videos: PNG, Photoshop, GIF, WebP, JPEG 2000 and XL, HEIC, AVIF
#: and videos, and Photoshop's layers as in TIFF. Not TIFF: maker notes start with the same bytes.
_OTHERS = re.compile(
    rb"\x89PNG\r\n\x1a\n|8BPS\0[\1\2]\0{6}|GIF8[79]a|RIFF.{4}WEBPVP8"
    rb"|\0\0\0\x0c(?:jP  |JXL )\r\n\x87\n|\0\0\0[\x08-\xff]ftyp[ -~]{4}"
    rb"|Adobe Photoshop Document Data Block\0",
    re.DOTALL,
)

#: The start of a JPEG or PNG in base64, as text metadata contains them.
_BASE64 = re.compile(rb"/9j/[A-Za-z0-9+/]{60}|iVBORw0KGgo[A-Za-z0-9+/]{60}")

#: Data with more starts of a JPEG count as a picture, since searching on would take too long.
_MAX_FALSE_STARTS = 5_000

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS = 0xDA
_STANDALONE = frozenset([0x00, 0x01, *range(0xD0, 0xD8)])

#: Coded samples never hold these: 0xFF is followed by 0 or a restart marker there.
_END = re.compile(rb"\xff[\xd8\xd9]")

#: Minimum relative difference in aspect ratio, more than rounding causes.
_ASPECT_TOLERANCE = 0.02

#: JPEG qualities tried in turn until a preview fits.
_QUALITIES = (90, 80, 70, 60, 50, 40, 30, 20)


def contains_picture(data: bytes) -> bool:
    """Whether data contain a picture or a video, as bytes or, in text, in base64."""
    if _BASE64.search(data) or _OTHERS.search(data):
        return True
    position = data.find(SOI)
    for _ in range(_MAX_FALSE_STARTS):
        if position < 0:
            return False
        if jpeg_end(data, position):
            return True
        position = data.find(SOI, position + 2)
    return True


def jpeg_end(data: bytes, start: int) -> int:
    """Return where the JPEG that starts at a position ends, which may be the end of truncated data.

    0 if there is none with a frame and a scan.
    """
    if data[start : start + 3] != SOI:
        return 0
    position, has_frame = start + 2, False
    for _ in range(_MAX_SEGMENTS):
        position = data.find(b"\xff", position, position + _MAX_GAP)
        if position < 0 or position + 4 > len(data):
            return 0
        marker = data[position + 1]
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in (0xD8, 0xD9) or length < 2:
            return 0
        has_frame |= marker in _FRAMES
        position += 2 + length
        if marker == _SOS:
            end = _END.search(data, position)
            stop = len(data) if end is None else end.start() + 2 * (end[0] == b"\xff\xd9")
            return stop if has_frame else 0
    return 0


def open_jpeg(data: bytes) -> Image.Image | None:
    """Decode a JPEG; None if it is damaged or too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata of the preview's own
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    return None
                picture.load()
                return picture
    except Exception:  # Pillow raises many kinds of exceptions for damaged data
        return None


def drawn_like(old: Image.Image, edited: Image.Image) -> Image.Image:
    """Scale the edited picture to an old preview's size, with the same bars or crop as the old one.

    Returns:
        A picture in mode L if the old one is grey, else RGB.
    """
    factor = min(edited.width // (3 * old.width), edited.height // (3 * old.height))
    small = edited.reduce(factor) if factor > 1 else edited
    small = small.convert("L" if old.mode in ("1", "L") else "RGB")
    fits = [small.resize(old.size, Image.Resampling.LANCZOS)]
    aspect = (edited.width * old.height) / (edited.height * old.width)
    if abs(aspect - 1) > _ASPECT_TOLERANCE:
        fits += [ImageOps.pad(small, old.size, color=bar) for bar in ("black", "white")]
        fits.append(ImageOps.fit(small, old.size))
    before = np.asarray(old.convert(small.mode), np.float32)
    # The edit covers only a part of the picture, so the most similar variant has the same framing.
    best = min(fits, key=lambda fit: np.abs(np.asarray(fit, np.float32) - before).mean())
    best.info.clear()  # Pillow would save metadata from it
    return best


def as_jpeg(picture: Image.Image, limit: int, *, bare: bool = False) -> bytes | None:
    """Encode a preview in the best quality that takes no more than ``limit`` bytes.

    Args:
        picture: RGB or L.
        limit: bytes.
        bare: without a JFIF segment, as thumbnails in EXIF are (DCF).

    Returns:
        None if it is larger at every quality.
    """
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=quality)
        coded = buffer.getvalue()
        if bare and coded[2:4] == b"\xff\xe0":
            coded = coded[:2] + coded[4 + int.from_bytes(coded[4:6], "big") :]
        if len(coded) <= limit:
            return coded
    return None
