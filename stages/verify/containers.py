"""Take files apart into (name, value): JPEG, PNG, WebP, TIFF, AVIF and HEIC.

Nothing here is shared with the code that writes results. A name tells where the value lies, e.g.
``EXIF 0/Exif/36867`` (directory and tag), ``XMP …/{uri}creator``, ``IPTC 2:80``, ``8BIM 1036``,
``chunk tEXt Author``. The coded samples of the picture itself are not listed.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

from stages.verify.blocks import Parts, list_block, list_exif, list_resources, list_tiff, list_xmp

JPEG_START = b"\xff\xd8\xff"
_XMP, _EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_C2PA = bytes.fromhex("6332706100110010800000AA00389B71")

#: A marker that ends the coded samples of a scan.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

#: Where a picture or a video begins.
_EMBEDDED = re.compile(rb"\xff\xd8\xff|\0\0\0[\x08-\xff]ftyp(?=[ -~]{4})")

#: Of the picture itself, as its decoder reads them.
_PNG_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")
_WEBP_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_HEIF_PIXELS = (b"hvc1", b"av01", b"grid", b"iden", b"iovl")
_HEIF_BOXES = (b"ftyp", b"meta", b"mdat", b"free", b"skip")


def list_parts(data: bytes) -> Parts:
    """Take a file apart; a damaged one as far as it can be read; of another format, nothing."""
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
    """The markers and contents of a JPEG's segments, and the position behind its end marker.

    That position is 0 if there is no end.
    """
    segments, position = list[tuple[int, bytes]](), start + 2
    while found := _MARKER.search(data, position):
        marker, position = data[found.start() + 1], found.end()
        if marker == 0xD9:
            return segments, position
        length = int.from_bytes(data[position : position + 2], "big")
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
        if marker == 0xE0 and body.startswith((b"JFIF\0", b"JFXX\0")):
            _list_jfif(body, parts)
        elif marker == 0xE1 and body.startswith(b"Exif\0"):
            list_exif(body[6:], parts)
        elif marker == 0xE1 and body.startswith(_XMP):
            packets.append(body[len(_XMP) :])
        elif marker == 0xE1 and body.startswith(_EXTENSION):
            rest = body[len(_EXTENSION) :]
            offset = int.from_bytes(rest[36:40], "big")
            extended.setdefault(rest[:32], {})[offset] = rest[40:]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            profile[body[12]] = profile.get(body[12], b"") + body[14:]
        elif marker == 0xED and body.startswith(b"Photoshop 3.0\0"):
            resources += body[14:]
        elif marker == 0xEB and body.startswith(b"JP"):
            if _C2PA in body[:64]:
                signed.add(body[2:4])  # the box's number, which its further segments have, too
            parts.add("C2PA" if body[2:4] in signed else "JUMBF", body)
        elif marker in (0xDB, *range(0xC0, 0xD0)) and marker not in (0xC4, 0xC8, 0xCC):
            _note_coding(marker, body, parts.coding)
        elif marker == 0xFE or 0xE0 <= marker <= 0xEF:
            parts.add(_name_of(marker, body), body)
    for packet in packets:
        list_xmp(packet, parts, extended)
    parts.add("ICC", b"".join(profile[number] for number in sorted(profile)))
    list_resources(resources, parts)
    _list_trailer(data[end:] if end else b"", parts)


def _list_trailer(data: bytes, parts: Parts) -> None:
    """The pictures and videos behind a JPEG, and what is left without them."""
    left, position = [], 0
    for found in _EMBEDDED.finditer(data):
        start = found.start()
        if start < position:
            continue
        if found[0] == JPEG_START:
            segments, end = jpeg_segments(data, start)
            name, end = "picture behind", end or (len(data) if segments else 0)
        else:
            ends = [stop for _, _, stop in _boxes(data, start, len(data))]
            name, end = "video behind", max(ends, default=len(data))
        if end:
            left.append(data[position:start])
            parts.add(name, data[start:end])
            position = end
    parts.add("behind the picture", b"".join([*left, data[position:]]).strip(b"\0\xff"))


def _name_of(marker: int, body: bytes) -> str:
    if marker == 0xFE:
        return "comment"
    for start, name in ((b"MPF\0", "MPF index"), (b"urn:iso:std:iso:ts:21496", "gain map")):
        if marker == 0xE2 and body.startswith(start):
            return name
    return "Adobe" if marker == 0xEE and body.startswith(b"Adobe") else f"APP{marker - 0xE0}"


def _list_jfif(body: bytes, parts: Parts) -> None:
    """JFIF's density, and the thumbnails of it and of its extension."""
    if body.startswith(b"JFIF\0"):
        parts.add("JFIF", body[5:12])
        width, height, samples = *body[12:14].ljust(2, b"\0"), body[14:]
    else:
        kind, body = body[5:6], body[6:]
        if kind == b"\x10":
            parts.add("JFIF thumbnail", body)
            return
        width, height, samples = *body[:2].ljust(2, b"\0"), body[2:]
        if kind == b"\x11":
            colours, indices = samples[:768], samples[768 : 768 + width * height]
            samples = b"".join(colours[3 * i : 3 * i + 3] for i in indices)
    samples = samples[: 3 * width * height]
    parts.add("JFIF thumbnail", samples)
    parts.raw.append(("JFIF thumbnail", width, height, samples))


