"""Write an edited photo in its source's format, with its source's metadata.

JPEG keeps the coefficients of every block that the mask does not touch (see
:mod:`stages.codecs.jpeg_splice`); where that cannot be done it is coded again with its own
quantisation tables, subsampling and kind, and the lineage says so. PNG and lossless WebP keep every
sample; lossy WebP is coded at ``output.webp_quality``.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from manifests.errors import RowError
from stages.codecs.jpeg_header import read_header
from stages.codecs.jpeg_splice import VerificationError, splice, with_segments_of
from stages.codecs.png_chunks import with_chunks_of
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


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file, and what was kept of the source.

    Attributes:
        data: the file.
        fidelity: ``lossless``: all samples outside the mask; ``coefficients``: those of all JPEG
            blocks that the mask does not touch; ``reencoded``: neither.
        note: why, if ``reencoded``; what else became of it; else empty.
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

    Raises:
        RowError: ``image.corrupt``, for a JPEG whose damage only shows in its coefficients.
    """
    picture = Image.fromarray(np.squeeze(pixels, axis=2) if pixels.shape[2] == 1 else pixels)
    edited = _as_stored(picture, orientation)
    with Image.open(io.BytesIO(source)) as original:
        if isinstance(original, JpegImagePlugin.JpegImageFile):
            mask = np.asarray(_as_stored(Image.fromarray(changed), orientation))
            return _encode_jpeg(original, source, edited, mask)
        if isinstance(original, PngImagePlugin.PngImageFile):
            return _encode_png(original, source, edited)
        return _encode_webp(original, source, edited, options)


def _encode_jpeg(
    original: JpegImagePlugin.JpegImageFile, source: bytes, edited: Image.Image, mask: Bits
) -> Encoded:
    stored = np.asarray(edited)
    try:
        return Encoded(splice(source, stored.reshape(*stored.shape[:2], -1), mask), "coefficients")
    except DamagedError as error:
        raise RowError("image.corrupt", f"The image's data are damaged: {error}.") from None
    except (RefusedError, VerificationError) as error:
        note = str(error)
    subsampling = JpegImagePlugin.get_sampling(original)
    coded = _saved(
        edited,
        format="JPEG",
        qtables=original.quantization,
        subsampling=subsampling if subsampling >= 0 else "4:4:4",
        progressive=bool(original.info.get("progressive")),
    )
    with suppress(RefusedError):
        coded = with_segments_of(source, read_header(source), coded)
    return Encoded(coded, "reencoded", note)


def _encode_png(
    original: PngImagePlugin.PngImageFile, source: bytes, edited: Image.Image
) -> Encoded:
    same_mode = original.mode == edited.mode
    note = "" if same_mode else f"{original.mode} widened to {edited.mode}"
    coded = with_chunks_of(source, _saved(edited, format="PNG"), same_mode=same_mode)
    return Encoded(coded, "lossless", note)


def _encode_webp(
    original: Image.Image, source: bytes, edited: Image.Image, options: OutputOptions
) -> Encoded:
    lossless = b"VP8L" in (source[12:16], _first_chunk_after_header(source))
    coded = _saved(
        edited,
        format="WEBP",
        lossless=lossless,
        exact=True,  # keep the colour under transparent pixels
        quality=100 if lossless else options.webp_quality,
        **{key: original.info.get(key) or b"" for key in ("icc_profile", "exif", "xmp")},
    )
    return Encoded(coded, "lossless") if lossless else Encoded(coded, "reencoded", "lossy WebP")


def _saved(picture: Image.Image, **how: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **how)
    return buffer.getvalue()


def _as_stored(displayed: Image.Image, orientation: int) -> Image.Image:
    turn = _TO_STORED.get(orientation)
    return displayed.transpose(turn) if turn is not None else displayed


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
