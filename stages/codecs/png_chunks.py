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

_RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")

#: Bytes of a text, once unpacked; Pillow refuses files that hold more.
_MAX_TEXT = 64 << 20

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
    """The XMP packet of an iTXt chunk; None if it holds something else, or what cannot be read."""
    if not content.startswith(XMP_KEYWORD):
        return None
    compressed, _, rest = content[18:19], content[19:20], content[20:]
    text = rest.split(b"\0", 2)[-1]
    try:
        return inflated(text) if compressed == b"\1" else text
    except zlib.error:
        return None


def inflated(data: bytes) -> bytes:
    """Unpacked; the beginning of what is longer than any text, which is a bomb.

    Raises:
        zlib.error: it is damaged.
    """
    return zlib.decompressobj().decompress(data, _MAX_TEXT)


def xmp_content(packet: bytes) -> bytes:
    """The content of an iTXt chunk that holds an XMP packet."""
    return XMP_KEYWORD + bytes(4) + packet


def raw_profile(name: bytes, content: bytes) -> tuple[bytes, bytes] | None:
    """Keyword and EXIF block of a text chunk in which ImageMagick and others keep EXIF as hex."""
    keyword, _, rest = content.partition(b"\0")
    if name not in (b"tEXt", b"zTXt") or keyword not in _RAW_EXIF:
        return None
    try:
        text = inflated(rest[1:]) if name == b"zTXt" else rest
        block = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except (zlib.error, ValueError):
        return None
    return (keyword, block) if block[:4] in (b"Exif", b"II*\0", b"MM\0*") else None


def raw_profile_content(name: bytes, keyword: bytes, block: bytes) -> bytes:
    """The content of such a chunk."""
    digits = block.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = b"\nexif\n%8d\n%s\n" % (len(block), lines)
    return keyword + (b"\0\0" + zlib.compress(text) if name == b"zTXt" else b"\0" + text)


def trailer_of(png: bytes) -> bytes:
    """What follows the last chunk."""
    position = len(_SIGNATURE)
    for _, content in chunks(png):
        position += 12 + len(content)
    return png[position:]


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )
