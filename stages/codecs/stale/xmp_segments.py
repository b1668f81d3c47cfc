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
    replaced: dict[bytes, list[bytes]] = {}
    wholes = _extended(segments)
    for guid, whole in wholes.items():
        refreshed = refresh_xmp(whole, policy, label=False)
        if refreshed is not whole:
            new = _guid_of(refreshed) if _has_properties(refreshed) else b""
            renamed[guid.decode("latin-1")] = new.decode()
            replaced[guid] = _parts(new, refreshed) if new else []
    kept, has_main = list[bytes](), False
    for segment in segments:
        if XMP.matches(segment):
            kept.append(_refreshed_main(segment, policy, renamed, label=not has_main))
            has_main = True
        elif guid := _guid(segment):
            if guid.decode("latin-1") in renamed:
                kept += replaced.pop(guid, [])
            else:
                kept.append(segment if guid in wholes else blank_base64_jpegs(segment, policy))
        else:
            kept.append(segment)
    if policy.labels_edit and not has_main:
        kept.insert(_place_of_new(kept), XMP.frame(refresh_xmp(b"", policy)))
    return [segment for segment in kept if segment]


def _extended(segments: list[bytes]) -> dict[bytes, bytes]:
    """The extended packets by name (GUID); those of which nothing is missing."""
    found: dict[bytes, dict[int, bytes]] = {}
    lengths: dict[bytes, int] = {}
    for segment in segments:
        if _guid(segment):
            content = EXTENDED_XMP.content(segment)
            guid, length, offset = _HEAD.unpack_from(content)
            found.setdefault(guid, {})[offset] = content[_HEAD.size :]
            lengths[guid] = length
    wholes = {}
    for guid, parts in found.items():
        offsets = sorted(parts)
        ends = list(accumulate(len(parts[offset]) for offset in offsets))
        if offsets == [0, *ends[:-1]] and ends[-1] == lengths[guid]:
            wholes[guid] = b"".join(parts[offset] for offset in offsets)
    return wholes


def _guid(segment: bytes) -> bytes:
    """The name of the extended packet that a segment is a part of; empty if of none."""
    content = EXTENDED_XMP.content(segment) if EXTENDED_XMP.matches(segment) else b""
    return content[:32] if len(content) >= _HEAD.size else b""


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
        found = nodes(parse(packet))
    except ValueError:
        return True
    syntax = (RDF, "adobe:ns:meta/", "http://www.w3.org/2000/xmlns/")
    return any(name_of(node)[0] not in syntax for node in found)


def _guid_of(packet: bytes) -> bytes:
    return hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()


def _parts(guid: bytes, packet: bytes) -> list[bytes]:
    """The segments of an extended packet."""
    return [
        EXTENDED_XMP.frame(
            _HEAD.pack(guid, len(packet), offset) + packet[offset : offset + _MAX_PART]
        )
        for offset in range(0, len(packet), _MAX_PART)
    ]


def _place_of_new(segments: list[bytes]) -> int:
    """Behind the JFIF and EXIF segments, which must come first."""
    kinds = (JFIF, EXIF)
    place = 0
    while place < len(segments) and any(kind.matches(segments[place]) for kind in kinds):
        place += 1
    return place
