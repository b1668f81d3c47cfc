"""Write pictures of other formats as TIFF."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from stages.arrays import Samples
from stages.codecs import pillow_io
from stages.codecs.base import Metadata, Writer
from stages.codecs.picture import as_pillow
from stages.pixels.samples import Space

#: EXIF tags that describe the photo, not the layout of the file.
_DESCRIPTIVE = (270, 271, 272, 274, 305, 306, 315, 316, 33432)
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_ORIENTATION, _PREDICTOR, _XMP = 274, 317, 700


def descriptive_tags(block: bytes) -> Image.Exif:
    """Extract the tags of an EXIF block or a TIFF that stay valid in another file."""
    tags = Image.Exif()
    tags.load(block)
    kept = Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in tags:
            kept[tag] = tags[tag]
    for number in (_EXIF_IFD, _GPS_IFD):
        if below := tags.get_ifd(number):
            kept.get_ifd(number).update(below)
    return kept


def _write(pixels: Samples, space: Space, metadata: Metadata, _: int) -> tuple[bytes, list[str]]:
    if pixels.dtype != np.uint8:
        data = _deep(pixels, space, metadata)
        return data, ["EXIF not carried over"] if metadata.exif else []
    tags = descriptive_tags(metadata.exif)
    # Pillow writes no directories into a compressed TIFF.
    is_left = any(tags.get_ifd(number) for number in (_EXIF_IFD, _GPS_IFD))
    left = ["EXIF not carried over, but for what TIFF has tags of its own for"] * is_left
    return _shallow(pixels, space, metadata), left


def _shallow(pixels: Samples, space: Space, metadata: Metadata) -> bytes:
    """Write 8 bits with Pillow, which supports EXIF."""
    tags = descriptive_tags(metadata.exif)
    tags[_PREDICTOR] = 2
    if metadata.xmp:
        tags[_XMP] = metadata.xmp
    options = pillow_io.writing_options(replace(metadata, exif=b"", xmp=b""), space)
    picture = as_pillow(pixels, space.model)
    return pillow_io.save_image(
        picture, format="TIFF", compression="tiff_adobe_deflate", tiffinfo=tags, **options
    )


def _deep(pixels: Samples, space: Space, metadata: Metadata) -> bytes:
    """Write 16 bits with tifffile, which supports all samples."""
    buffer = io.BytesIO()
    alpha = pixels.shape[2] > space.channels
    extra: list[tuple[Any, ...]] = [(_ORIENTATION, 3, 1, 1, True)]
    if metadata.xmp:
        extra.append((_XMP, 1, len(metadata.xmp), metadata.xmp, True))
    tifffile.imwrite(
        buffer,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        photometric={"grey": "minisblack", "rgb": "rgb", "cmyk": "separated"}[space.model],
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        extrasamples=["unassalpha"] if alpha else None,
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
    return buffer.getvalue()


WRITER = Writer(write=_write, is_lossless=True, holds_cmyk=True)
