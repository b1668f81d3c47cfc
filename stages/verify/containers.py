"""Parse files into (name, value) pairs: JPEG, PNG, WebP, TIFF, AVIF and HEIC.

This shares no code with the writer of results. A name states the position of its value, e.g.
``EXIF 0/Exif/36867`` (directory and tag), ``XMP …/{uri}creator``, ``8BIM 1036``,
``chunk tEXt Author``. The coded samples of the picture itself are not listed.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from contextlib import suppress
from typing import Any

from PIL import Image

from stages.verify.blocks import Metadata, list_exif, list_resources, list_tiff, list_xmp

JPEG_START = b"\xff\xd8\xff"
_XMP, _EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"

#: Segments that are listed as raw bytes: marker, first bytes and name.
_NAMES = (
    (0xFE, b"", "comment"),
    (0xE2, b"MPF\0", "MPF index"),
    (0xE2, b"urn:iso:std:iso:ts:21496", "gain map"),
    (0xEE, b"Adobe", "Adobe"),
)

#: A marker that ends the coded samples of a scan.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

#: Chunks of PNG and WebP that are parts of the picture itself.
_PIXELS: tuple[bytes, ...] = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")
_PIXELS += (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")


def list_metadata(data: bytes) -> Metadata:
    """Parse a file; a damaged one as far as possible. Other formats list none."""
    metadata = Metadata()
    if data.startswith(JPEG_START):
        _list_jpeg(data, metadata)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        _list_png(data, metadata)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _list_webp(data, metadata)
    elif data[4:8] == b"ftyp":
        _list_heif(data, metadata)
    else:
        list_tiff(data, metadata)
    return metadata


def jpeg_segments(data: bytes, start: int = 0) -> tuple[list[tuple[int, bytes]], int]:
    """The markers and contents of a JPEG's segments, and the position after its end marker.

    That position is 0 if there is no end.
    """
    segments, position = list[tuple[int, bytes]](), start + 2
    while found := _MARKER.search(data, position):
        marker, position = data[found.start() + 1], found.end()
        if marker == 0xD9:
            return segments, position
        length = int.from_bytes(data[position : position + 2])
        if marker == 0xD8 or length < 2:
            break
        segments.append((marker, data[position + 2 : position + length]))
        position += length
    return segments, 0


def _list_jpeg(data: bytes, metadata: Metadata) -> None:
    segments, end = jpeg_segments(data)
    extended, profile = dict[bytes, bytes](), dict[int, bytes]()
    resources = b""
    for marker, body in segments:
        if marker == 0xE0 and body.startswith(b"JFIF\0"):
            metadata.add("JFIF", body[5:12])
            width, height = body[12:14].ljust(2, b"\0")
            metadata.add("JFIF thumbnail", body[14 : 14 + 3 * width * height])
        elif marker == 0xE0 and body.startswith(b"JFXX\0"):
            metadata.add("JFIF thumbnail", body[6:])
        elif marker == 0xE1 and body.startswith(b"Exif\0"):
            list_exif(body[6:], metadata)
        elif marker == 0xE1 and body.startswith(_XMP):
            list_xmp(body[len(_XMP) :], metadata)
        elif marker == 0xE1 and body.startswith(_EXTENSION):
            rest = body[len(_EXTENSION) :]
            extended[rest[:40]] = rest[40:]  # by packet and offset
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            profile[body[12]] = profile.get(body[12], b"") + body[14:]
        elif marker == 0xED and body.startswith(b"Photoshop 3.0\0"):
            resources += body[14:]
        elif marker == 0xEB and body.startswith(b"JP"):
            metadata.add("C2PA", body)
        elif marker == 0xFE or 0xE0 <= marker <= 0xEF:
            names = (
                name for kind, start, name in _NAMES if marker == kind and body.startswith(start)
            )
            metadata.add(next(names, f"APP{marker - 0xE0}"), body)
    list_xmp(b"".join(extended[at] for at in sorted(extended)), metadata, "extended XMP")
    metadata.add("ICC", b"".join(profile[number] for number in sorted(profile)))
    list_resources(resources, metadata)
    metadata.add("after the end", data[end:] if end else b"")


def _list_png(data: bytes, metadata: Metadata) -> None:
    position, name, turns = 8, b"", True
    while position + 12 <= len(data) and name != b"IEND":
        end = position + 8 + int.from_bytes(data[position : position + 4])
        name = data[position + 4 : position + 8]
        turns &= name != b"IDAT"
        _list_chunk(name, data[position + 8 : end], metadata, turns=turns)
        position = end + 4
    metadata.add("after the end", data[position:])


def _list_webp(data: bytes, metadata: Metadata) -> None:
    position, end = 12, min(8 + int.from_bytes(data[4:8], "little"), len(data))
    while position + 8 <= end:
        stop = position + 8 + int.from_bytes(data[position + 4 : position + 8], "little")
        _list_chunk(data[position : position + 4], data[position + 8 : stop], metadata, turns=False)
        position = stop + stop % 2
    metadata.add("after the end", data[max(position, end) :])


def _list_chunk(name: bytes, content: bytes, metadata: Metadata, *, turns: bool) -> None:
    """List a chunk of PNG or WebP; ``turns``: whether viewers follow its EXIF orientation."""
    label = name.decode("latin-1")
    if name in (b"eXIf", b"EXIF"):
        list_exif(content.removeprefix(b"Exif\0\0"), metadata, turns=turns)
    elif name == b"XMP ":
        list_xmp(content, metadata)
    elif name == b"iCCP":
        metadata.add("ICC", _inflated(content.partition(b"\0")[2][1:]))
    elif name in (b"tEXt", b"zTXt", b"iTXt"):
        _list_text(label, content, metadata)
    elif name not in _PIXELS:
        metadata.add(
            {"ICCP": "ICC", "caBX": "C2PA", "C2PA": "C2PA"}.get(label, f"chunk {label}"), content
        )


def _list_text(name: str, content: bytes, metadata: Metadata) -> None:
    keyword, _, text = content.partition(b"\0")
    if name == "zTXt":
        text = _inflated(text[1:])
    elif name == "iTXt":
        is_packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
        text = _inflated(text) if is_packed else text
    if keyword == b"XML:com.adobe.xmp":
        list_xmp(text, metadata)
    else:
        is_hex = keyword.startswith(b"Raw profile type ")
        value = (_raw_profile(text) if is_hex else b"") or text
        metadata.add(f"chunk {name} {keyword.decode('latin-1')}", value)


def _raw_profile(text: bytes) -> bytes:
    """Decode a block that ImageMagick stores as hex after two lines; empty if there is none."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, 64 << 20)
    except zlib.error:
        return data


