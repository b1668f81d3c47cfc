"""Repair files that still contain every pixel: ``limits.damage = "repair"``.

=====================================  ==========================================================
a JPEG without its end marker          the marker is appended, if all samples are there (which
                                       is not checked with arithmetic coding: it is left unchanged)
a PNG's ancillary chunk with a wrong   dropped, as browsers do
checksum
=====================================  ==========================================================

A file that lacks samples is left unchanged, and rejected when it is decoded: missing samples are
never invented.
"""

from __future__ import annotations

from contextlib import suppress

from stages.codecs.errors import DamagedError, UnsupportedError
from stages.codecs.jpeg.libjpeg import open_coefficients
from stages.codecs.jpeg.markers import check_kind
from stages.codecs.png.chunks import SIGNATURE, raw_chunks

_EOI = b"\xff\xd9"


def repaired(data: bytes) -> tuple[bytes, list[str]]:
    """Repair a photo or mask.

    Returns:
        The file, the same object if nothing was repaired, and a sentence for each repair.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _repaired_jpeg(data)
        return _repaired_png(data) if data[:8] == SIGNATURE else (data, [])
    except UnsupportedError:
        return data, []


def _repaired_jpeg(data: bytes) -> tuple[bytes, list[str]]:
    cut = data.rstrip(b"\xff")  # of an incomplete marker
    with suppress(DamagedError):
        check_kind(data)
        return data, []
    repaired_jpeg = cut + _EOI
    with suppress(DamagedError), open_coefficients(repaired_jpeg) as found:
        if found.is_complete():
            return repaired_jpeg, ["end marker of the JPEG appended"]
    return data, []


def _repaired_png(data: bytes) -> tuple[bytes, list[str]]:
    parts, notes, position = [SIGNATURE], list[str](), len(SIGNATURE)
    for chunk in raw_chunks(data):
        if chunk.name[:1].islower() and not chunk.is_sound:
            notes.append(f"chunk {chunk.name.decode('latin-1')} with a wrong checksum dropped")
        else:
            parts.append(data[position : chunk.end])
        position = chunk.end
    return (b"".join([*parts, data[position:]]), notes) if notes else (data, [])
