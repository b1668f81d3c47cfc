"""The interface of a codec: how files of one format are recognised, read, edited and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from stages.arrays import Samples
from stages.codecs.picture import Decoded, Edit, Encoded
from stages.pixels.samples import ColourSpace

Format = Literal["jpeg", "png", "webp", "tiff", "avif", "heic"]


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of a file that a file of another format can hold.

    Attributes:
        exif: the EXIF block, with or without JPEG's prefix; empty if there is none.
        xmp: the XMP packet; empty if there is none.
        dpi: horizontal and vertical resolution, if the file states it in units of length.
        further_pictures: number of pages or frames besides the edited one.
        further_samples: number of samples of a pixel besides colours and alpha.
        colour_tags: those that state colours other than sRGB, if the file has no ICC profile;
            empty: there are none. No other format can hold them.
    """

    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    further_pictures: int = 0
    further_samples: int = 0
    colour_tags: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes pictures of other formats as files of this format.

    Attributes:
        write: takes samples in the displayed frame, their colour space, metadata and a quality of 1
            to 100; returns the file, and notes on metadata that it could not write.
        is_lossless: whether all samples are kept, including 16-bit ones.
        holds_cmyk: whether the format supports CMYK; if not, colours are converted to sRGB.
        holds_grey: whether it supports ICC profiles of grey; if not, tones are converted to sRGB.
        holds_alpha: whether it supports alpha; if not, the picture is composited on white.
        max_metadata_bytes: maximum size of an EXIF or XMP block, bytes; 0: no limit.
    """

    write: Callable[[Samples, ColourSpace, Metadata, int], tuple[bytes, list[str]]]
    is_lossless: bool = False
    holds_cmyk: bool = False
    holds_grey: bool = True
    holds_alpha: bool = True
    max_metadata_bytes: int = 0


def _nothing(_: bytes) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """Reads and writes one format.

    Attributes:
        suffix: file name suffix, without the dot.
        recognises: checks by a file's first bytes whether it has this format.
        size: returns width and height in the stored frame, px, without decoding pixels.
        decode: decodes a file. Raises UnsupportedError if it cannot be edited without loss.
        encode: writes an edit into the source file. Raises UnsupportedError or DamagedError.
        metadata: reads the metadata that other formats can hold.
        writer: writes pictures of other formats in this format; None if that is not supported.
        walk: iterates over all parts of a file. Raises UnsupportedError if there are too many; it
            runs before any library parses the file.
        declared_size: returns the size that the header declares, px, for formats whose library
            allocates memory for it before it reports a size.
        check_samples: raises DamagedError for damage that ``decode`` ignores.
        diagnose: raises UnsupportedError or DamagedError with the reason why a library did not
            recognise a file, if there is a better one.
        is_truncated: checks whether a damaged file is truncated; None if the library reports that.
    """

    suffix: str
    recognises: Callable[[bytes], bool]
    size: Callable[[bytes], tuple[int, int]]
    decode: Callable[[bytes], Decoded]
    encode: Callable[[Edit], Encoded]
    metadata: Callable[[bytes], Metadata]
    writer: Writer | None = None
    walk: Callable[[bytes], Iterable[object]] = field(default=lambda _: ())
    declared_size: Callable[[bytes], tuple[int, int] | None] = field(default=_nothing)
    check_samples: Callable[[bytes], None] = field(default=_nothing)
    diagnose: Callable[[bytes], object] = field(default=_nothing)
    is_truncated: Callable[[bytes], bool] | None = None
