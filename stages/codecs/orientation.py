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
second EXIF segment have no effect.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import takewhile

from stages.codecs.errors import DamagedError
from stages.codecs.jpeg.markers import APP1, SOS, segments
from stages.codecs.png.chunks import chunks
from stages.codecs.tiff.file import SHORT, Entry, TiffEditor

_ORIENTATION = 274
_NAME = b"Exif\0"

#: As an attribute or an element; one digit needs no XML parser on untrusted input.
_IN_XMP = re.compile(rb"""\btiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])\b""")


def display_orientation(data: bytes) -> int:
    """The orientation, as EXIF numbers it (1 to 8), in which a JPEG, PNG or WebP is displayed.

    1 for other formats, whose readers handle it.
    """
    block = b""
    if data[:2] == b"\xff\xd8":
        block = _exif_in_jpeg(data)
    elif data[:4] == b"\x89PNG":
        before = takewhile(lambda chunk: chunk[0] != b"IDAT", chunks(data))
        block = next((content for name, content in before if name == b"eXIf"), b"")
    return exif_orientation(block) or 1


def _exif_in_jpeg(data: bytes) -> bytes:
    """The first EXIF block before the first scan; empty if there is none."""
    with suppress(DamagedError):
        for marker, _, content in segments(data):
            if marker == APP1 and content.startswith(_NAME):
                return content[len(_NAME) + 1 :]
            if marker == SOS:
                break
    return b""


def exif_orientation(block: bytes) -> int | None:
    """The orientation in a bare EXIF block; None if it states no valid one."""
    file = TiffEditor.of_exif(block)
    entry = _entry(file) if file else None
    return file.integer(entry) if file and entry else None


def upright_exif(block: bytes) -> bytes:
    """Set the orientation in an EXIF block, with or without JPEG's prefix, to 1."""
    start = 6 if block.startswith(_NAME) else 0
    file = TiffEditor.of_exif(block[start:])
    entry = _entry(file) if file else None
    if file is None or entry is None:
        return block
    file.set_integer(entry, 0, 1)
    return block[:start] + bytes(file.data)


def upright_xmp(packet: bytes) -> bytes:
    """Set the orientation in an XMP packet to 1, if it has one."""
    return _IN_XMP.sub(lambda match: match[0][:-1] + b"1", packet)


def _entry(file: TiffEditor) -> Entry | None:
    """Tag 274 of the first directory, if its value is valid.

    Truncated directories are read as far as possible.
    """
    wanted = (_ORIENTATION, SHORT, 1)
    for entry in file.iter_entries(file.first):
        if (entry.tag, entry.kind, entry.count) == wanted:
            return entry if 1 <= file.integer(entry) <= 8 else None
    return None
