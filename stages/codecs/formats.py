"""The image formats that are edited, and who reads and writes each: to add one, enter it here.

What else knows formats by name: ``output.format`` in ``recipe/options.py`` and ``convert.py``, if
other files are to be turned into it; ``stages/verify``, which reads files by walkers of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from stages.codecs import heif, pillow_io
from stages.codecs.jpeg import codec as jpeg
from stages.codecs.picture import Decoded, Edit, Encoded
from stages.codecs.png import codec as png
from stages.codecs.tiff import codec as tiff
from stages.codecs.webp import codec as webp

Format = Literal["jpeg", "png", "webp", "tiff", "avif", "heic"]


@dataclass(frozen=True, slots=True)
class Codec:
    """How a format is read and written.

    Attributes:
        suffix: of its files, without the dot.
        size: width and height in the stored frame, px, without decoding pixels.
        decode: all of it. Raises UnsupportedError for kinds that cannot be edited without loss.
        encode: writes an edit into it. Raises UnsupportedError, too.
    """

    suffix: str
    size: Callable[[bytes], tuple[int, int]]
    decode: Callable[[bytes], Decoded]
    encode: Callable[[Edit], Encoded]


CODECS: dict[Format, Codec] = {
    "jpeg": Codec("jpg", pillow_io.size, pillow_io.decode, jpeg.encode),
    "png": Codec("png", pillow_io.size, png.decode, png.encode),
    "webp": Codec("webp", pillow_io.size, pillow_io.decode, webp.encode),
    "tiff": Codec("tif", tiff.size, tiff.decode, tiff.encode),
    "avif": Codec("avif", pillow_io.size, heif.decode_avif, heif.encode_avif),
    "heic": Codec("heic", heif.heic_size, heif.decode_heic, heif.encode_heic),
}
assert set(CODECS) == set(get_args(Format))

_MAGIC: list[tuple[bytes, Format]] = [
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
]
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc", b"hevx")


def format_of(data: bytes) -> Format | None:
    """Which format a file has by its first bytes; None: none of ours."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[i : i + 4] for i in range(16, size, 4))]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "avif"
    return "heic" if any(brand in _HEIC_BRANDS for brand in brands) else None
