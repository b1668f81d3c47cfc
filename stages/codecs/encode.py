"""Write an edited photo in its source's format, with its source's metadata.

JPEG keeps the source's own quantisation tables, subsampling and kind (baseline or progressive);
PNG and lossless WebP keep every sample; lossy WebP is coded at ``output.webp_quality``.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin

from stages.codecs.decode import SUFFIXES
from stages.masks import Bytes
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


def encode_like(source: bytes, pixels: Bytes, orientation: int, options: OutputOptions) -> bytes:
    """Encode edited pixels as the source was encoded.

    Args:
        source: the original file, for its format and metadata.
        pixels: ``(h, w, c)`` uint8 in the displayed frame, c as :class:`Decoded` has it.
        orientation: EXIF orientation of the source, 1 to 8; the stored frame is written and the
            tag kept.
        options: quality where the format needs one.
    """
    picture = Image.fromarray(np.squeeze(pixels, axis=2) if pixels.shape[2] == 1 else pixels)
    if orientation in _TO_STORED:
        picture = picture.transpose(_TO_STORED[orientation])
    with Image.open(io.BytesIO(source)) as original:
        how = _save_options(original, source, options)
    buffer = io.BytesIO()
    picture.save(buffer, **how)
    return buffer.getvalue()


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
