"""Drop C2PA manifests, which sign the old picture, from a JPEG's segments (C2PA 2.1, annex A).

JPEG keeps them as JUMBF boxes in APP11 segments (ISO/IEC 19566-5): two bytes ``JP``, the box's
number, the part's number, and the box, whose head each part repeats. JUMBF of other kinds stays.
"""

from __future__ import annotations

from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.segments import JUMBF

MANIFEST = "C2PA manifest"

_C2PA = bytes.fromhex("6332706100110010800000AA00389B71")


def without_c2pa(segments: list[bytes], policy: StaleDataPolicy) -> list[bytes]:
    """Drop all segments of C2PA manifests."""
    kept, is_c2pa = [], dict[bytes, bool]()
    for segment in segments:
        if JUMBF.matches(segment) and len(segment) >= 20:
            number, part = segment[6:8], int.from_bytes(segment[8:12], "big")
            if part <= 1 or number not in is_c2pa:
                is_c2pa[number] = _is_c2pa(segment)
            if is_c2pa[number]:
                policy.drop(MANIFEST)
                continue
        kept.append(segment)
    return kept


def _is_c2pa(segment: bytes) -> bool:
    """Whether a JPEG's segment is the first of a C2PA manifest; the others do not say."""
    box = segment[12:]
    described = box[16:] if box[:4] == b"\0\0\0\1" else box[8:]  # behind 64 or 32 bits of length
    return box[4:8] == b"jumb" and described[4:8] == b"jumd" and described[8:24] == _C2PA
