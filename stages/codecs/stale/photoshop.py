"""Refresh Photoshop's image resources (8BIM): rebuild its thumbnail, and keep the others."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.pictures import as_jpeg, drawn_like, open_jpeg, without_streams
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp

THUMBNAIL = "Photoshop thumbnail"
_PREVIEW = "preview inside the Photoshop resources"

#: Resource numbers. The thumbnail of Photoshop 4 (1996) has red and blue swapped.
_THUMBNAIL, _THUMBNAIL_4, _IPTC, _EXIF, _XMP = 1036, 1033, 1028, 1058, 1060

_IPTC_PREVIEW = (200, 201, 202)

#: Format (1: JPEG), width, height, bytes of a row, bytes raw, bytes coded, bits, planes.
_HEAD = struct.Struct(">6I2H")
_MAX_THUMBNAIL = 60_000


def refresh_resources(resources: bytes, policy: StaleDataPolicy) -> bytes:
    """Refresh 8BIM resources, as in TIFF, and in JPEG after ``Photoshop 3.0`` and a zero.

    Returns the same object if nothing changed; raises RowError ``image.stale_preview`` if the
    policy is to refuse.
    """
    parts, position = [], 0
    for number, start, end in _find_contents(resources):
        behind = min(end + (end - start) % 2, len(resources))
        old = resources[start:end]
        new = _refreshed(number, old, policy)
        if new == old:
            parts.append(resources[position:behind])
        elif new:
            head = resources[position : start - 4] + struct.pack(">I", len(new))
            parts.append(head + new + b"\0" * (len(new) % 2))
        position = behind
    refreshed = b"".join([*parts, _zero_jpegs(resources[position:], policy)])
    return resources if refreshed == resources else refreshed


def _find_contents(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each resource's number, and start and end of its content, up to the last valid one."""
    position = 0
    while data[position : position + 4] == b"8BIM" and position + 7 <= len(data):
        name = 1 + data[position + 6]
        start = position + 6 + name + name % 2 + 4
        end = start + int.from_bytes(data[start - 4 : start], "big")
        if start > len(data) or end > len(data):
            return
        yield int.from_bytes(data[position + 4 : position + 6], "big"), start, end
        position = end + (end - start) % 2


def _refreshed(number: int, content: bytes, policy: StaleDataPolicy) -> bytes:
    """Return a resource's new content; empty if the resource is dropped."""
    if number in (_THUMBNAIL, _THUMBNAIL_4):
        should_rebuild = policy.should_rebuild(THUMBNAIL) and number == _THUMBNAIL
        new = _redrawn(content, policy) if should_rebuild else None
        if new is None:
            policy.drop(THUMBNAIL)
            return b""
        policy.rebuilt(THUMBNAIL)
        return new
    if number == _EXIF:
        return refresh_exif(content, policy, label=False)
    if number == _IPTC:
        return without_preview(content, policy)
    if number == _XMP:
        return refresh_xmp(content, policy, label=False)
    return _zero_jpegs(content, policy)


def without_preview(iptc: bytes, policy: StaleDataPolicy) -> bytes:
    """IPTC data sets (IIM 4.2) without the preview and its description, 2:200 to 2:202."""
    kept, position, dropped = [], 0, False
    while iptc[position : position + 1] == b"\x1c" and position + 5 <= len(iptc):
        record, number = iptc[position + 1], iptc[position + 2]
        size, start = int.from_bytes(iptc[position + 3 : position + 5], "big"), position + 5
        if size & 0x8000:  # extended: the size has that many bytes
            start += size & 0x7FFF
            size = int.from_bytes(iptc[position + 5 : start], "big")
        if start + size > len(iptc):
            break
        is_preview = record == 2 and number in _IPTC_PREVIEW
        dropped |= is_preview
        if not is_preview:
            kept.append(iptc[position : start + size])
        position = start + size
    if not dropped:
        return iptc
    policy.drop("IPTC preview")
    return b"".join(kept) + iptc[position:]


def _redrawn(content: bytes, policy: StaleDataPolicy) -> bytes | None:
    """A thumbnail resource's new content; None if the old one cannot be read."""
    old = open_jpeg(content[_HEAD.size :])
    if old is None:
        return None
    drawn = drawn_like(old.convert("RGB"), policy.edited)
    coded = as_jpeg(drawn, len(content) - _HEAD.size) or as_jpeg(drawn, _MAX_THUMBNAIL)
    if coded is None:
        return None
    row = (drawn.width * 24 + 31) // 32 * 4
    sizes = (1, drawn.width, drawn.height, row, row * drawn.height, len(coded))
    return _HEAD.pack(*sizes, 24, 1) + coded


def _zero_jpegs(data: bytes, policy: StaleDataPolicy) -> bytes:
    zeroed = without_streams(data)
    if zeroed is not data:
        policy.drop(_PREVIEW)
    return zeroed
