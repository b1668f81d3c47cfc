"""Which way up a picture is displayed: one rule, that of browsers, for photos and masks alike.

Files may state an orientation in several places, and readers differ in which they follow. A mask
is drawn on what a browser shows, and the result is looked at there, so that is the frame in which
photo and mask meet. What counts, as measured with Chromium (``tests/browser/test_orientation.py``
compares this module with it):

========== ==================================================================================
JPEG, MPO  the first APP1 segment with EXIF before the first scan
PNG        the first eXIf chunk, if it is before the image data
AVIF       the properties irot and imir (of HEIC, too, which browsers do not show: libheif
           applies them)
TIFF       the page's own tag 274 (not shown by browsers)
WebP       nothing
GIF, BMP   nothing
========== ==================================================================================

In EXIF, tag 274 of the first directory counts if it is one SHORT of 1 to 8. XMP's
``tiff:Orientation``, EXIF in a PNG's text chunks or behind its image data, EXIF in a WebP, and a
second EXIF segment turn nothing; :func:`ignored` lists them for the lineage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.codecs.png.chunks import chunks, raw_profile, xmp_of
from stages.codecs.stale.tiff import SHORT, Tiff
from stages.codecs.webp.riff import riff_chunks

_ORIENTATION = 274
_NAME, _XMP_NAME = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"
_APP1, _SOS, _EOI = 0xE1, 0xDA, 0xD9

#: XMP as an attribute or an element; ``verify`` of strangers' XML takes no parser for one digit.
_IN_XMP = re.compile(rb"""\btiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])\b""")


def displayed(data: bytes) -> int:
    """The orientation, as EXIF numbers it (1 to 8), in which a JPEG, PNG or WebP is displayed.

    Other formats, whose readers know theirs, are 1 here.
    """
    return next((value for value, _, counts in _sources(data) if counts), 1)


def ignored(data: bytes, orientation: int) -> list[str]:
    """A sentence for each place in a JPEG, PNG or WebP that states another orientation.

    Args:
        data: the file.
        orientation: the one that counts, 1 to 8.
    """
    others = {(value, where) for value, where, counts in _sources(data) if value != orientation}
    return [
        f"orientation {value} in {where} ignored, as browsers do: displayed as {orientation}"
        for value, where in sorted(others)
    ]


def in_exif(block: bytes) -> int | None:
    """The orientation in a bare EXIF block; None if it states none that counts."""
    tiff = Tiff.of(block)
    at = _entry(tiff) if tiff else 0
    return tiff.u16(block[at + 8 : at + 10]) if tiff and at else None


def upright_exif(block: bytes) -> bytes:
    """The same EXIF block, with or without JPEG's prefix; an orientation in it becomes 1."""
    start = 6 if block.startswith(_NAME) else 0
    tiff = Tiff.of(block[start:])
    at = _entry(tiff) if tiff else 0
    if tiff is None or not at:
        return block
    at += start + 8
    return block[:at] + tiff.packed16(1) + block[at + 2 :]


def upright_xmp(packet: bytes) -> bytes:
    """The same XMP packet with an orientation of 1 if it has any."""
    return _IN_XMP.sub(lambda match: match[0][:-1] + b"1", packet)


def _entry(tiff: Tiff) -> int:
    """Position of tag 274 in the first directory, if its value counts; else 0.

    Directories that claim more entries than there are count as far as they go.
    """
    start = tiff.u32(4)
    if not 8 <= start <= len(tiff.data) - 2:
        return 0
    count = tiff.u16(tiff.data[start : start + 2])
    head = tiff.packed16(_ORIENTATION, SHORT) + tiff.packed32(1)
    for at in range(start + 2, min(start + 2 + 12 * count, len(tiff.data) - 11), 12):
        if tiff.data[at : at + 8] == head:
            return at if 1 <= tiff.u16(tiff.data[at + 8 : at + 10]) <= 8 else 0
    return 0


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
    for content in _app1(data):
        if content.startswith(_NAME):
            yield in_exif(content[len(_NAME) + 1 :]), "EXIF" if is_first else "more EXIF", is_first
            is_first = False
        elif content.startswith(_XMP_NAME):
            yield in_xmp(content), "XMP", False


def _app1(jpeg: bytes) -> Iterator[bytes]:
    """The contents of the APP1 segments before the first scan."""
    at = jpeg.find(b"\xff", 2)
    while 0 <= at < len(jpeg) - 4:
        marker = jpeg[at + 1]
        if marker == 0xFF or marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at = jpeg.find(b"\xff", at + (1 if marker == 0xFF else 2))
            continue
        if marker in (_SOS, _EOI):
            return
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if marker == _APP1:
            yield jpeg[at + 4 : end]
        at = jpeg.find(b"\xff", max(end, at + 2))


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
