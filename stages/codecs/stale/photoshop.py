"""Refresh Photoshop's image resources (8BIM): rebuild its thumbnail, keep others."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from stages.codecs.stale.pictures import as_jpeg, drawn_like, open_jpeg
from stages.codecs.stale.policy import StaleDataPolicy

THUMBNAIL = "Photoshop thumbnail"

#: Resource numbers. The thumbnail of Photoshop 4 (1996) has red and blue swapped.
_THUMBNAIL, _THUMBNAIL_4 = 1036, 1033

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
    rest = resources[position:]
    if not policy.drops(rest, "rest of the Photoshop resources"):
        parts.append(rest)
    refreshed = b"".join(parts)
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
        policy.note(f"{THUMBNAIL} rebuilt")
        return new
    return b"" if policy.drops(content, f"Photoshop resource {number}") else content


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
