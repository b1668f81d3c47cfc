"""The registry of image formats. To add one, write its folder and register its codec here.

Other places that list formats by name: ``output.format`` in ``recipe/options.py``, for formats that
files can be converted to; ``mask_file.py``, for formats of masks; ``stages/verify``, which has its
own parsers.
"""

from __future__ import annotations

from stages.codecs.base import Codec, Format
from stages.codecs.heif import codec as heif
from stages.codecs.jpeg import codec as jpeg
from stages.codecs.png import codec as png
from stages.codecs.tiff import codec as tiff
from stages.codecs.webp import codec as webp

CODECS: dict[Format, Codec] = {
    "jpeg": jpeg.CODEC,
    "png": png.CODEC,
    "webp": webp.CODEC,
    "tiff": tiff.CODEC,
    "avif": heif.AVIF,
    "heic": heif.HEIC,
}


def detect_format(data: bytes) -> Format | None:
    """Detect a file's format by its first bytes; None if no codec supports it."""
    return next((name for name, codec in CODECS.items() if codec.recognises(data)), None)


def detect_codec(data: bytes) -> Codec | None:
    """Return the codec for a file's format; None if there is none."""
    name = detect_format(data)
    return CODECS[name] if name else None
