"""Walk over the chunks of WebP's container (RIFF)."""

from __future__ import annotations

from collections.abc import Iterator

from stages.codecs.errors import UnsupportedError

#: An empty chunk costs a reader as much as a long one; photos have far fewer.
_MAX_CHUNKS = 10_000


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk's name and content; the last one may be truncated.

    Raises:
        UnsupportedError: there are more than in any photo.
    """
    position, count = 12, 0
    while position + 8 <= len(data):
        count += 1
        if count > _MAX_CHUNKS:
            raise UnsupportedError(f"it has more than {_MAX_CHUNKS} chunks")
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position : position + 4], data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
