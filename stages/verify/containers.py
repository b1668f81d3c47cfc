"""Take files apart into (name, value): JPEG, PNG, WebP, TIFF, AVIF and HEIC, with walkers of its own.

Nothing here is shared with the code that writes results. A name tells where the value lies, e.g.
``EXIF 0/Exif/36867`` (directory and tag), ``XMP …/{uri}creator``, ``IPTC 2:80``, ``8BIM 1036``,
``chunk tEXt Author``. The coded samples of the picture itself are not listed.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as Xml

from stages.verify.tiff import PLACES, POINTERS, Directory, Value, directories, unlisted

JPEG_START = b"\xff\xd8\xff"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
_XMP, _EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_C2PA = bytes.fromhex("6332706100110010800000AA00389B71")

#: A marker that ends the coded samples of a scan.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

#: Of the picture itself, as its decoder reads them.
_PNG_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS")
_WEBP_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_HEIF_PIXELS = (b"hvc1", b"av01", b"grid", b"iden", b"iovl")
_HEIF_BOXES = (b"ftyp", b"meta", b"mdat", b"free", b"skip")


@dataclass(slots=True)
class Parts:
    """What a file holds beside the samples of its picture.

    Attributes:
        values: name -> value; equal names are numbered.
        raw: uncompressed previews: name, width, height, samples as RGB.
        orientation: by EXIF, or the TIFF's own tag; 1 to 8.
        coding: of a JPEG, what its coefficients mean: kind, sampling and quantisation tables.
    """

    values: dict[str, Value | str] = field(default_factory=dict)
    raw: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    orientation: int = 1
    coding: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: Value | str) -> None:
        """Add a value; one that is empty, or zeros only, says nothing."""
        if not value or (isinstance(value, bytes) and not value.strip(b"\0")):
            return
        number = 1
        unique = name
        while unique in self.values:
            number += 1
            unique = f"{name} #{number}"
        self.values[unique] = value


def list_parts(data: bytes) -> Parts:
    """Take a file apart; a damaged one as far as it can be read, one of another format not at all."""
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
        _list_tiff(data, parts)
    return parts


# ---- JPEG (ITU-T T.81) ----


def jpeg_segments(data: bytes, start: int = 0) -> tuple[list[tuple[int, bytes]], int]:
    """The markers and contents of a JPEG's segments, and the position behind its end marker.

    That position is 0 if there is no end.
    """
    segments, position = [], start + 2
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
            _list_exif(body[6:], parts)
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
        _list_xmp(packet, parts, extended)
    parts.add("ICC", b"".join(profile[number] for number in sorted(profile)))
    _list_resources(resources, parts)
    trailer = data[end:] if end else b""
    parts.add("behind the picture", trailer)


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
            table if size == 65 else (a << 8 | b for a, b in zip(table[::2], table[1::2], strict=True))
        )
        body = body[size:]


# ---- PNG, WebP, AVIF and HEIC ----


def _list_png(data: bytes, parts: Parts) -> None:
    position, name = 8, b""
    while position + 12 <= len(data) and name != b"IEND":
        size = int.from_bytes(data[position : position + 4], "big")
        name, content = data[position + 4 : position + 8], data[position + 8 : position + 8 + size]
        position += 12 + size
        if name == b"eXIf":
            _list_exif(content, parts)
        elif name == b"iCCP":
            parts.add("ICC", _inflated(content.partition(b"\0")[2][1:]))
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            _list_text(name, content, parts)
        elif name == b"caBX":
            parts.add("C2PA", content)
        elif name not in _PNG_PIXELS:
            parts.add(f"chunk {name.decode('latin-1')}", content or b"present")
    parts.add("behind the picture", data[position:])


def _list_text(name: bytes, content: bytes, parts: Parts) -> None:
    keyword, _, text = content.partition(b"\0")
    if name == b"zTXt":
        text = _inflated(text[1:])
    elif name == b"iTXt":
        flag, text = text[:1], text[2:].partition(b"\0")[2].partition(b"\0")[2]
        text = _inflated(text) if flag == b"\1" else text
    if keyword == b"XML:com.adobe.xmp":
        _list_xmp(text, parts)
    elif keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
        try:
            block = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
        except ValueError:
            block = text
        _list_exif(block.removeprefix(b"Exif\0\0"), parts, turns=False)
    else:
        parts.add(f"chunk {name.decode()} {keyword.decode('latin-1')}", text or b"present")


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
            _list_exif(content.removeprefix(b"Exif\0\0"), parts)
        elif name == b"XMP ":
            _list_xmp(content, parts)
        elif name in (b"ICCP", b"C2PA"):
            parts.add(name.decode().removesuffix("P") if name == b"ICCP" else "C2PA", content)
        elif name not in _WEBP_PIXELS:
            parts.add(f"chunk {name.decode('latin-1')}", content or b"present")
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
            if what == b"colr" and data[at : at + 4] in (b"prof", b"rICC") and "ICC" not in parts.values:
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
            _list_exif(content[skip:].removeprefix(b"Exif\0\0"), parts, turns=False)
        elif kind == b"mime" and b"rdf+xml" in data[at:stop]:
            _list_xmp(content, parts)
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


# ---- TIFF and EXIF ----


def _list_tiff(data: bytes, parts: Parts) -> None:
    """All pages; of the edited one, the first that is no smaller copy, as if it were an EXIF's."""
    found = directories(data)
    chain = [each for each in found if "/" not in each.name]
    main = next((each for each in chain if not each.number(254) & 1), None)
    if main is None:
        return
    parts.orientation = _turn(main)
    counts = {"page": 1, "copy": 0}
    names: dict[str, str] = {}
    for directory in found:
        above, _, below = directory.name.partition("/")
        is_sub = below.startswith("Sub") and above == main.name
        is_copy = directory.number(256) < main.number(256) if is_sub else directory.number(254) & 1
        if directory is main:
            names[above] = "EXIF 0"
        elif not below or (is_sub and is_copy):
            kind = "copy" if is_copy else "page"
            counts[kind] += 1
            names[directory.name] = f"{kind} {counts[kind]}"
        name = names.get(directory.name) or f"{names[above]}/{below}"
        _list_tags(directory, name, parts)
        if directory is not main:
            parts.add(f"{name}/samples", directory.samples(data))


