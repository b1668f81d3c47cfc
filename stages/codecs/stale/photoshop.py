"""Refresh Photoshop's image resources (8BIM): its thumbnail; all others stay, to the byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.pictures import as_jpeg, drawn_like, open_jpeg, without_streams
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp

THUMBNAIL = "Photoshop thumbnail"
_PREVIEW = "preview inside the Photoshop resources"

#: Resource numbers. The thumbnail of Photoshop 4, of 1996, has red and blue swapped.
_THUMBNAIL, _THUMBNAIL_4, _IPTC, _EXIF, _XMP = 1036, 1033, 1028, 1058, 1060

_IPTC_PREVIEW = (200, 201, 202)

#: Format (1: JPEG), width, height, bytes of a row, bytes raw, bytes coded, bits, planes.
_HEAD = struct.Struct(">6I2H")
_MAX_THUMBNAIL = 60_000


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource.

    Attributes:
        number: what it is.
        head: its signature, number, name and length, as they are in the file.
        content: without the byte that makes it even.
        raw: all of it.
    """

    number: int
    head: bytes
    content: bytes
    raw: bytes

    def with_content(self, content: bytes) -> bytes:
        """The whole resource with another content."""
        size = struct.pack(">I", len(content))
        return self.head[:-4] + size + content + b"\0" * (len(content) % 2)


def refresh_resources(resources: bytes, policy: StaleDataPolicy) -> bytes:
    """Refresh 8BIM resources, as JPEG (behind ``Photoshop 3.0`` and a zero) and TIFF hold them.

    The same object comes back if nothing changed; raises RowError ``image.stale_preview`` if the
    policy is to refuse.
    """
    found, rest = read_resources(resources)
    parts = [_refreshed(resource, policy) for resource in found]
    refreshed = b"".join([*parts, _zero_jpegs(rest, policy)])
    return resources if refreshed == resources else refreshed


def read_resources(data: bytes) -> tuple[list[Resource], bytes]:
    """The resources, and what is behind the last that makes sense."""
    found, position = [], 0
    while data[position : position + 4] == b"8BIM" and position + 7 <= len(data):
        name = 1 + data[position + 6]
        start = position + 6 + name + name % 2 + 4
        end = start + int.from_bytes(data[start - 4 : start], "big")
        if start > len(data) or end > len(data):
            break
        behind = min(end + (end - start) % 2, len(data))
        number = int.from_bytes(data[position + 4 : position + 6], "big")
        head, content = data[position:start], data[start:end]
        found.append(Resource(number, head, content, data[position:behind]))
        position = behind
    return found, data[position:]


def _refreshed(resource: Resource, policy: StaleDataPolicy) -> bytes:
    """What becomes of a resource: itself, the same with another content, or nothing."""
    old = resource.content
    if resource.number in (_THUMBNAIL, _THUMBNAIL_4):
        should_rebuild = policy.should_rebuild(THUMBNAIL) and resource.number == _THUMBNAIL
        new = _redrawn(old, policy) if should_rebuild else None
        if new is None:
            policy.drop(THUMBNAIL)
            return b""
        policy.rebuilt(THUMBNAIL)
    elif resource.number == _EXIF:
        new = refresh_exif(old, policy, label=False)
    elif resource.number == _IPTC:
        new = without_preview(old, policy)
    elif resource.number == _XMP:
        new = refresh_xmp(old, policy, label=False)
    else:
        new = _zero_jpegs(old, policy)
    if old and not new:
        return b""
    return resource.raw if new == old else resource.with_content(new)


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
