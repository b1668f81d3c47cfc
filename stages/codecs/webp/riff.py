"""Read WebP's container (RIFF)."""

from __future__ import annotations

from collections.abc import Iterator


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk's name and content; that of the last one may be cut off."""
    position = 12
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position : position + 4], data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