def _list_exif(block: bytes, parts: Parts, *, turns: bool = True) -> None:
    found = directories(block)
    if not found:
        parts.add("EXIF", block)
        return
    if turns:
        parts.orientation = _turn(found[0])
    for directory in found:
        name = f"EXIF {directory.name}"
        _list_tags(directory, name, parts)
        samples = directory.samples(block)
        parts.add(f"{name}/samples", samples)
        width, height = directory.number(256), directory.number(257)
        if directory.numbers(259) == (1,) and len(samples) == 3 * width * height:
            parts.raw.append((name, width, height, samples))
    parts.add("EXIF unlisted", unlisted(block, found))


def _list_tags(directory: Directory, name: str, parts: Parts) -> None:
    for tag, value in directory.tags.items():
        raw = value if isinstance(value, bytes) else b""
        if tag == 700 and raw:
            _list_xmp(raw, parts)
        elif tag == 33723:
            _list_iptc(raw or bytes(0), parts) if raw else parts.add(f"{name}/{tag}", value)
        elif tag == 34377 and raw:
            _list_resources(raw, parts)
        elif tag == 34675 and raw:
            parts.add("ICC" if name == "EXIF 0" else f"{name}/ICC", raw)
        elif tag == 0xCD41:
            parts.add("C2PA", value)
        elif tag not in PLACES and tag not in POINTERS:
            parts.add(f"{name}/{tag}", raw.rstrip(b"\0") or value)


def _turn(directory: Directory) -> int:
    value = directory.number(274)
    return value if value in range(1, 9) else 1


# ---- XMP, IPTC and Photoshop's resources ----


def _list_xmp(
    packet: bytes, parts: Parts, extended: dict[bytes, dict[int, bytes]] | None = None
) -> None:
    """A property a line: its path of names, and its text; of what cannot be parsed, all of it."""
    try:
        root = Xml.fromstring(packet.strip(b"\0 \t\r\n"))  # noqa: S314 - expat bounds expansion
    except (Xml.ParseError, ValueError, LookupError):
        parts.add("XMP", packet.strip())
        return
    stack = [(root, "")]
    while stack:
        element, above = stack.pop()
        path = above if element.tag.startswith((_RDF, "{adobe:ns:meta/}")) else f"{above}/{element.tag}"
        values = [(f"{path}/{name}", text) for name, text in element.attrib.items()]
        if not len(element):
            values.append((path, element.text or ""))
        for name, text in values:
            part = (extended or {}).get(text.encode("utf-8", "replace")) if _EXTENDED in name else None
            if part:
                _list_xmp(b"".join(part[at] for at in sorted(part)), parts)
            elif not name.startswith("/" + _RDF) and "{adobe:ns:meta/}" not in name:
                parts.add(f"XMP {name[1:]}", text)
        stack.extend((child, path) for child in reversed(element))


def _list_iptc(data: bytes, parts: Parts) -> None:
    """Data sets (IIM 4.2)."""
    position = 0
    while data[position : position + 1] == b"\x1c" and position + 5 <= len(data):
        size, start = int.from_bytes(data[position + 3 : position + 5], "big"), position + 5
        if size & 0x8000:
            start += size & 0x7FFF
            size = int.from_bytes(data[position + 5 : start], "big")
        value = data[start : start + size]
        parts.add(f"IPTC {data[position + 1]}:{data[position + 2]}", value or b"present")
        position = start + size
    parts.add("IPTC rest", data[position:])


def _list_resources(data: bytes, parts: Parts) -> None:
    """Photoshop's image resources."""
    position = 0
    while data[position : position + 4] == b"8BIM" and position + 7 <= len(data):
        name = 1 + data[position + 6]
        start = position + 6 + name + name % 2 + 4
        size = int.from_bytes(data[start - 4 : start], "big")
        if start + size > len(data):
            break
        number, content = int.from_bytes(data[position + 4 : position + 6], "big"), data[start:][:size]
        position = start + size + size % 2
        if number == 1028:
            _list_iptc(content, parts)
        elif number == 1060:
            _list_xmp(content, parts)
        elif number == 1058:
            _list_exif(content, parts, turns=False)
        else:
            parts.add(f"8BIM {number}", content or b"present")
    parts.add("8BIM rest", data[position:])
