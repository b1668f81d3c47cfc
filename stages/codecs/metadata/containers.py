"""The metadata blocks of a file, whatever its format: where JPEG, PNG, WebP and TIFF keep them."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from stages.codecs.errors import DamagedError, RefusedError
from stages.codecs.jpeg_header import read_header
from stages.codecs.metadata.exif import NAME as EXIF
from stages.codecs.metadata.jpeg import ICC, PHOTOSHOP, is_photoshop
from stages.codecs.metadata.tiff import Directory, Tiff
from stages.codecs.metadata.xmp_segments import XMP, extended, is_main
from stages.codecs.png_chunks import inflated

_PNG, _PNG_XMP = b"\x89PNG\r\n\x1a\n", b"XML:com.adobe.xmp\0"
_TIFF_XMP, _TIFF_IPTC, _TIFF_PHOTOSHOP, _TIFF_ICC = 700, 33_723, 34_377, 34_675


@dataclass(slots=True)
class Blocks:
    """What a file holds besides its picture.

    Attributes:
        format: as Pillow names it; empty if it is none of ours.
        exif: bare TIFF-structured blocks.
        xmp: packets, extended ones included.
        photoshop: 8BIM resources, together.
        icc: the colour profile.
        segments: all segments of a JPEG.
        others: by a name of ours.
        trailer: what follows a JPEG.
        trailer_start: its position.
        tiff: a whole TIFF.
    """

    format: str = ""
    exif: list[bytes] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    photoshop: bytes = b""
    icc: bytes = b""
    segments: list[bytes] = field(default_factory=list)
    others: dict[str, bytes] = field(default_factory=dict)
    trailer: bytes = b""
    trailer_start: int = 0
    tiff: Tiff | None = None

    def add(self, name: str, content: bytes) -> None:
        """Add one of the others; several may have the same name."""
        number = 1 + sum(1 for key in self.others if key.rpartition(" ")[0] == name)
        self.others[f"{name} {number}"] = content


def read_blocks(data: bytes) -> Blocks:
    """Take a file apart; a damaged one as far as it can be read."""
    if data[:2] == b"\xff\xd8":
        return _read_jpeg(data)
    if data[:8] == _PNG:
        return _read_png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _read_webp(data)
    tiff = Tiff.of(data)
    return _read_tiff(tiff) if tiff else Blocks()


def _read_jpeg(data: bytes) -> Blocks:
    blocks = Blocks("JPEG")
    try:
        header = read_header(data)
    except (DamagedError, RefusedError):
        return blocks
    blocks.segments, blocks.trailer_start = header.segments, header.body_end
    blocks.trailer = data[header.body_end :]
    for segment in header.segments:
        body = segment[4:]
        if is_main(segment):
            blocks.xmp.append(body[len(XMP) :])
        elif segment[1] == 0xE1 and body.startswith(EXIF):
            blocks.exif.append(body[len(EXIF) :])
        elif is_photoshop(segment):
            blocks.photoshop += body[len(PHOTOSHOP) :]
        elif segment[1] == 0xE2 and body.startswith(ICC):
            blocks.icc += body[len(ICC) :]
    blocks.xmp += extended(header.segments).values()
    return blocks


def _read_png(data: bytes) -> Blocks:
    blocks = Blocks("PNG")
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        name, content = (
            data[position + 4 : position + 8],
            data[position + 8 : position + 8 + length],
        )
        position += 12 + length
        if name == b"eXIf":
            blocks.exif.append(content)
        elif name == b"iCCP":
            blocks.icc = _inflated(content.partition(b"\0")[2][1:])
        elif name == b"iTXt" and content.startswith(_PNG_XMP):
            blocks.xmp.append(_international_text(content[len(_PNG_XMP) :]))
        elif name[:1].islower() and name != b"tRNS":
            blocks.add(name.decode("latin-1"), content)
    return blocks


def _international_text(content: bytes) -> bytes:
    """An iTXt chunk's text, from behind its key: flag, method, language, translated key, text."""
    text = content[2:].partition(b"\0")[2].partition(b"\0")[2]
    return _inflated(text) if content[:1] == b"\1" else text


def _inflated(data: bytes) -> bytes:
    """Unpacked; as it is where it cannot be."""
    with contextlib.suppress(zlib.error):
        return inflated(data)
    return data


def _read_webp(data: bytes) -> Blocks:
    blocks = Blocks("WEBP")
    position = 12
    while position + 8 <= len(data):
        name = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        content = data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
        if name == b"EXIF":
            blocks.exif.append(content.removeprefix(EXIF))
        elif name == b"XMP ":
            blocks.xmp.append(content)
        elif name == b"ICCP":
            blocks.icc = content
        elif name not in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            blocks.add(name.decode("latin-1"), content)
    return blocks


def _read_tiff(tiff: Tiff) -> Blocks:
    blocks = Blocks("TIFF", tiff=tiff)
    for first in tiff.chain()[:1]:
        xmp = tiff.value(first, _TIFF_XMP)
        blocks.xmp += [xmp] if xmp else []
        blocks.photoshop = tiff.value(first, _TIFF_PHOTOSHOP)
        blocks.icc = tiff.value(first, _TIFF_ICC)
        iptc = tiff.value(first, _TIFF_IPTC)
        if iptc:
            blocks.add("iptc", iptc)
    return blocks


def tags(tiff: Tiff) -> Iterator[tuple[str, Directory]]:
    """The directories of a TIFF structure that say something of its first picture, named."""
    for first in tiff.chain()[:1]:
        yield "IFD0", first
        for inner in tiff.below(first, 0x8769)[:1]:
            yield "Exif", inner
            for interoperability in tiff.below(inner, 0xA005)[:1]:
                yield "Interoperability", interoperability
        for gps in tiff.below(first, 0x8825)[:1]:
            yield "GPS", gps
