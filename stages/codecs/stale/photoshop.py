"""Settle Photoshop's image resources (8BIM): its thumbnail; all others stay, to the byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from PIL import Image

from stages.codecs.stale import exif, xmp
from stages.codecs.stale.pictures import as_jpeg, drawn_like, opened, without_streams
from stages.codecs.stale.policy import Settling

THUMBNAIL = "Photoshop thumbnail"
_PREVIEW = "preview inside the Photoshop resources"

#: Resource numbers. The old thumbnail has red and blue swapped.
THUMBNAIL_RGB, THUMBNAIL_BGR, IPTC, EXIF, XMP = 1036, 1033, 1028, 1058, 1060

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

    def of(self, content: bytes) -> bytes:
        """The whole resource with another content."""
        return (
            self.head[:-4] + struct.pack(">I", len(content)) + content + b"\0" * (len(content) % 2)
        )

    def thumbnail(self) -> Image.Image | None:
        """The picture, if it is a thumbnail that can be read."""
        if self.number not in (THUMBNAIL_RGB, THUMBNAIL_BGR):
            return None
        picture = opened(self.content[_HEAD.size :])
        return _swapped(picture) if picture and self.number == THUMBNAIL_BGR else picture


def settle_resources(resources: bytes, settling: Settling) -> bytes:
    """Settle 8BIM resources, as JPEG (behind ``Photoshop 3.0`` and a zero) and TIFF hold them.

    The same object comes back if nothing changed; raises RowError ``image.stale_preview`` if the
    policy is to refuse.
    """
    found, rest = read_resources(resources)
    parts = [_settled(resource, settling) for resource in found]
    parts.append(_swept(rest, settling))
    settled = b"".join(parts)
    return resources if settled == resources else settled


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


def _settled(resource: Resource, settling: Settling) -> bytes:
    """What becomes of a resource: itself, the same with another content, or nothing."""
    if resource.number in (THUMBNAIL_RGB, THUMBNAIL_BGR):
        new = _redrawn(resource, settling) if settling.rebuilds(THUMBNAIL) else None
        if new is None:
            settling.drop(THUMBNAIL)
            return b""
        settling.rebuilt(THUMBNAIL)
        return resource.of(new)
    if resource.number == EXIF:
        content = exif.settle_block(resource.content, settling.without_marks())
    elif resource.number == IPTC:
        content = without_preview(resource.content, settling)
    elif resource.number == XMP:
        content = xmp.settle_packet(resource.content, settling, mark=False)
    else:
        content = _swept(resource.content, settling)
    if resource.content and not content:
        return b""
    return resource.raw if content == resource.content else resource.of(content)


def without_preview(iptc: bytes, settling: Settling) -> bytes:
    """IPTC data sets (IIM 4.2) but for the preview and what tells of it, 2:200 to 2:202."""
    kept, position, dropped = [], 0, False
    while iptc[position : position + 1] == b"\x1c" and position + 5 <= len(iptc):
        record, number = iptc[position + 1], iptc[position + 2]
        size, start = int.from_bytes(iptc[position + 3 : position + 5], "big"), position + 5
        if size & 0x8000:  # extended: so many bytes tell the size
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
    settling.drop("IPTC preview")
    return b"".join(kept) + iptc[position:]


def _redrawn(resource: Resource, settling: Settling) -> bytes | None:
    """A thumbnail resource's new content; None if the old one cannot be read."""
    old = resource.thumbnail()
    if old is None:
        return None
    drawn = drawn_like(old.convert("RGB"), settling.edited)
    if resource.number == THUMBNAIL_BGR:
        drawn = _swapped(drawn)
    room = len(resource.content) - _HEAD.size
    coded = as_jpeg(drawn, room) or as_jpeg(drawn, _MAX_THUMBNAIL)
    if coded is None:
        return None
    row = (drawn.width * 24 + 31) // 32 * 4
    sizes = (1, drawn.width, drawn.height, row, row * drawn.height, len(coded))
    return _HEAD.pack(*sizes, 24, 1) + coded


def _swapped(picture: Image.Image) -> Image.Image:
    """Red for blue."""
    return Image.merge("RGB", picture.convert("RGB").split()[::-1])


def _swept(data: bytes, settling: Settling) -> bytes:
    cleared = without_streams(data)
    if cleared is not data:
        settling.drop(_PREVIEW)
    return cleared
