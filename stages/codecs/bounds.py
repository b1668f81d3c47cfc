"""Refuse files that are made to waste time, before a library walks over all their parts.

A part of no bytes costs a reader as much as one with a photo in it, so that a small file can keep
it busy for minutes. No writer of photos comes near the bounds that are drawn here.
"""

from __future__ import annotations

import re

from stages.codecs.picture import UnsupportedError

#: Segments before the first scan of a JPEG, chunks of a PNG or WebP that hold no samples.
_MOST_PARTS = 10_000

#: Pieces that the samples of a PNG come in: 100 megapixels in 8 KB each are some 40,000.
_MOST_PIECES = 200_000

#: Scans of a JPEG: some ten are usual, and each goes over all of the picture, however short it is.
_MOST_SCANS = 100

#: Bytes that fill the gap before a marker.
_MOST_FILL = 4096

_SCAN = b"\xff\xda"
_FILL = re.compile(rb"\xff*+")


def reject_too_many_parts(data: bytes) -> None:
    """Count the parts of a JPEG, PNG or WebP; other formats are passed over.

    Raises:
        UnsupportedError: there are more than any photo has.
    """
    if data[:2] == b"\xff\xd8":
        _count_segments(data)
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        _count_chunks(data, "big", 8, 12)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _count_chunks(data, "little", 12, 8)


def _count_segments(jpeg: bytes) -> None:
    at = 2
    for _ in range(_MOST_PARTS):
        end = _end_of_fill(jpeg, at)
        if end - at > _MOST_FILL:
            raise UnsupportedError(f"{end - at} bytes fill a gap between its segments")
        if jpeg[at : at + 1] != b"\xff" or jpeg[end - 1 : end + 1] == _SCAN or end >= len(jpeg):
            break
        at = end + 1 + max(int.from_bytes(jpeg[end + 1 : end + 3], "big"), 1)
    else:
        raise UnsupportedError(f"it has more than {_MOST_PARTS} segments")
    # Coded samples never hold these two bytes.
    if jpeg.count(_SCAN, at, _end_of_picture(jpeg, at)) > _MOST_SCANS:
        raise UnsupportedError(f"it has more than {_MOST_SCANS} scans")


def _end_of_fill(jpeg: bytes, at: int) -> int:
    """Behind a marker's first bytes, all 0xFF; an empty run where there is none."""
    fill = _FILL.match(jpeg, at)
    return fill.end() if fill else at


def _end_of_picture(jpeg: bytes, at: int) -> int:
    """Where it says that it ends, from its first scan on; else the end of the file."""
    end = jpeg.find(b"\xff\xd9", at)
    return end if end >= 0 else len(jpeg)


def _count_chunks(data: bytes, order: str, at: int, overhead: int) -> None:
    parts = pieces = 0
    while at + overhead <= len(data):
        if order == "big":
            size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        else:
            name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
            size += size % 2
        holds_samples = name in (b"IDAT", b"fdAT")
        pieces += holds_samples
        parts += not holds_samples
        if parts > _MOST_PARTS or pieces > _MOST_PIECES:
            raise UnsupportedError(f"it has more than {max(parts, pieces) - 1} chunks")
        if name == b"IEND":
            return
        at += overhead + size