def _list_heif(data: bytes, metadata: Metadata) -> None:
    """List the metadata of an AVIF or HEIC as Pillow reads them, and its further pictures."""
    info = dict[Any, Any]()
    with warnings.catch_warnings(), suppress(Exception):  # damage is found when it is decoded
        warnings.simplefilter("ignore")
        picture = Image.open(io.BytesIO(data), formats=["AVIF", "HEIF"])
        metadata.add("further pictures", bytes(getattr(picture, "n_frames", 1) - 1))
        info = {name: value for name, value in picture.info.items() if value}
        list_exif(info.get("exif", b"").removeprefix(b"Exif\0\0"), metadata, turns=False)
        list_xmp(info.get("xmp", b""), metadata)
        metadata.add("ICC", info.get("icc_profile", b""))
        for name in {"thumbnails", "aux", "depth_images"} & info.keys():
            metadata.add(name, repr(info[name]).encode())
    head = data[:65_536]
    if records := re.findall(rb"av1C..(.)", head, re.DOTALL):  # monochrome: that of alpha
        metadata.add("chroma subsampling", bytes([min(flags[0] & 0x1C for flags in records)]))
    elif "chroma" in info:
        metadata.add("chroma subsampling", str(info["chroma"]).encode())
    if stated := re.search(rb"colrnclx\0(.)\0(.)", head, re.DOTALL):
        # Unspecified (2) and the transfer of BT.709 and BT.601 are shown as sRGB.
        primaries, transfer = stated[1][0], stated[2][0]
        colours = 1 if primaries == 2 else primaries, 13 if transfer in (1, 2, 6) else transfer
        metadata.add("nclx colours", b"" if colours == (1, 13) else bytes(colours))
