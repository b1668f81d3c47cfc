"""Read and write PNG chunks, and decide which are kept after an edit (PNG, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

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

_RAW_PROFILE = b"Raw profile type "

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


class RawProfile(NamedTuple):
    """A block of metadata that ImageMagick and others keep as hex in a text chunk.

    Attributes:
        keyword: the chunk's keyword.
        content: the block.
        kind: the kind named in the text, such as ``exif``, ``8bim``, ``iptc``, ``xmp`` or ``APP1``.
    """

    keyword: bytes
    content: bytes
    kind: str


def text_of(name: bytes, content: bytes) -> tuple[bytes, bytes] | None:
    """Keyword and text of a tEXt, zTXt or iTXt chunk; None if it cannot be read."""
    keyword, _, rest = content.partition(b"\0")
    try:
        if name == b"zTXt":
            return keyword, inflated(rest[1:])
        if name == b"iTXt":
            text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
            return keyword, inflated(text) if rest[:1] == b"\1" else text
    except zlib.error:
        return None
    return (keyword, rest) if name == b"tEXt" else None


def raw_profile(name: bytes, content: bytes) -> RawProfile | None:
    """The block of metadata in a text chunk; None if it holds something else."""
    if not content.startswith(_RAW_PROFILE):
        return None
    keyword, text = text_of(name, content) or (b"", b"")
    parts = text.split(b"\n", 3)  # empty, kind, length, hex digits
    try:
        block = bytes.fromhex(parts[-1].decode("ascii"))
    except ValueError:
        return None
    if len(parts) < 4 or not block:
        return None
    return RawProfile(keyword, block, parts[1].decode("latin-1").strip())


def raw_profile_content(name: bytes, profile: RawProfile) -> bytes:
    """Format the content of a text chunk that holds a raw profile."""
    digits = profile.content.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = b"\n%s\n%8d\n%s\n" % (profile.kind.encode("latin-1"), len(profile.content), lines)
    if name == b"zTXt":
        return profile.keyword + b"\0\0" + zlib.compress(text)
    return profile.keyword + (bytes(5) if name == b"iTXt" else b"\0") + text


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