def _note_coding(marker: int, body: bytes, coding: dict[str, Any]) -> None:
    if marker != 0xDB:
        coding["kind"] = (marker & 3 == 2, marker > 0xC8, body[:5])
        coding["sampling"] = [
            (body[at], body[at + 1] >> 4, body[at + 1] & 15, body[at + 2])
            for at in range(6, len(body) - 2, 3)
        ]
    while marker == 0xDB and len(body) > 64:
        size = 129 if body[0] >> 4 else 65
        table = body[1:size]
        coding[f"table {body[0] & 15}"] = tuple(
            table
            if size == 65
            else (a << 8 | b for a, b in zip(table[::2], table[1::2], strict=True))
        )
        body = body[size:]


def _list_png(data: bytes, parts: Parts) -> None:
    position, name, is_before = 8, b"", True
    while position + 12 <= len(data) and name != b"IEND":
        size = int.from_bytes(data[position : position + 4], "big")
        name, content = data[position + 4 : position + 8], data[position + 8 : position + 8 + size]
        position += 12 + size
        is_before &= name != b"IDAT"
        if name == b"eXIf":
            list_exif(content, parts, turns=is_before)
        elif name == b"iCCP":
            parts.add("ICC", _inflated(content.partition(b"\0")[2][1:]))
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            _list_text(name, content, parts)
        elif name == b"caBX":
            parts.add("C2PA", content)
        elif name not in _PNG_PIXELS:
            parts.add(f"chunk {name.decode('latin-1')}", content)
    parts.add("behind the picture", data[position:])


def _list_text(name: bytes, content: bytes, parts: Parts) -> None:
    keyword, _, text = content.partition(b"\0")
    if name == b"zTXt":
        text = _inflated(text[1:])
    elif name == b"iTXt":
        flag, text = text[:1], text[2:].partition(b"\0")[2].partition(b"\0")[2]
        text = _inflated(text) if flag == b"\1" else text
    if keyword == b"XML:com.adobe.xmp":
        list_xmp(text, parts)
    elif keyword.startswith(b"Raw profile type ") and (block := _raw_profile(text)):
        list_block(block, parts)
    else:
        parts.add(f"chunk {name.decode()} {keyword.decode('latin-1')}", text)


