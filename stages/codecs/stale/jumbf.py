"""Tell C2PA manifests, which sign the old picture, where the formats keep them (C2PA 2.1, annex A).

JPEG keeps them as JUMBF boxes in APP11 segments (ISO/IEC 19566-5): two bytes ``JP``, the box's
number, the part's number, and the box, whose head each part repeats. JUMBF of other kinds stays.
"""

from __future__ import annotations

from stages.codecs.stale.policy import Settling

MANIFEST = "C2PA manifest"

_APP11, _NAME = b"\xff\xeb", b"JP"
_C2PA = bytes.fromhex("6332706100110010800000AA00389B71")


def is_c2pa_segment(segment: bytes) -> bool:
    """Whether a JPEG's segment is the first of a C2PA manifest; the others do not tell."""
    if not _is_jumbf(segment):
        return False
    box = segment[12:]
    described = box[16:] if box[:4] == b"\0\0\0\1" else box[8:]  # behind 64 or 32 bits of length
    return box[4:8] == b"jumb" and described[4:8] == b"jumd" and described[8:24] == _C2PA


def without_c2pa(segments: list[bytes], settling: Settling) -> list[bytes]:
    """Drop all segments of C2PA manifests."""
    kept, is_c2pa = [], dict[bytes, bool]()
    for segment in segments:
        if _is_jumbf(segment):
            number, part = segment[6:8], int.from_bytes(segment[8:12], "big")
            if part <= 1 or number not in is_c2pa:
                is_c2pa[number] = is_c2pa_segment(segment)
            if is_c2pa[number]:
                settling.drop(MANIFEST)
                continue
        kept.append(segment)
    return kept


def _is_jumbf(segment: bytes) -> bool:
    return segment[:2] == _APP11 and segment[4:6] == _NAME and len(segment) >= 20
