"""Refresh Photoshop's image resources (8BIM): drop its thumbnail, keep others."""

from __future__ import annotations

from collections.abc import Iterator

from stages.codecs.stale.policy import StaleDataPolicy

#: Resource numbers of the thumbnail, in Photoshop 5 and later, and in version 4.
_THUMBNAILS = (1036, 1033)


def refresh_resources(resources: bytes, policy: StaleDataPolicy) -> bytes:
    """Refresh 8BIM resources, as in TIFF, and in JPEG after ``Photoshop 3.0`` and a zero.

    Returns the same object if nothing changed; raises RowError ``image.stale_preview`` if the
    policy is to refuse.
    """
    parts, position = [], 0
    for number, content, behind in _resources(resources):
        if number in _THUMBNAILS:
            policy.note_dropped("Photoshop thumbnail")
        elif not policy.must_drop(content, f"Photoshop resource {number}"):
            parts.append(resources[position:behind])
        position = behind
    rest = resources[position:]
    if not policy.must_drop(rest, "rest of the Photoshop resources"):
        parts.append(rest)
    refreshed = b"".join(parts)
    return resources if refreshed == resources else refreshed


def _resources(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield each resource's number, content, and the position behind it, up to the last valid."""
    position = 0
    while data[position : position + 4] == b"8BIM" and position + 7 <= len(data):
        name = 1 + data[position + 6]
        start = position + 6 + name + name % 2 + 4
        end = start + int.from_bytes(data[start - 4 : start], "big")
        if start > len(data) or end > len(data):
            return
        number = int.from_bytes(data[position + 4 : position + 6], "big")
        position = min(end + (end - start) % 2, len(data))
        yield number, data[start:end], position
