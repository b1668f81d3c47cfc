"""Refresh the XMP of a JPEG, which may continue in further segments (XMP part 3, 1.1.3.1)."""

from __future__ import annotations

import struct
from itertools import accumulate

from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.segments import EXIF, EXTENDED_XMP, JFIF, XMP
from stages.codecs.stale.xmp import blank_base64_jpegs, refresh_xmp

#: GUID, length of the extended packet, offset of this part.
_HEAD = struct.Struct(">32sII")


def refresh_xmp_segments(segments: list[bytes], policy: StaleDataPolicy) -> list[bytes]:
    """Refresh all XMP segments of a JPEG; others are passed on.

    An extended packet that holds anything stale is dropped as a whole, with a note.
    """
    packets = _extended(segments)
    dropped = {
        guid
        for guid, packet in packets.items()
        if refresh_xmp(packet, policy, label=False) is not packet
    }
    if dropped:
        policy.note("extended XMP dropped")
    kept, has_main = list[bytes](), False
    for segment in segments:
        if XMP.matches(segment):
            kept.append(_refreshed_main(segment, policy, dropped, label=not has_main))
            has_main = True
        elif not (guid := _guid(segment)) or guid in packets.keys() - dropped:
            kept.append(segment)
        elif guid not in dropped:
            kept.append(blank_base64_jpegs(segment, policy))
    if policy.labels_edit and not has_main:
        # After the JFIF and EXIF segments, which must come first.
        first = (i for i, each in enumerate(kept) if not (JFIF.matches(each) or EXIF.matches(each)))
        kept.insert(next(first, len(kept)), XMP.frame(refresh_xmp(b"", policy)))
    return [segment for segment in kept if segment]


def _extended(segments: list[bytes]) -> dict[str, bytes]:
    """The complete extended packets, by name (GUID)."""
    found: dict[str, dict[int, bytes]] = {}
    lengths: dict[str, int] = {}
    for segment in segments:
        if guid := _guid(segment):
            content = EXTENDED_XMP.content(segment)
            _, lengths[guid], offset = _HEAD.unpack_from(content)
            found.setdefault(guid, {})[offset] = content[_HEAD.size :]
    packets = {}
    for guid, parts in found.items():
        offsets = sorted(parts)
        ends = list(accumulate(len(parts[offset]) for offset in offsets))
        if offsets == [0, *ends[:-1]] and ends[-1] == lengths[guid]:
            packets[guid] = b"".join(parts[offset] for offset in offsets)
    return packets


def _guid(segment: bytes) -> str:
    """The name of the extended packet that a segment belongs to; empty if none."""
    content = EXTENDED_XMP.content(segment) if EXTENDED_XMP.matches(segment) else b""
    return content[:32].decode("latin-1") if len(content) >= _HEAD.size else ""


def _refreshed_main(
    segment: bytes, policy: StaleDataPolicy, dropped: set[str], *, label: bool
) -> bytes:
    """Refresh the packet of a segment; empty if it is dropped."""
    old = XMP.content(segment)
    refreshed = refresh_xmp(old, policy, label=label, dropped=dropped)
    if refreshed is old:
        return segment
    if len(refreshed) > XMP.max_content and label and policy.labels_edit:
        policy.unlabelled("XMP")
        return _refreshed_main(segment, policy, dropped, label=False)
    if len(refreshed) > XMP.max_content:  # escaping made it longer
        policy.note("XMP over 64 KB left out")
        return b""
    return XMP.frame(refreshed)
