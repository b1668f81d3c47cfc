"""Parse metadata into (name, value) pairs: TIFF, EXIF, XMP, Photoshop's resources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.etree import ElementTree as Xml

import numpy as np

from stages.verify.tiff import PLACES, POINTERS, Directory, directories, unlisted

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"

#: Parts of an XMP packet that do not describe the photo.
_XMP_FRAME = ("{adobe:ns:meta/}", "{http://ns.adobe.com/xmp/note/}HasExtendedXMP")


@dataclass(slots=True)
class Parts:
    """The contents of a file, except the samples of its picture.

    Attributes:
        values: name -> value; equal names are numbered.
        orientation: 1 to 8, as browsers read it: from the first EXIF of a JPEG, or of a PNG before
            its samples, or from a TIFF's own tag; 0: there is none.
    """

    values: dict[str, bytes] = field(default_factory=dict)
    orientation: int = 0
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, value: bytes) -> None:
        """Add a value, unless it is empty."""
        if value:
            self._counts[name] += 1
            number = self._counts[name]
            self.values[name if number == 1 else f"{name} #{number}"] = value


def list_tiff(data: bytes, parts: Parts) -> None:
    """List all pages; the edited one, the first that is no smaller copy, is named like EXIF."""
    found = directories(data)
    main = next((each for each in found if "/" not in each.name and not each.number(254) & 1), None)
    if main is None:
        return
    parts.orientation = _turn(main)
    names, counts = {main.name: "EXIF 0"}, Counter(page=1)
    for directory in found:
        above, _, below = directory.name.partition("/")
        is_sub = below.startswith("Sub") and above == main.name
        is_copy = is_sub or directory.number(254) & 1
        if directory is not main and (not below or is_sub):
            kind = "copy" if is_copy else "page"
            counts[kind] += 1
            names[directory.name] = f"{kind} {counts[kind]}"
        name = names.get(directory.name) or f"{names[above]}/{below}"
        _list_tags(directory, name, parts)
        if directory is not main:
            parts.add(f"{name}/samples", directory.samples(data))


def list_exif(block: bytes, parts: Parts, *, turns: bool = True) -> None:
    """List a bare EXIF block; ``turns``: whether viewers follow its orientation."""
    found = directories(block)
    if not found:
        parts.add("EXIF", block)
        return
    if turns and not parts.orientation:
        parts.orientation = _turn(found[0])
    for directory in found:
        name = f"EXIF {directory.name}"
        _list_tags(directory, name, parts)
        samples, count = directory.samples(block), directory.number(256) * directory.number(257)
        is_raw = directory.numbers(259) == [1] and len(samples) == 3 * count
        parts.add(f"{name}/{'raw samples' if is_raw else 'samples'}", samples)
    parts.add("EXIF unlisted", unlisted(block, found))


def _list_tags(directory: Directory, name: str, parts: Parts) -> None:
    inner: dict[int, Callable[[bytes, Parts], None]]
    inner = {700: list_xmp, 34377: list_resources}
    named = {34675: "ICC" if name == "EXIF 0" else f"{name}/ICC", 0xCD41: "C2PA"}
    for tag, values in directory.tags.items():
        value, is_bytes = values.tobytes(), values.dtype == np.uint8
        if tag in inner and is_bytes:
            inner[tag](value, parts)
        elif tag not in PLACES and tag not in POINTERS:
            text = value.rstrip(b"\0") if is_bytes and tag not in named else b""
            parts.add(named.get(tag, f"{name}/{tag}"), text or value)


def _turn(directory: Directory) -> int:
    """The orientation, as browsers read it: one SHORT of 1 to 8; else 1."""
    values = directory.tags.get(274, np.empty(0))
    is_valid = values.dtype == np.uint16 and len(values) == 1 and values[0] in range(1, 9)
    return int(values[0]) if is_valid else 1


def list_xmp(packet: bytes, parts: Parts, label: str = "XMP") -> None:
    """List each property as path and text; a packet that cannot be parsed as one value."""
    try:
        root = Xml.fromstring(packet.strip(b"\0 \t\r\n"))  # noqa: S314 - expat bounds expansion
    except (Xml.ParseError, ValueError, LookupError):
        parts.add(label, packet.strip())
        return
    stack = [(root, "")]
    while stack:
        element, above = stack.pop()
        is_frame = element.tag.startswith((_RDF, _XMP_FRAME[0]))
        path = above if is_frame else f"{above}/{element.tag}"
        values = [(f"{path}/{name}", text) for name, text in element.attrib.items()]
        if not len(element):
            values.append((path, element.text or ""))
        for name, text in values:
            if not name.startswith("/" + _RDF) and not any(each in name for each in _XMP_FRAME):
                parts.add(f"{label} {name[1:]}", text.encode("utf-8", "replace"))
        stack.extend((child, path) for child in reversed(element))


def list_resources(data: bytes, parts: Parts) -> None:
    """List Photoshop's image resources."""
    position = 0
    while data[position : position + 4] == b"8BIM" and position + 7 <= len(data):
        number = int.from_bytes(data[position + 4 : position + 6])
        name = 1 + data[position + 6]
        start = position + 6 + name + name % 2 + 4
        end = start + int.from_bytes(data[start - 4 : start])
        if end > len(data):
            break
        position = end + (end - start) % 2
        parts.add(f"8BIM {number}", data[start:end] or b"present")
    parts.add("8BIM rest", data[position:].strip(b"\0"))
