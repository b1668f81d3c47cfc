"""TIFF, 8 or 16 bits, grey, RGB or CMYK: only the strips or tiles that the mask touches change.

They are decoded, edited, and compressed with the same method; all other bytes stay at their place,
such as tags and further pages. The edited page is the first that is not a smaller copy of
another. All other data that show the old picture are dropped or refused, as
``metadata.stale_preview`` says: smaller copies (thumbnails, pyramids), all pages below the edited
one (sub-IFDs), Photoshop's and SketchBook's layers, which their editors open instead of the page,
and other tags with a picture. A file that still has a picture outside of its pages is refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
from PIL.ExifTags import Base
from tifffile import RESUNIT, TIFF, TiffFile, TiffPage

from stages.arrays import BoolMask, Samples
from stages.codecs.base import Codec, Metadata
from stages.codecs.errors import DamagedError, UnsupportedError, library_errors
from stages.codecs.jpeg.markers import EXIF
from stages.codecs.picture import Decoded, Edit, Encoded, to_displayed
from stages.codecs.stale.exif import drop_pictures
from stages.codecs.stale.photoshop import refresh_resources
from stages.codecs.stale.pictures import contains_picture
from stages.codecs.stale.policy import C2PA_MANIFEST, StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp
from stages.codecs.tiff.file import BYTE, HEADER, UNDEFINED, TiffEditor
from stages.codecs.tiff.writer import WRITER, descriptive_tags
from stages.pixels.samples import ColourModel, ColourSpace

_DNG_VERSION = 50706
_OFFSETS, _SIZES = (324, 273), (325, 279)  # of tiles, of strips

#: By photometric interpretation. 6, YCbCr, is supported in JPEG compression, and decoded to RGB.
_MODELS: dict[int, ColourModel] = {1: "grey", 2: "rgb", 5: "cmyk", 6: "rgb"}
_YCBCR, _JPEG = 6, 7
_ALPHA_PREMULTIPLIED, _ALPHA = 1, 2

#: Lossless compressions that tifffile can write: none, LZW, deflate (two numbers), PackBits, LZMA,
#: Zstandard.
_PACKBITS = 32773
_WRITABLE = (1, 5, 8, 32946, _PACKBITS, 34925, 50000)
_PREDICTORS = (1, 2)

#: Values that tifffile returns without validation: text or tuples in damaged files.
_NUMBERS = ("imagewidth", "imagelength", "imagedepth", "samplesperpixel", "tilewidth", "tilelength")

_C2PA = 52545

#: Layers that editors open instead of the page: Photoshop's (ImageSourceData), and SketchBook's
#: names of those in sub-IFDs.
_LAYERS = (37724, 50784)

#: Tags that are handled separately, or cannot contain a picture.
_KNOWN = (Base.XMLPacket, Base.ImageResources, Base.ExifOffset, Base.InterColorProfile, _C2PA)

#: Limits that no photo reaches.
_MAX_SAMPLES, _MAX_TILE, _MAX_PAGES = 16, 1 << 26, 1000


def size(data: bytes) -> tuple[int, int]:
    """Width and height in the stored frame, px."""
    with _reading(data) as reader:
        page = main_page(reader)
        return int(page.imagewidth), int(page.imagelength)


def decode(data: bytes) -> Decoded:
    """Decode the page that is edited; samples besides colours and alpha are left out.

    Raises:
        UnsupportedError: its samples are of an unsupported kind.
        DamagedError: the page, or the list of pages, is damaged.
    """
    with _reading(data) as reader:
        page = main_page(reader)
        _check_ends(reader, page, len(data))  # damage must be detected before anything is filled
        model, alpha = _kind(page)
        space = ColourSpace(model, _icc(page), premultiplied=alpha == _ALPHA_PREMULTIPLIED)
        orientation = _orientation(page)
        stored = _samples(page, data)
    return Decoded(to_displayed(stored, orientation), orientation, space)


def encode(edit: Edit) -> Encoded:
    """Write the edited strips or tiles into the file.

    Raises:
        RowError: ``image.stale_preview``.
        UnsupportedError: its compression is lossy, or cannot be written.
    """
    file, policy = TiffEditor(edit.source), StaleDataPolicy(edit)
    with TiffFile(io.BytesIO(edit.source)) as reader:
        page = main_page(reader)
        _check_writable(page)
        pages = [each for top in _pages(reader) for each in (top, *_below(top))]
        ranges = sorted(place for each in pages for place in _segments(each) if place[1])
        if any(start + size > following for (start, size), (following, _) in pairwise(ranges)):
            raise UnsupportedError("its strips overlap in the file")
        _write_samples(file, page, edit.pixels, edit.changed)
        _drop_copies(file, reader, page, policy)
        kept = sum(not other.is_reduced for other in _pages(reader)) - 1
        update_tags(file, page.offset, policy)
    result = bytes(file.data)
    if contains_picture(_without(result[: len(edit.source)], ranges)):
        raise UnsupportedError("it holds a picture outside its pages, or in tags of a further one")
    with _reading(result) as reader:
        if not np.array_equal(_samples(main_page(reader), result), edit.pixels):
            raise UnsupportedError("its strips overlap in the file")
    note = f"{kept} further page{'s' * (kept > 1)} kept as they were" if kept else ""
    return Encoded(result, "lossless", note, policy.notes)


def _without(data: bytes, ranges: Iterable[tuple[int, int]]) -> bytes:
    """A file's bytes without those ranges, which are sorted: position and length."""
    parts, position = list[bytes](), 0
    for start, size in ranges:
        parts.append(data[position:start])
        position = max(position, start + size)
    return b"".join([*parts, data[position:]])


