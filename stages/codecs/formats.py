"""The image formats that are edited: to add one, write its folder and enter it here.

What else knows formats by name: ``output.format`` in ``recipe/options.py``, if other files are to
be turned into it; ``mask_file.py``, if masks may have it; ``stages/verify``, which reads files by
walkers of its own.
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
    """Which format a file has by its first bytes; None: none of ours."""
    return next((name for name, codec in CODECS.items() if codec.recognises(data)), None)


def detect_codec(data: bytes) -> Codec | None:
    """The codec of a file's format; None: it has none of ours."""
    name = detect_format(data)
    return CODECS[name] if name else None
