"""Write pictures of other formats as TIFF."""

from __future__ import annotations

import io
from typing import Any

import tifffile
from PIL import Image

from stages.arrays import Samples
from stages.codecs.base import Metadata, Writer
from stages.pixels.samples import ColourSpace

#: EXIF tags that describe the photo, not the layout of the file.
_TEXTS, _ORIENTATION = (270, 271, 272, 305, 306, 315, 316, 33432), 274
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_XMP = 700


def descriptive_tags(block: bytes) -> Image.Exif:
    """Extract the tags of an EXIF block or a TIFF that stay valid in another file."""
    tags = Image.Exif()
    tags.load(block)
    kept = Image.Exif()
    for tag in (*_TEXTS, _ORIENTATION):
        if tag in tags:
            kept[tag] = tags[tag]
    for number in (_EXIF_IFD, _GPS_IFD):
        if below := tags.get_ifd(number):
            kept.get_ifd(number).update(below)
    return kept


def _write(
    pixels: Samples, space: ColourSpace, metadata: Metadata, _: int
) -> tuple[bytes, list[str]]:
    tags = descriptive_tags(metadata.exif)
    texts = {tag: str(tags[tag]).encode("latin-1", "replace") for tag in tags if tag in _TEXTS}
    extra: list[tuple[Any, ...]] = [(_ORIENTATION, 3, 1, 1, True)]
    extra += [(tag, 2, len(text) + 1, text + b"\0", True) for tag, text in texts.items()]
    if metadata.xmp:
        extra.append((_XMP, 1, len(metadata.xmp), metadata.xmp, True))
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        photometric={"grey": "minisblack", "rgb": "rgb", "cmyk": "separated"}[space.model],
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        extrasamples=["unassalpha"] if pixels.shape[2] > space.channels else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=64,
        iccprofile=space.icc or None,
        resolution=metadata.dpi,
        resolutionunit="INCH" if metadata.dpi else None,
        metadata=None,
        software="",
        extratags=extra,
    )
    is_left = any(tags.get_ifd(number) for number in (_EXIF_IFD, _GPS_IFD))
    left = ["EXIF not carried over, but for what TIFF has tags of its own for"] * is_left
    return buffer.getvalue(), left


WRITER = Writer(write=_write, is_lossless=True, holds_cmyk=True)
