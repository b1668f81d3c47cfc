"""Settle the XMP of a JPEG, which may go on in further segments (XMP part 3, 1.1.3.1)."""

from __future__ import annotations

import hashlib
import re
import struct
from itertools import accumulate

from stages.codecs.stale.policy import Settling
from stages.codecs.stale.xmp import cleared, settle_packet
from stages.codecs.stale.xmp_packet import RDF, Packet

XMP = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"

_APP1 = b"\xff\xe1"

#: What a segment holds besides its length.
_MAX_BODY = 65_533
_MAX_PART = 65_400

#: GUID, length of the whole, offset of this part.
_HEAD = struct.Struct(">32sII")

#: The space that packets keep for those who edit them in place.
_PADDING = re.compile(rb"(?<!\s)\s++(?=<\?xpacket end=)")


def settle_xmp_segments(segments: list[bytes], settling: Settling) -> list[bytes]:
    """Settle all XMP segments of a JPEG; the others are passed on."""
    renamed: dict[str, str] = {}
    replaced: dict[bytes, list[bytes]] = {}
    wholes = extended(segments)
    for name, whole in wholes.items():
        settled = settle_packet(whole, settling, mark=False)
        if settled is not whole:
            parts = _parts(settled) if _says_something(settled) else {}
            renamed[name.decode("latin-1")] = next(iter(parts), b"").decode()
            replaced[name] = next(iter(parts.values()), [])
    kept, has_main = list[bytes](), False
    for segment in segments:
        if is_main(segment):
            kept.append(_settled_main(segment, settling, renamed, mark=not has_main))
            has_main = True
        elif name := _guid(segment):
            if name.decode("latin-1") in renamed:
                kept += replaced.pop(name, [])
            else:
                kept.append(segment if name in wholes else cleared(segment, settling))
        else:
            kept.append(segment)
    if settling.marks and not has_main:
        kept.insert(_place_of_new(kept), _segment(XMP + settle_packet(b"", settling)))
    return kept


def is_main(segment: bytes) -> bool:
    """Whether a segment holds a packet."""
    return segment[:2] == _APP1 and segment.startswith(XMP, 4)


def extended(segments: list[bytes]) -> dict[bytes, bytes]:
    """The extended packets by name (GUID); those of which nothing is missing."""
    found: dict[bytes, dict[int, bytes]] = {}
    lengths: dict[bytes, int] = {}
    for segment in segments:
        if _guid(segment):
            name, length, offset = _HEAD.unpack_from(segment, 4 + len(EXTENSION))
            found.setdefault(name, {})[offset] = segment[4 + len(EXTENSION) + _HEAD.size :]
            lengths[name] = length
    wholes = {}
    for name, parts in found.items():
        offsets = sorted(parts)
        ends = list(accumulate(len(parts[offset]) for offset in offsets))
        if offsets == [0, *ends[:-1]] and ends[-1] == lengths[name]:
            wholes[name] = b"".join(parts[offset] for offset in offsets)
    return wholes


def _guid(segment: bytes) -> bytes:
    """The name of the extended packet that a segment is a part of; empty if of none."""
    start = 4 + len(EXTENSION)
    is_part = segment[:2] == _APP1 and segment.startswith(EXTENSION, 4)
    return segment[start : start + 32] if is_part and len(segment) >= start + _HEAD.size else b""


def _settled_main(
    segment: bytes, settling: Settling, renamed: dict[str, str], *, mark: bool
) -> bytes:
    old = segment[4 + len(XMP) :]
    settled = settle_packet(old, settling, mark=mark, extended=renamed)
    if settled is old:
        return segment
    if len(XMP) + len(settled) > _MAX_BODY:
        settled = _PADDING.sub(b"\n", settled)
    if len(XMP) + len(settled) > _MAX_BODY:  # only marks make a packet longer
        settling.unmarked("XMP")
        settled = settle_packet(old, settling, mark=False, extended=renamed)
    return _segment(XMP + settled)


def _says_something(packet: bytes) -> bool:
    """Whether an extended packet still has a property."""
    try:
        elements = Packet(packet).elements
    except ValueError:
        return True
    return any(
        element.name[0] not in (RDF, "adobe:ns:meta/")
        or any(attribute.name[0] != RDF for attribute in element.attributes if element.parent)
        for element in elements
    )


def _parts(packet: bytes) -> dict[bytes, list[bytes]]:
    """The segments of an extended packet, by its name."""
    name = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()
    return {
        name: [
            _segment(
                EXTENSION
                + _HEAD.pack(name, len(packet), offset)
                + packet[offset : offset + _MAX_PART]
            )
            for offset in range(0, len(packet), _MAX_PART)
        ]
    }


def _place_of_new(segments: list[bytes]) -> int:
    """Behind the JFIF and EXIF segments, which must come first."""
    place = 0
    while place < len(segments) and (
        segments[place][:2] == b"\xff\xe0" or segments[place].startswith(b"Exif\0\0", 4)
    ):
        place += 1
    return place


def _segment(body: bytes) -> bytes:
    return _APP1 + (len(body) + 2).to_bytes(2, "big") + body
