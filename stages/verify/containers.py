"""Parse files into (name, value) pairs: JPEG, PNG, WebP, TIFF, AVIF and HEIC.

This shares no code with the writer of results. A name states the position of its value, e.g.
``EXIF 0/Exif/36867`` (directory and tag), ``XMP …/{uri}creator``, ``8BIM 1036``,
``chunk tEXt Author``. The coded samples of the picture itself are not listed.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator

from stages.verify.blocks import Parts, list_exif, list_resources, list_tiff, list_xmp

JPEG_START = b"\xff\xd8\xff"
_XMP, _EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_C2PA = bytes.fromhex("6332706100110010800000AA00389B71")

#: Segments that are listed as raw bytes: marker, first bytes and name.
_NAMES = (
    (0xFE, b"", "comment"),
    (0xE2, b"MPF\0", "MPF index"),
    (0xE2, b"urn:iso:std:iso:ts:21496", "gain map"),
    (0xEE, b"Adobe", "Adobe"),
)

#: A marker that ends the coded samples of a scan.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

#: Parts of the picture itself: chunks of PNG and WebP, items of HEIF.
_PIXELS: tuple[bytes, ...] = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")
_PIXELS += (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_PIXELS += (b"hvc1", b"av01", b"grid", b"iden", b"iovl")
_HEIF_BOXES = (b"ftyp", b"meta", b"mdat", b"free", b"skip")


def list_parts(data: bytes) -> Parts:
    """Parse a file; a damaged one as far as possible. Other formats have no parts."""
    parts = Parts()
    if data.startswith(JPEG_START):
        _list_jpeg(data, parts)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        _list_png(data, parts)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _list_webp(data, parts)
    elif data[4:8] == b"ftyp":
        _list_heif(data, parts)
    else:
        list_tiff(data, parts)
    return parts


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


def _list_jpeg(data: bytes, parts: Parts) -> None:
    segments, end = jpeg_segments(data)
    extended, profile = dict[bytes, dict[int, bytes]](), dict[int, bytes]()
    resources, packets, signed = b"", list[bytes](), set[bytes]()
    for marker, body in segments:
        if marker == 0xE0 and body.startswith(b"JFIF\0"):
            parts.add("JFIF", body[5:12])
            width, height = body[12:14].ljust(2, b"\0")
            parts.add("JFIF thumbnail", body[14 : 14 + 3 * width * height])
        elif marker == 0xE0 and body.startswith(b"JFXX\0"):
            parts.add("JFIF thumbnail", body[6:])
        elif marker == 0xE1 and body.startswith(b"Exif\0"):
            list_exif(body[6:], parts)
        elif marker == 0xE1 and body.startswith(_XMP):
            packets.append(body[len(_XMP) :])
        elif marker == 0xE1 and body.startswith(_EXTENSION):
            rest = body[len(_EXTENSION) :]
            extended.setdefault(rest[:32], {})[int.from_bytes(rest[36:40])] = rest[40:]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            profile[body[12]] = profile.get(body[12], b"") + body[14:]
        elif marker == 0xED and body.startswith(b"Photoshop 3.0\0"):
            resources += body[14:]
        elif marker == 0xEB and body.startswith(b"JP"):
            if _C2PA in body[:64]:
                signed.add(body[2:4])  # the box's number, which its further segments have, too
            parts.add("C2PA" if body[2:4] in signed else "JUMBF", body)
        elif marker == 0xFE or 0xE0 <= marker <= 0xEF:
            names = (
                name for kind, start, name in _NAMES if marker == kind and body.startswith(start)
            )
            parts.add(next(names, f"APP{marker - 0xE0}"), body)
    _list_packets(packets, extended, parts)
    parts.add("ICC", b"".join(profile[number] for number in sorted(profile)))
    list_resources(resources, parts)
    parts.add("behind the picture", data[end:] if end else b"")


def _list_packets(
    packets: list[bytes], extended: dict[bytes, dict[int, bytes]], parts: Parts
) -> None:
    """List XMP packets, and the extended packets that they name."""
    for packet in packets:
        list_xmp(packet, parts)
    for name, part in extended.items():
        if any(name in packet for packet in packets):
            list_xmp(b"".join(part[at] for at in sorted(part)), parts, "extended XMP")


def _list_png(data: bytes, parts: Parts) -> None:
    position, name, turns = 8, b"", True
    while position + 12 <= len(data) and name != b"IEND":
        end = position + 8 + int.from_bytes(data[position : position + 4])
        name = data[position + 4 : position + 8]
        turns &= name != b"IDAT"
        _list_chunk(name, data[position + 8 : end], parts, turns=turns)
        position = end + 4
    parts.add("behind the picture", data[position:])


def _list_webp(data: bytes, parts: Parts) -> None:
    position, end = 12, min(8 + int.from_bytes(data[4:8], "little"), len(data))
    while position + 8 <= end:
        stop = position + 8 + int.from_bytes(data[position + 4 : position + 8], "little")
        _list_chunk(data[position : position + 4], data[position + 8 : stop], parts, turns=False)
        position = stop + stop % 2
    parts.add("behind the picture", data[max(position, end) :])


def _list_chunk(name: bytes, content: bytes, parts: Parts, *, turns: bool) -> None:
    """List a chunk of PNG or WebP; ``turns``: whether viewers follow its EXIF orientation."""
    label = name.decode("latin-1")
    if name in (b"eXIf", b"EXIF"):
        list_exif(content.removeprefix(b"Exif\0\0"), parts, turns=turns)
    elif name == b"XMP ":
        list_xmp(content, parts)
    elif name == b"iCCP":
        parts.add("ICC", _inflated(content.partition(b"\0")[2][1:]))
    elif name in (b"tEXt", b"zTXt", b"iTXt"):
        _list_text(label, content, parts)
    elif name not in _PIXELS:
        parts.add(
            {"ICCP": "ICC", "caBX": "C2PA", "C2PA": "C2PA"}.get(label, f"chunk {label}"), content
        )


def _list_text(name: str, content: bytes, parts: Parts) -> None:
    keyword, _, text = content.partition(b"\0")
    if name == "zTXt":
        text = _inflated(text[1:])
    elif name == "iTXt":
        is_packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
        text = _inflated(text) if is_packed else text
    if keyword == b"XML:com.adobe.xmp":
        list_xmp(text, parts)
    else:
        is_hex = keyword.startswith(b"Raw profile type ")
        value = (_raw_profile(text) if is_hex else b"") or text
        parts.add(f"chunk {name} {keyword.decode('latin-1')}", value)


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


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the contents of each ISO BMFF box (ISO/IEC 14496-12)."""
    while position + 8 <= end:
        size, head = int.from_bytes(data[position : position + 4]), 8
        if size == 1:
            size, head = int.from_bytes(data[position + 8 : position + 16]), 16
        stop = position + size if size else end
        if stop > end or (size and size < head):
            break
        yield data[position + 4 : position + 8], position + head, stop
        position = stop


