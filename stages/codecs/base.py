"""What a format is: how its files are recognised, read, edited, and made from other files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from stages.codecs.picture import Decoded, Edit, Encoded
from stages.pixels.samples import Samples, Space

Format = Literal["jpeg", "png", "webp", "tiff", "avif", "heic"]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file holds beside its picture, for a file of another format.

    Attributes:
        exif: a bare block, or one with JPEG's prefix; empty: none that can be read.
        xmp: the packet; empty: none.
        dpi: resolution across and down, if stated in units of length.
        others: names of what has no place in another format, and ``EXIF`` if there is any.
        further_pictures: pages or frames beyond the one that is edited.
        notes: what else is left behind.
    """

    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    others: frozenset[str] = frozenset()
    further_pictures: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """How files of a format are made from pictures of other formats.

    Attributes:
        write: from samples in the displayed frame, metadata, and a quality of 1 to 100, a file;
            and notes on what of the metadata it does not hold.
        is_lossless: whether all samples are kept, also those of 16 bits.
        holds_cmyk: else such colours become sRGB.
        holds_alpha: else the picture is laid on white.
        max_block: bytes of EXIF or XMP; 0: no limit.
    """

    write: Callable[[Samples, Space, Metadata, int], tuple[bytes, list[str]]]
    is_lossless: bool = False
    holds_cmyk: bool = False
    holds_alpha: bool = True
    max_block: int = 0


def _nothing(_: bytes) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How a format is read and written.

    Attributes:
        suffix: of its files, without the dot.
        recognises: whether a file is of this format, by its first bytes.
        size: width and height in the stored frame, px, without decoding pixels.
        decode: all of it. Raises UnsupportedError for kinds that cannot be edited without loss.
        encode: writes an edit into it. Raises UnsupportedError, too.
        metadata: what of it other formats can hold, and what they cannot.
        writer: makes such files from others; None: they are only edited.
        walk: over all parts of a file; raises UnsupportedError for endless ones, which is asked
            for before any library walks over them.
        claimed_size: of the picture, px, if its reader allocates that before it returns a size.
        check_samples: raises RowError ``image.corrupt`` for damage that ``decode`` passes over.
        diagnose: raises UnsupportedError or DamagedError for a file that its reader does not
            recognise, if more is known of it than that.
        is_cut: whether a damaged file is shorter than it says; None: the reader reports that.
    """

    suffix: str
    recognises: Callable[[bytes], bool]
    size: Callable[[bytes], tuple[int, int]]
    decode: Callable[[bytes], Decoded]
    encode: Callable[[Edit], Encoded]
    metadata: Callable[[bytes], Metadata]
    writer: Writer | None = None
    walk: Callable[[bytes], Iterable[object]] = field(default=lambda _: ())
    claimed_size: Callable[[bytes], tuple[int, int] | None] = field(default=_nothing)
    check_samples: Callable[[bytes], None] = field(default=_nothing)
    diagnose: Callable[[bytes], object] = field(default=_nothing)
    is_cut: Callable[[bytes], bool] | None = None
