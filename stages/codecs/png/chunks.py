"""Read and write PNG chunks, and decide which are kept after an edit (PNG, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

from stages.codecs.errors import DamagedError, UnsupportedError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

#: Ancillary chunks that do not depend on the pixels, though the specification marks some of them
#: as unsafe to copy.
_KEPT = frozenset(
    b"gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD pHYs sPLT eXIf tEXt zTXt iTXt tIME".split()
)

#: Those that cannot contain a picture: they have a fixed form, or are a colour profile.
WITHOUT_PICTURES = frozenset(b"gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD pHYs sPLT tIME".split())

#: Those that depend on the samples' mode.
_BOUND_TO_MODE = frozenset({b"sBIT", b"bKGD"})

#: Maximum bytes of an uncompressed text; Pillow rejects files that hold more.
_MAX_TEXT = 64 << 20

XMP_KEYWORD = b"XML:com.adobe.xmp\0"

#: Maximum count of chunks with samples (100 megapixels in 8 KB chunks take some 40,000), and of
#: others. An empty chunk costs a reader as much as a long one, so a small file can take minutes.
_MAX_SAMPLE_CHUNKS, _MAX_OTHER_CHUNKS = 200_000, 10_000


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk's name and content, up to and including IEND.

    Raises:
        UnsupportedError: there are more than in any photo.
    """
    position, pieces, others = len(_SIGNATURE), 0, 0
    while position + 12 <= len(png):
        size, name = struct.unpack_from(">I4s", png, position)
        pieces += name in (b"IDAT", b"fdAT")
        others += name not in (b"IDAT", b"fdAT")
        if pieces > _MAX_SAMPLE_CHUNKS or others > _MAX_OTHER_CHUNKS:
            raise UnsupportedError(f"it has more than {max(pieces, others) - 1} chunks")
        yield name, png[position + 8 : position + 8 + size]
        if name == b"IEND":
            return
        position += 12 + size


def bit_depth(png: bytes) -> int:
    """Bits per sample, from IHDR (Apple's files have CgBI before it)."""
    return next((content[8] for name, content in chunks(png) if name == b"IHDR"), 8)


def check_samples(png: bytes) -> None:
    """Verify the checksums of critical chunks, which Pillow ignores.

    Raises:
        DamagedError: one is wrong.
    """
    position = len(_SIGNATURE)
    for name, content in chunks(png):
        is_cut = len(content) < int.from_bytes(png[position : position + 4], "big")
        position += 12 + len(content)
        crc = zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big")
        is_checked = name[:1].isupper() and name != b"IEND" and not is_cut  # Pillow reports those
        if is_checked and png[position - 4 : position] != crc:
            raise DamagedError(f"the checksum of a chunk {name.decode('latin-1')} is wrong")


def is_kept(name: bytes, *, same_mode: bool) -> bool:
    """Whether an ancillary chunk is still valid after an edit.

    Args:
        name: the name of the chunk.
        same_mode: whether colour type and bit depth are unchanged.
    """
    if name in _BOUND_TO_MODE and not same_mode:
        return False
    is_ancillary, safe_to_copy = name[:1].islower(), name[3:].islower()
    return name in _KEPT or (is_ancillary and safe_to_copy and name != b"tRNS")


def with_chunks(
    coded: bytes, before: Iterable[tuple[bytes, bytes]], after: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The picture of ``coded``, with other ancillary chunks before and after its pixels."""
    image = [as_chunk(*c) for c in chunks(coded) if c[0][:1].isupper() or c[0] == b"tRNS"]
    first, *pixels, last = image
    parts = [first, *(as_chunk(*c) for c in before), *pixels, *(as_chunk(*c) for c in after), last]
    return _SIGNATURE + b"".join(parts)


def xmp_of(content: bytes) -> bytes | None:
    """The XMP packet of an iTXt chunk; None if it holds something else or is damaged."""
    if not content.startswith(XMP_KEYWORD):
        return None
    compressed, _, rest = content[18:19], content[19:20], content[20:]
    text = rest.split(b"\0", 2)[-1]
    try:
        return inflated(text) if compressed == b"\1" else text
    except zlib.error:
        return None


def inflated(data: bytes) -> bytes:
    """Decompress; data over the maximum size (a zip bomb) are cut off.

    Raises:
        zlib.error: the data are damaged.
    """
    return zlib.decompressobj().decompress(data, _MAX_TEXT)


def xmp_content(packet: bytes) -> bytes:
    """The content of an iTXt chunk that holds an XMP packet."""
    return XMP_KEYWORD + bytes(4) + packet


def text_of(name: bytes, content: bytes) -> bytes:
    """The decoded content of a chunk: uncompressed text, the bytes of a block in hex, or itself.

    ImageMagick and others keep blocks of metadata as hex in a text chunk, after two lines.
    """
    keyword, _, text = content.partition(b"\0")
    try:
        if name == b"zTXt":
            text = inflated(text[1:])
        elif name == b"iTXt":
            is_packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
            text = inflated(text) if is_packed else text
        elif name != b"tEXt":
            return content
        if keyword.startswith(b"Raw profile type "):
            return bytes.fromhex(text.split(b"\n", 3)[-1].decode("ascii"))
    except (zlib.error, ValueError):
        return content
    return text


def trailer_of(png: bytes) -> bytes:
    """The bytes after the last chunk."""
    position = len(_SIGNATURE)
    for _, content in chunks(png):
        position += 12 + len(content)
    return png[position:]


def as_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk with its length and its checksum."""
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )
