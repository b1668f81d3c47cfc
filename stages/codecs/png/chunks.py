"""Read and write PNG chunks, and decide which are kept after an edit (PNG, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stages.codecs.errors import DamagedError, UnsupportedError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

#: Ancillary chunks that do not depend on the pixels, though the specification marks some of them
#: as unsafe to copy.
_KEPT = frozenset(
    b"gAMA cHRM sRGB iCCP cICP mDCV cLLI sBIT bKGD pHYs sPLT eXIf tEXt zTXt iTXt tIME".split()
)

#: Those that depend on the samples' mode: colour type and bit depth.
_BOUND_TO_MODE = frozenset({b"sBIT", b"bKGD"})

#: What counts as sRGB: cICP's primaries of BT.709 with its transfer characteristics, BT.601's or
#: sRGB's (ITU-T H.273), which browsers show alike; the maximum error of gAMA, as libpng has it;
#: cHRM's white, red, green and blue, and the maximum error, as it is stored: in 1/100,000.
_SRGB_CICP, _MAX_GAMMA_ERROR = ((1, 1), (1, 6), (1, 13)), 0.05
_SRGB_CHROMATICITIES = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
_MAX_CHROMATICITY_ERROR = 1_000

#: Maximum bytes of an uncompressed text; Pillow rejects files that hold more.
_MAX_TEXT = 64 << 20

XMP_KEYWORD = b"XML:com.adobe.xmp\0"

#: Maximum count of chunks with samples (100 megapixels in 8 KB chunks take some 40,000), and of
#: others. An empty chunk costs a reader as much as a long one, so a small file can take minutes.
_MAX_SAMPLE_CHUNKS, _MAX_OTHER_CHUNKS = 200_000, 10_000


class Chunk(NamedTuple):
    """A chunk of a file.

    Attributes:
        name: four letters.
        content: without name and checksum; the last one may be cut off.
        crc: the checksum as stored; shorter if it is cut off.
        end: the position after it.
    """

    name: bytes
    content: bytes
    crc: bytes
    end: int

    @property
    def is_sound(self) -> bool:
        """Whether the checksum is right."""
        return self.crc == crc_of(self.name, self.content)


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk's name and content; see :func:`raw_chunks`."""
    for chunk in raw_chunks(png):
        yield chunk.name, chunk.content


def raw_chunks(png: bytes) -> Iterator[Chunk]:
    """Yield each chunk, up to and including IEND.

    Raises:
        UnsupportedError: there are more than in any photo.
    """
    position, pieces, others = len(SIGNATURE), 0, 0
    while position + 12 <= len(png):
        size, name = struct.unpack_from(">I4s", png, position)
        pieces += name in (b"IDAT", b"fdAT")
        others += name not in (b"IDAT", b"fdAT")
        if pieces > _MAX_SAMPLE_CHUNKS or others > _MAX_OTHER_CHUNKS:
            raise UnsupportedError(f"it has more than {max(pieces, others) - 1} chunks")
        start, position = position + 8, position + 12 + size
        yield Chunk(name, png[start : start + size], png[position - 4 : position], position)
        if name == b"IEND":
            return


def bit_depth(png: bytes) -> int:
    """Bits per sample, from IHDR (Apple's files have CgBI before it)."""
    return next((content[8] for name, content in chunks(png) if name == b"IHDR"), 8)


def check_samples(png: bytes) -> None:
    """Verify the checksums of critical chunks, which Pillow ignores.

    Raises:
        DamagedError: one is wrong.
    """
    for chunk in raw_chunks(png):
        name, is_truncated = chunk.name, chunk.end - 4 > len(png)
        is_checked = (
            name[:1].isupper() and name != b"IEND" and not is_truncated
        )  # Pillow reports those
        if is_checked and not chunk.is_sound:
            raise DamagedError(f"the checksum of a chunk {name.decode('latin-1')} is wrong")


def colour_tags(png: bytes) -> str:
    """The chunks that state colours other than sRGB; empty if there are none.

    cICP takes precedence over sRGB, and that over gAMA and cHRM (PNG, third edition, 4.3).
    """
    found = dict(chunks(png))
    if cicp := found.get(b"cICP"):
        return "" if tuple(cicp[:2]) in _SRGB_CICP else "cICP"
    if b"sRGB" in found:
        return ""
    gamma, chromaticities = found.get(b"gAMA", b""), found.get(b"cHRM", b"")
    names = list[str]()
    if len(gamma) == 4 and abs(int.from_bytes(gamma) * 2.2 / 1e5 - 1) > _MAX_GAMMA_ERROR:
        names.append("gAMA")
    if len(chromaticities) == 32:
        points = struct.unpack(">8I", chromaticities)
        pairs = zip(points, _SRGB_CHROMATICITIES, strict=True)
        if any(abs(own - srgb) > _MAX_CHROMATICITY_ERROR for own, srgb in pairs):
            names.append("cHRM")
    return " and ".join(names)


def is_kept(name: bytes, *, same_mode: bool) -> bool:
    """Whether an ancillary chunk is still valid after an edit that may have changed the mode."""
    if name in _BOUND_TO_MODE:
        return same_mode
    return name in _KEPT or name[3:].islower()  # safe to copy


def with_chunks(
    coded: bytes, before: Iterable[tuple[bytes, bytes]], after: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The picture of ``coded``, with other ancillary chunks before and after its pixels."""
    image = [as_chunk(*c) for c in chunks(coded) if c[0][:1].isupper() or c[0] == b"tRNS"]
    first, *pixels, last = image
    parts = [first, *(as_chunk(*c) for c in before), *pixels, *(as_chunk(*c) for c in after), last]
    return SIGNATURE + b"".join(parts)


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


def as_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk with its length and its checksum."""
    return struct.pack(">I", len(content)) + name + content + crc_of(name, content)


def crc_of(name: bytes, content: bytes) -> bytes:
    """The checksum of a chunk."""
    return zlib.crc32(content, zlib.crc32(name)).to_bytes(4, "big")