def _list_heif(data: bytes, parts: Parts) -> None:
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"meta":
            _list_items(data, {k: (a, b) for k, a, b in _boxes(data, start + 4, end)}, parts)
        elif kind not in _HEIF_BOXES:
            parts.add(f"box {kind.decode('latin-1')}", data[start:end])


def _list_items(data: bytes, boxes: dict[bytes, tuple[int, int]], parts: Parts) -> None:
    """List metadata items, the profile, and further pictures (ISO/IEC 23008-12)."""
    _, start, end = next(_boxes(data, *boxes.get(b"iprp", (0, 0))), (b"", 0, 0))
    for kind, at, stop in _boxes(data, start, end):
        is_profile = kind == b"colr" and data[at : at + 4] in (b"prof", b"rICC")
        if is_profile and "ICC" not in parts.values:
            parts.add("ICC", data[at + 4 : stop])
        elif kind == b"auxC" and b"alpha" not in data[at:stop]:
            parts.add("auxiliary picture", data[at + 4 : stop])
    contents = _item_contents(data, boxes)
    start, end = boxes.get(b"iinf", (0, 0))
    start += 6 if data[start : start + 1] == b"\0" else 8
    for _, at, stop in _boxes(data, start, end):
        wide = 4 if data[at] > 2 else 2
        content = contents.get(int.from_bytes(data[at + 4 : at + 4 + wide]), b"")
        kind = data[at + 6 + wide : at + 10 + wide]
        if kind == b"Exif":
            skip = 4 + int.from_bytes(content[:4])
            list_exif(content[skip:].removeprefix(b"Exif\0\0"), parts, turns=False)
        elif kind == b"mime" and b"rdf+xml" in data[at:stop]:
            list_xmp(content, parts)
        elif kind not in _PIXELS:
            parts.add(f"item {kind.decode('latin-1').strip()}", content or b"present")


def _item_contents(data: bytes, boxes: dict[bytes, tuple[int, int]]) -> dict[int, bytes]:
    """Map each item to its bytes, in the file or in the box for small items."""
    stream = io.BytesIO(data[slice(*boxes.get(b"iloc", (0, 0)))])

    def take(size: int) -> int:
        return int.from_bytes(stream.read(size))

    version, _, sizes = take(1), take(3), take(2)
    offset, length, base, index = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15
    wide = 4 if version == 2 else 2
    found: dict[int, bytes] = {}
    for _ in range(take(wide)):
        number, method, _ = take(wide), take(2) & 15 if version else 0, take(2)
        origin = take(base) + (boxes.get(b"idat", (0, 0))[0] if method == 1 else 0)
        found[number] = b""
        for _ in range(take(2)):
            take(index if version else 0)
            start = origin + take(offset)
            found[number] += data[start : start + take(length)]
        if stream.tell() == len(stream.getbuffer()):
            break
    return found