@contextmanager
def _reading(data: bytes) -> Iterator[TiffFile]:
    """Open a file; exceptions of tifffile and its codecs become DamagedError."""
    try:
        with library_errors(), TiffFile(io.BytesIO(data)) as reader:
            yield reader
    except ImportError as error:
        raise UnsupportedError(f"its compression requires a missing package: {error}") from None


def _pages(reader: TiffFile) -> Iterator[TiffPage]:
    """Yield all pages; raises UnsupportedError if there are too many."""
    for number, page in enumerate(reader.pages):
        if number == _MAX_PAGES:
            raise UnsupportedError(f"it has more than {_MAX_PAGES} pages")
        yield page.aspage()


def main_page(reader: TiffFile) -> TiffPage:
    """The page that is edited; raises UnsupportedError if there is none."""
    if reader.is_bigtiff:
        raise UnsupportedError("it is a BigTIFF")
    for page in _pages(reader):
        if _DNG_VERSION in page.tags:
            raise UnsupportedError("it is a camera's raw file")
        if not page.is_reduced:
            for name in _NUMBERS:
                if not isinstance(getattr(page, name), int):
                    raise DamagedError(f"its {name} is not a whole number")
            return page
    raise UnsupportedError("it holds nothing but a smaller copy of its picture")


def _kind(page: TiffPage) -> tuple[ColourModel, int]:
    """The page's colour model, and the kind of its alpha; 0: it has none."""
    model = _MODELS.get(page.photometric)
    is_odd = page.photometric == _YCBCR and page.compression != _JPEG
    if model is None or is_odd or page.samplesperpixel < ColourSpace(model).channels:
        raise UnsupportedError(f"its photometric interpretation is {page.photometric!r}")
    if page.dtype not in (np.uint8, np.uint16) or page.bitspersample != 8 * page.dtype.itemsize:
        raise UnsupportedError(f"its samples are {page.dtype}, {page.bitspersample} bit")
    if page.imagedepth > 1:
        raise UnsupportedError("it is a volume")
    tile = page.tilewidth * page.tilelength if page.is_tiled else 1
    if page.samplesperpixel > _MAX_SAMPLES or tile > _MAX_TILE:
        raise UnsupportedError(f"it has {page.samplesperpixel} samples a pixel, {tile} px a tile")
    extra = page.extrasamples[0] if page.extrasamples else 0
    return model, int(extra) if extra in (_ALPHA_PREMULTIPLIED, _ALPHA) else 0


def _count(page: TiffPage) -> int:
    """Number of samples of a pixel that are decoded: colours and alpha."""
    model, alpha = _kind(page)
    return ColourSpace(model).channels + bool(alpha)