def _raw_profile(text: bytes) -> bytes:
    """A block that ImageMagick keeps as hex behind two lines; empty if it is something else."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, 64 << 20)
    except zlib.error:
        return data


def _little(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "little")


def _list_webp(data: bytes, parts: Parts) -> None:
    position = 12
    end = min(8 + _little(data, 4), len(data))
    while position + 8 <= end:
        name, size = data[position : position + 4], _little(data, position + 4)
        content = data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
        if name == b"EXIF":
            list_exif(content.removeprefix(b"Exif\0\0"), parts, turns=False)
        elif name == b"XMP ":
            list_xmp(content, parts)
        elif name in (b"ICCP", b"C2PA"):
            parts.add(name.decode().removesuffix("P") if name == b"ICCP" else "C2PA", content)
        elif name not in _WEBP_PIXELS:
            parts.add(f"chunk {name.decode('latin-1')}", content)
    parts.add("behind the picture", data[max(position, end) :])


def _boxes(data: bytes, position: int, end: int) -> list[tuple[bytes, int, int]]:
    """Type, start and end of the contents of each ISO BMFF box (ISO/IEC 14496-12)."""
    found = []
    while position + 8 <= end:
        size, head = int.from_bytes(data[position : position + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        stop = end if size == 0 else position + size
        if size and (size < head or stop > end):
            break
        found.append((data[position + 4 : position + 8], position + head, stop))
        position = stop
    return found


def _list_heif(data: bytes, parts: Parts) -> None:
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"meta":
            _list_items(data, {k: (a, b) for k, a, b in _boxes(data, start + 4, end)}, parts)
        elif kind not in _HEIF_BOXES:
            parts.add(f"box {kind.decode('latin-1')}", data[start:end])


def _list_items(data: bytes, boxes: dict[bytes, tuple[int, int]], parts: Parts) -> None:
    """Metadata items, the profile, and what further pictures there are (ISO/IEC 23008-12)."""
    for kind, start, end in _boxes(data, *boxes.get(b"iprp", (0, 0)))[:1]:
        for what, at, stop in _boxes(data, start, end) if kind == b"ipco" else ():
            if (
                what == b"colr"
                and data[at : at + 4] in (b"prof", b"rICC")
                and "ICC" not in parts.values
            ):
                parts.add("ICC", data[at + 4 : stop])
            elif what == b"auxC" and b"alpha" not in data[at:stop]:
                parts.add("auxiliary picture", data[at + 4 : stop])
    places = _item_places(data, boxes)
    start, end = boxes.get(b"iinf", (0, 0))
    start += 6 if data[start : start + 1] == b"\0" else 8
    for _, at, stop in _boxes(data, start, end):
        wide = data[at] > 2
        number = int.from_bytes(data[at + 4 : at + (8 if wide else 6)], "big")
        kind = data[at + (10 if wide else 8) :][:4]
        content = b"".join(data[a:b] for a, b in places.get(number, ()))
        if kind == b"Exif":
            skip = 4 + int.from_bytes(content[:4], "big")
            list_exif(content[skip:].removeprefix(b"Exif\0\0"), parts, turns=False)
        elif kind == b"mime" and b"rdf+xml" in data[at:stop]:
            list_xmp(content, parts)
        elif kind not in _HEIF_PIXELS:
            parts.add(f"item {kind.decode('latin-1').strip()}", content or b"present")


def _item_places(
    data: bytes, boxes: dict[bytes, tuple[int, int]]
) -> dict[int, list[tuple[int, int]]]:
    """Item -> (start, end) of its extents in the file."""
    at, end = boxes.get(b"iloc", (0, 0))
    idat = boxes.get(b"idat", (0, 0))[0]
    found: dict[int, list[tuple[int, int]]] = {}
    if end - at < 8:
        return found

    def take(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big")

    version, sizes = data[at], data[at + 4 : at + 6]
    at += 6
    offset, length, base, index = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4, sizes[1] & 15
    wide = 4 if version == 2 else 2
    for _ in range(take(wide)):
        number = take(wide)
        method = take(2) & 15 if version else 0
        take(2)
        origin = take(base) + (idat if method == 1 else 0)
        found[number] = []
        for _ in range(take(2)):
            take(index if version else 0)
            start = origin + take(offset)
            found[number].append((start, start + take(length)))
        if at >= end:
            break
    return found
