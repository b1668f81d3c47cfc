"""Refresh the XMP of a JPEG, which may continue in further segments (XMP part 3, 1.1.3.1)."""

from __future__ import annotations

from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.segments import EXIF, EXTENDED_XMP, JFIF, XMP
from stages.codecs.stale.xmp import refresh_xmp

#: Bytes before a part of an extended packet: GUID, length of the packet, offset of the part.
_HEAD = 40


def refresh_xmp_segments(segments: list[bytes], policy: StaleDataPolicy) -> list[bytes]:
    """Refresh all XMP segments of a JPEG; others are passed on.

    Extended packets are kept unless they contain a picture, such as a depth map.
    """
    parts = sorted(EXTENDED_XMP.content(each) for each in segments if EXTENDED_XMP.matches(each))
    packets = b"".join(part[_HEAD:] for part in parts)  # sorted by packet and offset
    drops_extended = policy.drops(packets, "extended XMP")
    kept, has_main = list[bytes](), False
    for segment in segments:
        if XMP.matches(segment):
            kept.append(_refreshed_main(segment, policy, drops_extended, label=not has_main))
            has_main = True
        elif not (drops_extended and EXTENDED_XMP.matches(segment)):
            kept.append(segment)
    if policy.labels_edit and not has_main:
        # After the JFIF and EXIF segments, which must come first.
        first = (i for i, each in enumerate(kept) if not (JFIF.matches(each) or EXIF.matches(each)))
        kept.insert(next(first, len(kept)), XMP.frame(refresh_xmp(b"", policy)))
    return [segment for segment in kept if segment]


def _refreshed_main(
    segment: bytes, policy: StaleDataPolicy, drops_extended: bool, *, label: bool
) -> bytes:
    """Refresh the packet of a segment; empty if it is dropped."""
    old = XMP.content(segment)
    refreshed = refresh_xmp(old, policy, label=label, drops_extended=drops_extended)
    if refreshed is old:
        return segment
    if len(refreshed) > XMP.max_content and label and policy.labels_edit:
        policy.unlabelled("XMP")
        return _refreshed_main(segment, policy, drops_extended, label=False)
    if len(refreshed) > XMP.max_content:  # escaping made it longer
        policy.note("XMP over 64 KB left out")
        return b""
    return XMP.frame(refreshed) if refreshed else b""
