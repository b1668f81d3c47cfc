"""PNG's chunks (PNG, third edition): which survive an edit, and how the file is put together."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

#: Ancillary chunks that say nothing about particular pixels, though the specification marks some
#: of them as unsafe to copy blindly.
_KEPT = frozenset(
    b"gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD pHYs sPLT eXIf tEXt zTXt iTXt tIME".split()
)

#: Of these, the ones that are written in the samples' own mode.
_BOUND_TO_MODE = frozenset({b"sBIT", b"bKGD"})

XMP_KEYWORD = b"XML:com.adobe.xmp\0"


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk's name and content, up to and with IEND."""
    position = len(_SIGNATURE)
    while position + 12 <= len(png):
        size, name = struct.unpack_from(">I4s", png, position)
        yield name, png[position + 8 : position + 8 + size]
        if name == b"IEND":
            return
        position += 12 + size


def is_kept(name: bytes, *, same_mode: bool) -> bool:
    """Whether an ancillary chunk still holds after an edit.

    Args:
        name: of the chunk.
        same_mode: whether colour type and depth stayed.
    """
    if name in _BOUND_TO_MODE and not same_mode:
        return False
    is_ancillary, safe_to_copy = name[:1].islower(), name[3:].islower()
    return name in _KEPT or (is_ancillary and safe_to_copy and name != b"tRNS")


def with_chunks(
    coded: bytes, before: Iterable[tuple[bytes, bytes]], after: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The picture of ``coded``, with other ancillary chunks before and after its pixels."""
    image = [_chunk(*c) for c in chunks(coded) if c[0][:1].isupper() or c[0] == b"tRNS"]
    first, *pixels, last = image
    parts = [first, *(_chunk(*c) for c in before), *pixels, *(_chunk(*c) for c in after), last]
    return _SIGNATURE + b"".join(parts)


def xmp_of(content: bytes) -> bytes | None:
    """The XMP packet of an iTXt chunk; None if it holds something else."""
    if not content.startswith(XMP_KEYWORD):
        return None
    compressed, _, rest = content[18:19], content[19:20], content[20:]
    text = rest.split(b"\0", 2)[-1]
    return zlib.decompress(text) if compressed == b"\1" else text


def xmp_content(packet: bytes) -> bytes:
    """The content of an iTXt chunk that holds an XMP packet."""
    return XMP_KEYWORD + bytes(4) + packet


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )
