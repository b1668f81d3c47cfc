"""Repair files that still contain every pixel: ``limits.damage = "repair"``.

=====================================  ==========================================================
a JPEG without its end marker          the marker is appended, if all samples are there (which
                                       cannot be checked with arithmetic coding)
a PNG's chunk with a wrong checksum    dropped, as browsers do, if it is ancillary; if it holds
                                       samples whose own checksum (zlib's) is right, corrected
=====================================  ==========================================================

A file that lacks samples is left unchanged, and rejected when it is decoded: missing samples are
never invented.
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

#: Maximum bytes of a PNG's samples: decompressed per step, and in total (more may be a zip bomb).
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
    cut = data.rstrip(b"\xff")  # of an incomplete marker
    with suppress(DamagedError):
        read_header(data)
        return data, []
    repaired_jpeg = cut + _EOI
    with suppress(DamagedError):
        if is_complete(repaired_jpeg, read_header(repaired_jpeg)):
            return repaired_jpeg, ["end marker of the JPEG appended"]
    return data, []


def _repaired_png(data: bytes) -> tuple[bytes, list[str]]:
    parts, notes, position, corrected = [_PNG], list[str](), len(_PNG), 0
    for name, content in chunks(data):
        raw = data[position : position + 12 + len(content)]
        position += len(raw)
        valid = as_chunk(name, content)
        if raw != valid and name[:1].islower():
            notes.append(f"chunk {name.decode('latin-1')} with a wrong checksum dropped")
            continue
        if raw != valid and (name != b"IDAT" or len(raw) != len(valid)):
            return data, []  # its content cannot be checked in another way
        corrected += raw != valid
        parts.append(valid)
    if corrected and not _is_complete_stream(
        content for name, content in chunks(data) if name == b"IDAT"
    ):
        return data, []
    if corrected:
        notes.append(f"checksum of {corrected} IDAT chunk{'s' * (corrected > 1)} corrected")
    return (b"".join([*parts, data[position:]]), notes) if notes else (data, [])


def _is_complete_stream(pieces: Iterable[bytes]) -> bool:
    """Whether the compressed samples are complete, and their own checksum is right."""
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