def _check_writable(page: TiffPage) -> None:
    """Raises UnsupportedError if a page's strips or tiles cannot be written."""
    if page.compression not in _WRITABLE:
        raise UnsupportedError(f"its compression, {page.compression!r}, is lossy or rare")
    if page.predictor not in _PREDICTORS or page.fillorder != 1:
        raise UnsupportedError("its samples are packed in a rare way")
    lists = [page.tags[tag] for tag in (*_OFFSETS, *_SIZES) if tag in page.tags]
    is_listed = all(tag.count >= len(page.dataoffsets) and tag.dtype in (3, 4, 16) for tag in lists)
    if not is_listed or len(lists) != 2:
        raise UnsupportedError("its strips are not all listed")


def _check_ends(reader: TiffFile, main: TiffPage, size: int) -> None:
    """Raises DamagedError if the file ends before a strip of a further page or a smaller copy."""
    for page in [*_pages(reader), *_below(main)]:
        if max((start + length for start, length in _segments(page)), default=0) > size:
            raise DamagedError("truncated: the file ends before the strips of its further pages")


def _segments(page: TiffPage) -> list[tuple[int, int]]:
    """Position and length of each strip or tile; raises DamagedError if their lists differ."""
    if len(page.dataoffsets) != len(page.databytecounts):
        raise DamagedError("its strips are not all listed")
    return list(zip(page.dataoffsets, page.databytecounts, strict=True))


def _strips(page: TiffPage, data: bytes) -> Iterator[tuple[int, Samples, tuple[slice, ...]]]:
    """Yield each strip's or tile's index, its ``(rows, columns, samples)``, and place in the page.

    Raises:
        DamagedError: strips are cut off or damaged.
    """
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    for index, (offset, size) in enumerate(_segments(page)):
        if offset + size > len(data):
            raise DamagedError("truncated: the file ends before its last strip")
        strip, (first, _, y, x, _), (_, rows, columns, count) = page.decode(
            data[offset : offset + size] or None, index, **tables
        )
        if strip is None:  # sparse: the file omits it
            strip = np.zeros((1, rows, columns, count), page.dtype)
        yield index, strip[0], np.s_[y : y + rows, x : x + columns, first : first + count]


def _samples(page: TiffPage, data: bytes) -> Samples:
    """The page's colours and alpha, ``(h, w, c)``; other samples are left out.

    Raises:
        DamagedError: strips are cut off or damaged.
    """
    stored = np.zeros((page.imagelength, page.imagewidth, page.samplesperpixel), page.dtype)
    missing = stored.size
    for _, strip, place in _strips(page, data):
        part = stored[place]
        piece = strip[: part.shape[0], : part.shape[1]]
        if piece.shape != part.shape:
            raise DamagedError("a strip has another shape than it should")
        part[:] = piece
        missing -= part.size
    if missing:
        raise DamagedError("its strips do not cover the page")
    return stored[..., : _count(page)]


def _below(page: TiffPage) -> Iterator[TiffPage]:
    """Yield the pages in a page's sub-IFDs; raises UnsupportedError if these have some, too."""
    for each in page.pages or []:
        below = each.aspage()
        if below.pages:
            raise UnsupportedError("its pages are nested")
        yield below


def _write_samples(file: TiffEditor, page: TiffPage, pixels: Samples, changed: BoolMask) -> None:
    """Write ``(h, w, c)`` into the strips or tiles that ``changed`` touches, c samples a pixel."""
    for index, strip, place in _strips(page, bytes(file.data)):
        touched, mine = changed[place[:2]], pixels[place]
        if touched.any() and mine.shape[2]:
            new = strip.copy()
            part = new[: touched.shape[0], : touched.shape[1], : mine.shape[2]]
            part[touched] = mine[touched]
            _replace_segment(file, page, index, _compressed(page, new))


def _compressed(page: TiffPage, segment: Samples) -> bytes:
    """``(rows, columns, samples)`` as the bytes of a strip or tile."""
    if page.predictor != 1:
        segment = TIFF.PREDICTORS[page.predictor](segment, axis=-2)
    raw = segment.astype(segment.dtype.newbyteorder(page.parent.byteorder)).view(np.uint8)
    if page.compression == 1:
        return raw.tobytes()
    # Runs of PackBits end with their row (TIFF 6.0, section 9).
    options = {"axis": -2} if page.compression == _PACKBITS else {}
    return bytes(TIFF.COMPRESSORS[page.compression](raw, **options))


