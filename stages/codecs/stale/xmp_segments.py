"""Refresh the XMP of a JPEG, which may go on in further segments (XMP part 3, 1.1.3.1)."""

from __future__ import annotations

import hashlib
import struct
from itertools import accumulate

from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.segments import EXIF, EXTENDED_XMP, JFIF, XMP
from stages.codecs.stale.xmp import RDF, blank_base64_jpegs, name_of, nodes, parse, refresh_xmp

#: GUID, length of the whole, offset of this part.
_HEAD = struct.Struct(">32sII")
_MAX_PART = 65_400


def refresh_xmp_segments(segments: list[bytes], policy: StaleDataPolicy) -> list[bytes]:
    """Refresh all XMP segments of a JPEG; the others are passed on."""
    renamed: dict[str, str] = {}
    replaced: dict[str, list[bytes]] = {}
    wholes = _extended(segments)
    for guid, whole in wholes.items():
        refreshed = refresh_xmp(whole, policy, label=False)
        if refreshed is not whole:
            renamed[guid], replaced[guid] = _extended_segments(refreshed)
    kept, has_main = list[bytes](), False
    for segment in segments:
        if XMP.matches(segment):
            kept.append(_refreshed_main(segment, policy, renamed, label=not has_main))
            has_main = True
        elif (guid := _guid(segment)) in renamed:
            kept += replaced.pop(guid, [])
        elif guid and guid not in wholes:
            kept.append(blank_base64_jpegs(segment, policy))
        else:
            kept.append(segment)
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
    segment: bytes, policy: StaleDataPolicy, renamed: dict[str, str], *, label: bool
) -> bytes:
    """The segment with its packet refreshed; empty if it goes."""
    old = XMP.content(segment)
    refreshed = refresh_xmp(old, policy, label=label, extended=renamed)
    if refreshed is old:
        return segment
    if len(refreshed) > XMP.max_content and label and policy.labels_edit:
        policy.unlabelled("XMP")
        return _refreshed_main(segment, policy, renamed, label=False)
    if len(refreshed) > XMP.max_content:  # by what XML has to escape
        policy.note("XMP over 64 KB left out")
        return b""
    return XMP.frame(refreshed)


def _has_properties(packet: bytes) -> bool:
    """Whether an extended packet still has a property."""
    try:
        found = nodes(parse(packet)[1])
    except ValueError:
        return True
    syntax = (RDF, "adobe:ns:meta/", "http://www.w3.org/2000/xmlns/")
    return any(name_of(node)[0] not in syntax for node in found)


def _extended_segments(packet: bytes) -> tuple[str, list[bytes]]:
    """Name and segments of an extended packet; empty if it has no property left."""
    if not _has_properties(packet):
        return "", []
    guid = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper()
    starts = range(0, len(packet), _MAX_PART)
    heads = [_HEAD.pack(guid.encode(), len(packet), start) for start in starts]
    parts = [packet[start : start + _MAX_PART] for start in starts]
    return guid, [EXTENDED_XMP.frame(head + part) for head, part in zip(heads, parts, strict=True)]
