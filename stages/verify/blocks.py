"""Take metadata apart into (name, value): TIFF and EXIF, XMP, IPTC, Photoshop's resources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as Xml

from stages.verify.tiff import PLACES, POINTERS, Directory, Value, directories, unlisted

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"


@dataclass(slots=True)
class Parts:
    """What a file holds beside the samples of its picture.

    Attributes:
        values: name -> value; equal names are numbered.
        raw: uncompressed previews: name, width, height, samples as RGB.
        orientation: 1 to 8, by what browsers follow: the first EXIF of a JPEG, or of a PNG before
            its samples, or a TIFF's own tag; else 1.
        coding: of a JPEG, what its coefficients mean: kind, sampling and quantisation tables.
    """

    values: dict[str, Value | str] = field(default_factory=dict)
    raw: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    orientation: int = 1
    coding: dict[str, Any] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, value: Value | str) -> None:
        """Add a value; an empty one says nothing."""
        if value:
            number = self._counts[name] = self._counts.get(name, 0) + 1
            self.values[name if number == 1 else f"{name} #{number}"] = value


def list_block(block: bytes, parts: Parts) -> None:
    """A block that only its first bytes tell the kind of."""
    bare = block.removeprefix(b"Exif\0\0")
    if bare.startswith((b"II", b"MM")):
        list_exif(bare, parts, turns=False)
    elif block.startswith(b"8BIM"):
        list_resources(block, parts)
    elif block.startswith(b"\x1c"):
        list_iptc(block, parts)
    else:
        list_xmp(block[max(block.find(b"<"), 0) :], parts)


def list_tiff(data: bytes, parts: Parts) -> None:
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


def list_exif(block: bytes, parts: Parts, *, turns: bool = True) -> None:
    """A bare EXIF block; ``turns``: whether viewers turn the picture as it says."""
    found = directories(block)
    if not found:
        parts.add("EXIF", block)
        return
    if turns and not any(name.startswith("EXIF") for name in parts.values):
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
            list_xmp(raw, parts)
        elif tag == 33723:
            list_iptc(raw or bytes(0), parts) if raw else parts.add(f"{name}/{tag}", value)
        elif tag == 34377 and raw:
            list_resources(raw, parts)
        elif tag == 34675 and raw:
            parts.add("ICC" if name == "EXIF 0" else f"{name}/ICC", raw)
        elif tag == 0xCD41:
            parts.add("C2PA", value)
        elif tag not in PLACES and tag not in POINTERS:
            parts.add(f"{name}/{tag}", raw.rstrip(b"\0") or value)


def _turn(directory: Directory) -> int:
    """The orientation, as browsers read it: one SHORT of 1 to 8; else 1."""
    values = directory.numbers(274)
    is_sound = directory.kinds.get(274) == 3 and len(values) == 1 and values[0] in range(1, 9)
    return values[0] if is_sound else 1


def list_xmp(
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
        path = (
            above
            if element.tag.startswith((_RDF, "{adobe:ns:meta/}"))
            else f"{above}/{element.tag}"
        )
        values = [(f"{path}/{name}", text) for name, text in element.attrib.items()]
        if not len(element):
            values.append((path, element.text or ""))
        for name, text in values:
            part = (
                (extended or {}).get(text.encode("utf-8", "replace")) if _EXTENDED in name else None
            )
            if part:
                list_xmp(b"".join(part[at] for at in sorted(part)), parts)
            elif not name.startswith("/" + _RDF) and "{adobe:ns:meta/}" not in name:
                parts.add(f"XMP {name[1:]}", text)
        stack.extend((child, path) for child in reversed(element))


def list_iptc(data: bytes, parts: Parts) -> None:
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
    parts.add("IPTC rest", data[position:].strip(b"\0"))


def list_resources(data: bytes, parts: Parts) -> None:
    """Photoshop's image resources."""
    position = 0
    while data[position : position + 4] == b"8BIM" and position + 7 <= len(data):
        name = 1 + data[position + 6]
        start = position + 6 + name + name % 2 + 4
        size = int.from_bytes(data[start - 4 : start], "big")
        if start + size > len(data):
            break
        number, content = (
            int.from_bytes(data[position + 4 : position + 6], "big"),
            data[start:][:size],
        )
        position = start + size + size % 2
        if number == 1028:
            list_iptc(content, parts)
        elif number == 1060:
            list_xmp(content, parts)
        elif number == 1058:
            list_exif(content, parts, turns=False)
        else:
            parts.add(f"8BIM {number}", content or b"present")
    parts.add("8BIM rest", data[position:].strip(b"\0"))
