"""Samsung's trailer (SEF): named blocks of data behind a JPEG, and their directory.

The directory ``SEFH`` gives for each block its distance backwards and its length; ``SEFT`` ends the
file. Only blocks that hold a video or a JPEG are taken out, the others (time, scene) stay.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEAD, _TAIL = b"SEFH", b"SEFT"
#: Zero and type, distance from the directory backwards, length.
_ENTRY = struct.Struct("<4sII")


@dataclass(frozen=True, slots=True)
class Trailer:
    """A trailer of this kind.

    Attributes:
        start: of its first block.
        version: of the format, as stored.
        blocks: type as stored, and content.
    """

    start: int
    version: bytes
    blocks: list[tuple[bytes, bytes]]

    def with_blocks(self, blocks: list[tuple[bytes, bytes]]) -> bytes:
        """The trailer with other blocks; nothing if there are none."""
        if not blocks:
            return b""
        total, rows = sum(len(content) for _, content in blocks), []
        for kind, content in blocks:
            rows.append(_ENTRY.pack(kind, total, len(content)))
            total -= len(content)
        head = _HEAD + self.version + len(blocks).to_bytes(4, "little") + b"".join(rows)
        contents = [content for _, content in blocks]
        return b"".join([*contents, head, len(head).to_bytes(4, "little"), _TAIL])


def find_trailer(data: bytes) -> Trailer | None:
    """The trailer at the end of the data; None if there is none that makes sense."""
    end = len(data)
    if end < 20 or data[-4:] != _TAIL:
        return None
    head = end - 8 - int.from_bytes(data[-8:-4], "little")
    if head < 0 or data[head : head + 4] != _HEAD:
        return None
    count = int.from_bytes(data[head + 8 : head + 12], "little")
    if head + 12 + count * _ENTRY.size > end - 8:
        return None
    rows = [_ENTRY.unpack_from(data, head + 12 + i * _ENTRY.size) for i in range(count)]
    if any(back > head or length > back for _, back, length in rows):
        return None
    blocks = [(kind, data[head - back : head - back + size]) for kind, back, size in rows]
    start = min((head - back for _, back, _ in rows), default=head)
    if sum(len(content) for _, content in blocks) > end:
        return None  # blocks within each other
    return Trailer(start, data[head + 4 : head + 8], blocks)
