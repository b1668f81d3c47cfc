"""Write an edited photo in its source's format, with its source's metadata.

JPEG keeps the coefficients of every block that the mask does not touch (see
:mod:`stages.codecs.jpeg_splice`); where that cannot be done it is coded again with its own
quantisation tables, subsampling and kind, and the lineage says so. PNG and lossless WebP keep every
sample; lossy WebP is coded at ``output.webp_quality``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin

from stages.codecs.decode import SUFFIXES
from stages.codecs.jpeg_splice import splice
from stages.codecs.turbojpeg import DamagedError, RefusedError
from stages.masks import Bits, Bytes
from stages.recipe import OutputOptions

#: EXIF orientation -> the transposition that turns the displayed frame back into the stored one.
_TO_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def suffix_of(source: bytes) -> str:
    """File suffix, without the dot, of the format in which a source is written back."""
    with Image.open(io.BytesIO(source)) as picture:
        return SUFFIXES[picture.format or ""]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file, and what was kept of the source.

    Attributes:
        data: the file.
        fidelity: ``lossless``: all samples outside the mask; ``coefficients``: those of all JPEG
            blocks that the mask does not touch; ``reencoded``: neither.
        note: why not, if ``reencoded``; else empty.
    """

    data: bytes
    fidelity: Literal["lossless", "coefficients", "reencoded"]
    note: str = ""


def encode_like(
    source: bytes, pixels: Bytes, changed: Bits, orientation: int, options: OutputOptions
) -> Encoded:
    """Encode edited pixels as the source was encoded.

    Args:
        source: the original file, for its format and metadata.
        pixels: ``(h, w, c)`` uint8 in the displayed frame, c as :class:`Decoded` has it.
        changed: ``(h, w)`` bool in the displayed frame, True wherever ``pixels`` were edited.
        orientation: EXIF orientation of the source, 1 to 8; the stored frame is written and the
            tag kept.
        options: quality where the format needs one.
    """
    picture = Image.fromarray(np.squeeze(pixels, axis=2) if pixels.shape[2] == 1 else pixels)
    edited = _as_stored(picture, orientation)
    with Image.open(io.BytesIO(source)) as original:
        how = _save_options(original, source, options)
    note = ""
    if how["format"] == "JPEG":
        stored = np.asarray(edited)
        mask = np.asarray(_as_stored(Image.fromarray(changed), orientation))
        try:
            spliced = splice(source, stored.reshape(*stored.shape[:2], -1), mask)
        except (DamagedError, RefusedError) as error:
            note = str(error)
        else:
            return Encoded(spliced, "coefficients")
    buffer = io.BytesIO()
    edited.save(buffer, **how)
    lossless = how["format"] == "PNG" or how.get("lossless")
    if not lossless and not note:
        note = "lossy WebP"
    return Encoded(buffer.getvalue(), "lossless" if lossless else "reencoded", note)


def _as_stored(displayed: Image.Image, orientation: int) -> Image.Image:
    turn = _TO_STORED.get(orientation)
    return displayed.transpose(turn) if turn is not None else displayed


def _save_options(
    original: ImageFile.ImageFile, source: bytes, options: OutputOptions
) -> dict[str, Any]:
    info = original.info
    how: dict[str, Any] = {
        key: info[key] for key in ("icc_profile", "exif", "dpi", "xmp") if info.get(key)
    }
    if isinstance(original, JpegImagePlugin.JpegImageFile):
        subsampling = JpegImagePlugin.get_sampling(original)
        return how | {
            "format": "JPEG",
            "qtables": original.quantization,
            "subsampling": subsampling if subsampling >= 0 else "4:4:4",
            "progressive": bool(info.get("progressive")),
            "optimize": True,
            "comment": info.get("comment", b""),
        }
    if isinstance(original, PngImagePlugin.PngImageFile):
        return how | {"format": "PNG", "pnginfo": _text_chunks(original)} | _colour_key(original)
    lossless = b"VP8L" in (source[12:16], _first_chunk_after_header(source))
    return how | {
        "format": "WEBP",
        "lossless": lossless,
        "exact": True,  # keep the colour under transparent pixels
        "quality": 100 if lossless else options.webp_quality,
    }


def _text_chunks(original: PngImagePlugin.PngImageFile) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, text in original.text.items():
        if isinstance(text, PngImagePlugin.iTXt):
            chunks.add_itxt(key, text, text.lang or "", text.tkey or "")
        else:
            chunks.add_text(key, text)
    return chunks


def _colour_key(original: PngImagePlugin.PngImageFile) -> dict[str, Any]:
    """The transparent colour of a PNG that has one; palettes were widened to alpha already."""
    key = original.info.get("transparency")
    return {"transparency": key} if key is not None and original.mode in ("L", "RGB") else {}


def _first_chunk_after_header(source: bytes) -> bytes:
    """The image chunk's name in an extended WebP, which starts with VP8X and optional chunks."""
    position = 12
    while position + 8 <= len(source):
        name = source[position : position + 4]
        if name in (b"VP8 ", b"VP8L"):
            return name
        size = int.from_bytes(source[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return b""
