"""Refresh the XMP of a JPEG, which may go on in further segments (XMP part 3, 1.1.3.1)."""

from __future__ import annotations

import struct
from itertools import accumulate

from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.segments import EXIF, EXTENDED_XMP, JFIF, XMP
from stages.codecs.stale.xmp import blank_base64_jpegs, refresh_xmp

#: GUID, length of the whole, offset of this part.
_HEAD = struct.Struct(">32sII")


def refresh_xmp_segments(segments: list[bytes], policy: StaleDataPolicy) -> list[bytes]:
    """Refresh all XMP segments of a JPEG; the others are passed on.

    An extended packet that holds anything stale is dropped as a whole, with a note.
    """
    wholes = _extended(segments)
    dropped = {
        guid
        for guid, whole in wholes.items()
        if refresh_xmp(whole, policy, label=False) is not whole
    }
    if dropped:
        policy.note("extended XMP dropped")
    kept, has_main = list[bytes](), False
    for segment in segments:
        if XMP.matches(segment):
            kept.append(_refreshed_main(segment, policy, dropped, label=not has_main))
            has_main = True
        elif not (guid := _guid(segment)) or guid in wholes.keys() - dropped:
            kept.append(segment)
        elif guid not in dropped:
            kept.append(blank_base64_jpegs(segment, policy))
    if policy.labels_edit and not has_main:
        # Behind the JFIF and EXIF segments, which must come first.
        first = (i for i, each in enumerate(kept) if not (JFIF.matches(each) or EXIF.matches(each)))
        kept.insert(next(first, len(kept)), XMP.frame(refresh_xmp(b"", policy)))
    return [segment for segment in kept if segment]


def _extended(segments: list[bytes]) -> dict[str, bytes]:
    """The extended packets by name (GUID); those of which nothing is missing."""
    found: dict[str, dict[int, bytes]] = {}
    lengths: dict[str, int] = {}
    for segment in segments:
        if guid := _guid(segment):
            content = EXTENDED_XMP.content(segment)
            _, lengths[guid], offset = _HEAD.unpack_from(content)
            found.setdefault(guid, {})[offset] = content[_HEAD.size :]
    wholes = {}
    for guid, parts in found.items():
        offsets = sorted(parts)
        ends = list(accumulate(len(parts[offset]) for offset in offsets))
        if offsets == [0, *ends[:-1]] and ends[-1] == lengths[guid]:
            wholes[guid] = b"".join(parts[offset] for offset in offsets)
    return wholes


def _guid(segment: bytes) -> str:
    """The name of the extended packet that a segment is a part of; empty if of none."""
    content = EXTENDED_XMP.content(segment) if EXTENDED_XMP.matches(segment) else b""
    return content[:32].decode("latin-1") if len(content) >= _HEAD.size else ""


def _refreshed_main(
    segment: bytes, policy: StaleDataPolicy, dropped: set[str], *, label: bool
) -> bytes:
    """The segment with its packet refreshed; empty if it goes."""
    old = XMP.content(segment)
    refreshed = refresh_xmp(old, policy, label=label, dropped=dropped)
    if refreshed is old:
        return segment
    if len(refreshed) > XMP.max_content and label and policy.labels_edit:
        policy.unlabelled("XMP")
        return _refreshed_main(segment, policy, dropped, label=False)
    if len(refreshed) > XMP.max_content:  # by what XML has to escape
        policy.note("XMP over 64 KB left out")
        return b""
    return XMP.frame(refreshed)
