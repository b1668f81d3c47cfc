"""Detect pictures inside metadata, and draw thumbnails."""

from __future__ import annotations

import io
import re

from PIL import Image

#: Start of a JPEG, including the first byte of the next marker.
SOI = b"\xff\xd8\xff"

#: The header of a JPEG's frame, which follows in every JPEG: marker, length, bits a sample.
_FRAME = re.compile(
    rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\0[\x0b\x0e\x11\x14][\x08\x0c\x10]"
)

#: Signatures of other pictures and videos: PNG, Photoshop, GIF, WebP, JPEG 2000 and XL, HEIC, AVIF
#: and videos, and Photoshop's layers as in TIFF. Not TIFF: maker notes start with the same bytes.
#: The start of a JPEG or PNG in base64, as text metadata contains them.
_OTHERS = re.compile(
    rb"\x89PNG\r\n\x1a\n|8BPS\0[\1\2]\0{6}|GIF8[79]a|RIFF.{4}WEBPVP8"
    rb"|\0\0\0\x0c(?:jP  |JXL )\r\n\x87\n|\0\0\0[\x08-\xff]ftyp[ -~]{4}"
    rb"|Adobe Photoshop Document Data Block\0"
    rb"|(?:/9j/|iVBORw0KGgo)[A-Za-z0-9+/]{60}",
    re.DOTALL,
)

#: Longer side of a thumbnail, px (DCF), and the JPEG qualities tried in turn until it fits.
_THUMBNAIL_PX, _QUALITIES = 160, (90, 80, 70, 60, 50, 40, 30, 20)


def contains_picture(data: bytes) -> bool:
    """Whether data contain a picture or a video, as bytes or, in text, in base64."""
    start = data.find(SOI)
    return bool((start >= 0 and _FRAME.search(data, start)) or _OTHERS.search(data))


def thumbnail(picture: Image.Image, limit: int) -> bytes:
    """Draw a thumbnail as EXIF holds them: a JPEG without a JFIF segment (DCF).

    Args:
        picture: in any mode that converts to RGB.
        limit: bytes.

    Returns:
        The file in the best quality that fits; empty if none does.
    """
    factor = max(picture.size) // (3 * _THUMBNAIL_PX)
    small = (picture.reduce(factor) if factor > 1 else picture).convert("RGB")
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, format="JPEG", quality=quality)
        coded = buffer.getvalue()
        bare = coded[:2] + coded[4 + int.from_bytes(coded[4:6], "big") :]
        if len(bare) <= limit:
            return bare
    return b""
