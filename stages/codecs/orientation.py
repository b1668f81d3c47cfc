"""The orientation in which photos and masks are displayed: that of browsers.

Files may state an orientation in several places, and readers differ in which they follow. A mask
is drawn on a browser's display of the photo, and results are viewed there, so photo and mask are
aligned in that frame. These places count, as measured with Chromium
(``tests/browser/test_orientation.py`` compares this module with it):

========== ==================================================================================
JPEG, MPO  the first APP1 segment with EXIF before the first scan
PNG        the first eXIf chunk, if it is before the image data
AVIF       the properties irot and imir (of HEIC, too, which browsers do not show: libheif
           applies them)
TIFF       the page's own tag 274 (not shown by browsers)
WebP       nothing
GIF, BMP   nothing
========== ==================================================================================

In EXIF, tag 274 of the first directory counts if it is a single SHORT of 1 to 8. XMP's
``tiff:Orientation``, EXIF in a PNG's text chunks or after its image data, EXIF in a WebP, and a
second EXIF segment have no effect; :func:`ignored` lists them for the lineage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from stages.codecs.errors import DamagedError
from stages.codecs.jpeg.markers import APP1, SOS, segments
from stages.codecs.png.chunks import chunks, raw_profile, xmp_of
from stages.codecs.tiff.file import SHORT, Entry, TiffFile
from stages.codecs.webp.riff import riff_chunks

_ORIENTATION = 274
_NAME, _XMP_NAME = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"

#: As an attribute or an element; one digit needs no XML parser on untrusted input.
_IN_XMP = re.compile(rb"""\btiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])\b""")


def displayed(data: bytes) -> int:
    """The orientation, as EXIF numbers it (1 to 8), in which a JPEG, PNG or WebP is displayed.

    1 for other formats, whose readers handle it.
    """
    return next((value for value, _, counts in _sources(data) if counts), 1)


def ignored(data: bytes, orientation: int) -> list[str]:
    """Return a note for each place in a JPEG, PNG or WebP that states another orientation.

    Args:
        data: the file.
        orientation: the displayed one, 1 to 8.
    """
    others = {(value, where) for value, where, counts in _sources(data) if value != orientation}
    return [
        f"orientation {value} in {where} ignored, as browsers do: displayed as {orientation}"
        for value, where in sorted(others)
    ]


def in_exif(block: bytes) -> int | None:
    """The orientation in a bare EXIF block; None if it states no valid one."""
    file = TiffFile.of_exif(block)
    entry = _entry(file) if file else None
    return file.integer(entry) if file and entry else None


def upright_exif(block: bytes) -> bytes:
    """Set the orientation in an EXIF block, with or without JPEG's prefix, to 1."""
    start = 6 if block.startswith(_NAME) else 0
    file = TiffFile.of_exif(block[start:])
    entry = _entry(file) if file else None
    if file is None or entry is None:
        return block
    file.set_integer(entry, 0, 1)
    return block[:start] + bytes(file.data)


def upright_xmp(packet: bytes) -> bytes:
    """Set the orientation in an XMP packet to 1, if it has one."""
    return _IN_XMP.sub(lambda match: match[0][:-1] + b"1", packet)


def _entry(file: TiffFile) -> Entry | None:
    """Tag 274 of the first directory, if its value is valid.

    Truncated directories are read as far as possible.
    """
    wanted = (_ORIENTATION, SHORT, 1)
    for entry in file.iter_entries(file.first):
        if (entry.tag, entry.kind, entry.count) == wanted:
            return entry if 1 <= file.integer(entry) <= 8 else None
    return None


def _sources(data: bytes) -> Iterator[tuple[int, str, bool]]:
    """Each orientation that a file states: its value, where it is, and whether it counts."""
    if data[:2] == b"\xff\xd8":
        found = _in_jpeg(data)
    elif data[:4] == b"\x89PNG":
        found = _in_png(data)
    elif data[:4] == b"RIFF":
        found = _in_webp(data)
    else:
        return
    for value, where, counts in found:
        if value is not None:
            yield value, where, counts


def _in_jpeg(data: bytes) -> Iterator[tuple[int | None, str, bool]]:
    is_first = True
    with suppress(DamagedError):
        for marker, _, content in segments(data):
            if marker == SOS:
                return
            if marker != APP1:
                continue
            if content.startswith(_NAME):
                where = "EXIF" if is_first else "more EXIF"
                yield in_exif(content[len(_NAME) + 1 :]), where, is_first
                is_first = False
            elif content.startswith(_XMP_NAME):
                yield in_xmp(content), "XMP", False


def _in_png(data: bytes) -> Iterator[tuple[int | None, str, bool]]:
    is_first, is_before = True, True
    for name, content in chunks(data):
        is_before &= name != b"IDAT"
        if name == b"eXIf":
            where = "" if is_before else " behind the image data"
            yield in_exif(content), f"EXIF{where}", is_first and is_before
            is_first = False
        elif (packet := xmp_of(content)) and name == b"iTXt":
            yield in_xmp(packet), "XMP", False
        elif (raw := raw_profile(name, content)) and raw.kind in ("exif", "APP1"):
            yield in_exif(raw.content.removeprefix(_NAME + b"\0")), "a raw profile", False


def _in_webp(data: bytes) -> Iterator[tuple[int | None, str, bool]]:
    for name, content in riff_chunks(data):
        if name == b"EXIF":
            yield in_exif(content.removeprefix(_NAME + b"\0")), "a WebP's EXIF", False
        elif name == b"XMP ":
            yield in_xmp(content), "XMP", False


def in_xmp(packet: bytes) -> int | None:
    """The orientation that an XMP packet states; None if it has none."""
    found = _IN_XMP.search(packet)
    return int(found[1]) if found else None