def _replace_segment(file: TiffEditor, page: TiffPage, index: int, content: bytes) -> None:
    """Write a strip or tile over the old one, or at the end; the old one is zeroed."""
    entries = file.entries(page.offset)
    offsets = next(entries[tag] for tag in _OFFSETS if tag in entries)
    sizes = next(entries[tag] for tag in _SIZES if tag in entries)
    offset, size = page.dataoffsets[index], page.databytecounts[index]
    file.wipe(offset, size)
    if len(content) <= size:
        file.data[offset : offset + len(content)] = content
    else:
        file.set_integer(offsets, index, file.append(content))
    if len(content) != size:
        file.set_integer(sizes, index, len(content))


def _drop_copies(
    file: TiffEditor, reader: TiffFile, main: TiffPage, policy: StaleDataPolicy
) -> None:
    """Drop smaller copies in the chain of pages, and all pages below the main one."""
    copies = [page for page in _pages(reader) if page.is_reduced]
    below = [*_below(main), *(each for page in copies for each in _below(page))]
    if copies or below:
        policy.note_dropped("smaller copies")
    for page in [*copies, *below]:
        for offset, size in _segments(page):
            file.wipe(offset, size)
    for page in copies:
        file.unlink(page.offset)
    file.drop(main.offset, Base.SubIFDs)


def update_tags(file: TiffEditor, directory: int, policy: StaleDataPolicy) -> None:
    """Update the tags of a page, and of its EXIF, in the file.

    Args:
        file: the file, changed in place.
        directory: the page's position.
        policy: the policy for the file.

    Raises:
        RowError: ``image.stale_preview``.
    """
    for tags, what in ((_LAYERS, "layers"), ((_C2PA,), C2PA_MANIFEST)):
        for tag in tags:
            if tag in file.entries(directory):
                policy.note_dropped(what)
                file.drop(directory, tag)
    for place in [directory, *file.below(directory, Base.ExifOffset)]:
        drop_pictures(file, place, policy, skipped=_KNOWN)
    for tag, kind, refresh in (
        (Base.XMLPacket, BYTE, refresh_xmp),
        (Base.ImageResources, UNDEFINED, refresh_resources),
    ):
        entry = file.entries(directory).get(tag)
        old = file.content(entry) if entry else b""
        new = refresh(old, policy)
        if new != old:
            directory = file.set_content(directory, tag, kind, new)


def _orientation(page: TiffPage) -> int:
    value = page.tags.valueof(Base.Orientation, 1)
    return int(value) if value in range(1, 9) else 1


def _icc(page: TiffPage) -> bytes:
    value = page.tags.valueof(Base.InterColorProfile)
    return bytes(value) if isinstance(value, bytes) else b""


def _metadata(data: bytes) -> Metadata:
    """Read the metadata of the edited page."""
    with TiffFile(io.BytesIO(data)) as reader:
        page = main_page(reader)
        file = TiffEditor(data)
        packet = file.entries(page.offset).get(Base.XMLPacket)
        has_unit = page.tags.valueof(Base.ResolutionUnit, 2) in (2, 3)  # inches, centimetres
        is_stated = Base.XResolution in page.tags and has_unit
        found = Metadata(
            xmp=file.content(packet) if packet else b"",
            dpi=page.get_resolution(RESUNIT.INCH) if is_stated else None,
            further_pictures=sum(not each.aspage().is_reduced for each in reader.pages) - 1,
            further_samples=page.samplesperpixel - _count(page),
        )
    # Point the header to this page, so that Pillow reads its tags.
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    block = data[:4] + page.offset.to_bytes(4, order) + data[8:]
    exif = descriptive_tags(block).tobytes()
    return replace(found, exif=exif if any(exif[len(EXIF.name) + HEADER :]) else b"")


CODEC = Codec(
    suffix="tif",
    recognises=lambda data: data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # +: BigTIFF
    size=size,
    decode=decode,
    encode=encode,
    metadata=_metadata,
    writer=WRITER,
)
