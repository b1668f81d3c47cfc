"""Repair files whose damage leaves every pixel in them: ``limits.damage = "repair"``.

=====================================  ==========================================================
a JPEG without its end marker          the marker is appended, if all samples are there (which
                                       cannot be seen where they are coded arithmetically)
a PNG's chunk with a wrong checksum    dropped, as browsers do, if it is ancillary; if it holds
                                       samples whose own checksum (zlib's) is right, corrected
=====================================  ==========================================================

A file that lacks samples is left as it is, and refused when it is decoded: what was not in the
file is not made up.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from contextlib import suppress

from stages.codecs.errors import DamagedError, UnsupportedError
from stages.codecs.jpeg.header import read_header
from stages.codecs.jpeg.libjpeg import is_complete
from stages.codecs.png.chunks import as_chunk, chunks

_EOI = b"\xff\xd9"
_PNG = b"\x89PNG\r\n\x1a\n"

#: Bytes of a PNG's samples: unpacked at a time, and altogether, over which it may be a bomb.
_MAX_STEP, _MAX_SAMPLES = 1 << 20, 2 << 30


def repaired(data: bytes) -> tuple[bytes, list[str]]:
    """Repair a photo or mask.

    Returns:
        The file, the same object if nothing was repaired, and a sentence for each repair.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _repaired_jpeg(data)
        return _repaired_png(data) if data[:8] == _PNG else (data, [])
    except UnsupportedError:
        return data, []


def _repaired_jpeg(data: bytes) -> tuple[bytes, list[str]]:
    cut = data.rstrip(b"\xff")  # half a marker
    with suppress(DamagedError):
        read_header(data)
        return data, []
    whole = cut + _EOI
    with suppress(DamagedError):
        if is_complete(whole, read_header(whole)):
            return whole, ["end marker of the JPEG appended"]
    return data, []


def _repaired_png(data: bytes) -> tuple[bytes, list[str]]:
    parts, notes, position, corrected = [_PNG], list[str](), len(_PNG), 0
    for name, content in chunks(data):
        raw = data[position : position + 12 + len(content)]
        position += len(raw)
        made = as_chunk(name, content)
        if raw != made and name[:1].islower():
            notes.append(f"chunk {name.decode('latin-1')} with a wrong checksum dropped")
            continue
        if raw != made and (name != b"IDAT" or len(raw) != len(made)):
            return data, []  # what it holds cannot be checked otherwise
        corrected += raw != made
        parts.append(made)
    if corrected and not _is_whole(content for name, content in chunks(data) if name == b"IDAT"):
        return data, []
    if corrected:
        notes.append(f"checksum of {corrected} IDAT chunk{'s' * (corrected > 1)} corrected")
    return (b"".join([*parts, data[position:]]), notes) if notes else (data, [])


def _is_whole(pieces: Iterable[bytes]) -> bool:
    """Whether compressed samples reach their end, and their checksum there is right."""
    reader, size = zlib.decompressobj(), 0
    try:
        for piece in pieces:
            rest = piece
            while rest and not reader.eof:
                size += len(reader.decompress(rest, _MAX_STEP))
                rest = reader.unconsumed_tail
                if size > _MAX_SAMPLES:
                    return False
    except zlib.error:
        return False
    return reader.eof
