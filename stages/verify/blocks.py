"""Parse metadata into (name, value) pairs: TIFF and EXIF, XMP, Photoshop's resources.

Pillow reads the directories of TIFF files and EXIF blocks.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import numpy.typing as npt
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"

#: Parts of an XMP packet that do not describe the photo.
_XMP_FRAME = ("{adobe:ns:meta/}", "{http://ns.adobe.com/xmp/note/}HasExtendedXMP")


#: numpy's name of a value's numbers, by TIFF's number of their type; rationals are pairs of them.
_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "u1", 7: "u1", 8: "i2", 9: "i4", 10: "i4"}
_TYPES |= {11: "f4", 12: "f8", 13: "u4", 16: "u8"}

#: Tags that point to further directories.
_POINTERS = {0x8769: "Exif", 0x8825: "GPS", 0xA005: "Interoperability", 0x14A: "Sub"}

#: Tags with positions and lengths of samples: strips, tiles, JPEG.
_SAMPLES = ((273, 279), (324, 325), (513, 514))
_PLACES = frozenset(tag for pair in _SAMPLES for tag in pair)

_MAX_DIRECTORIES = 2000


@dataclass(slots=True)
class Metadata:
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


def list_tiff(data: bytes, metadata: Metadata) -> None:
    """List all pages; the edited one, the first that is no smaller copy, is named like EXIF."""
    found = _directories(data)
    main = next((each for each in found if "/" not in each.name and not each.number(254) & 1), None)
    if main is None:
        return
    metadata.orientation = _turn(main)
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
        _list_tags(directory, name, metadata)
        if directory is not main:
            metadata.add(f"{name}/samples", directory.samples(data))


def list_exif(block: bytes, metadata: Metadata, *, turns: bool = True) -> None:
    """List a bare EXIF block; ``turns``: whether viewers follow its orientation."""
    found = _directories(block)
    if not found:
        metadata.add("EXIF", block)
        return
    if turns and not metadata.orientation:
        metadata.orientation = _turn(found[0])
    for directory in found:
        name = f"EXIF {directory.name}"
        _list_tags(directory, name, metadata)
        samples, count = directory.samples(block), directory.number(256) * directory.number(257)
        is_raw = directory.numbers(259) == [1] and len(samples) == 3 * count
        metadata.add(f"{name}/{'raw samples' if is_raw else 'samples'}", samples)
    metadata.add("EXIF unlisted", _unlisted(block, found))


def _list_tags(directory: Directory, name: str, metadata: Metadata) -> None:
    inner: dict[int, Callable[[bytes, Metadata], None]]
    inner = {700: list_xmp, 34377: list_resources}
    named = {34675: "ICC" if name == "EXIF 0" else f"{name}/ICC", 0xCD41: "C2PA"}
    for tag, values in directory.tags.items():
        value, is_bytes = values.tobytes(), values.dtype == np.uint8
        if tag in inner and is_bytes:
            inner[tag](value, metadata)
        elif tag not in _PLACES and tag not in _POINTERS:
            text = value.rstrip(b"\0") if is_bytes and tag not in named else b""
            metadata.add(named.get(tag, f"{name}/{tag}"), text or value)


def _turn(directory: Directory) -> int:
    """The orientation, as browsers read it: one SHORT of 1 to 8; else 1."""
    values = directory.tags.get(274, np.empty(0))
    is_valid = values.dtype == np.uint16 and len(values) == 1 and values[0] in range(1, 9)
    return int(values[0]) if is_valid else 1


def list_xmp(packet: bytes, metadata: Metadata, label: str = "XMP") -> None:
    """List each property as path and text; a packet that cannot be parsed as one value."""
    try:
        root = Xml.fromstring(packet.strip(b"\0 \t\r\n"))  # noqa: S314 - expat bounds expansion
    except (Xml.ParseError, ValueError, LookupError):
        metadata.add(label, packet.strip())
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
                metadata.add(f"{label} {name[1:]}", text.encode("utf-8", "replace"))
        # In a hostile packet, millions are empty.
        filled = (each for each in reversed(element) if len(each) or each.text or each.keys())
        stack.extend((child, path) for child in filled)


def list_resources(data: bytes, metadata: Metadata) -> None:
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
        metadata.add(f"8BIM {number}", data[start:end] or b"present")
    metadata.add("8BIM rest", data[position:].strip(b"\0"))


@dataclass(frozen=True, slots=True)
class Directory:
    """One IFD.

    Attributes:
        name: ``0`` for the first, ``1`` for the next one in the chain, ``0/Exif`` below that.
        place: its position, start and end.
        raw: values by tag number, as they are in the file.
        tags: the same as numbers, little-endian.
    """

    name: str
    place: tuple[int, int]
    raw: dict[int, bytes]
    tags: dict[int, npt.NDArray[Any]]

    def numbers(self, tag: int) -> list[int]:
        """A tag's integers."""
        values = self.tags.get(tag)
        return [] if values is None or values.dtype.kind == "f" else [*map(int, values)]

    def number(self, tag: int) -> int:
        """A tag's first integer; 0 if there is none."""
        return next(iter(self.numbers(tag)), 0)

    def samples(self, data: bytes) -> bytes:
        """All strips, tiles, and the JPEG that the directory describes."""
        pairs = [(self.numbers(starts), self.numbers(sizes)) for starts, sizes in _SAMPLES]
        places = [place for pair in pairs for place in zip(*pair, strict=False)]
        return b"".join(data[start : start + size] for start, size in places)


def _directories(data: bytes) -> list[Directory]:
    """All directories of the chain, each followed by those below it; none if it is no TIFF.

    Damaged ones are read as far as they lie inside the data.
    """
    found: list[Directory] = []
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return found
    seen, at = set[int](), int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big")
    while at and at not in seen and len(found) < _MAX_DIRECTORIES:
        seen.add(at)
        at = _read_directory(data, at, str(len(seen) - 1), found)
    return found


def _read_directory(data: bytes, at: int, name: str, found: list[Directory]) -> int:
    """Add a directory and those below it; returns the position of the next one."""
    table, stream = ImageFileDirectory_v2(data[:8]), io.BytesIO(data)
    stream.seek(at)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damage
        table.load(stream)
    raw, order = dict(table._tagdata), "<" if data[:1] == b"I" else ">"
    values = {
        tag: np.frombuffer(value, order + _TYPES.get(table.tagtype[tag], "u1"))
        for tag, value in raw.items()
    }
    tags = {tag: value.astype(value.dtype.newbyteorder("<")) for tag, value in values.items()}
    directory = Directory(name, (at, stream.tell()), raw, tags)
    found.append(directory)
    for tag, label in _POINTERS.items() if name.count("/") < 3 else ():
        for number, place in enumerate(directory.numbers(tag), 1):
            if 0 < place < len(data) and len(found) < _MAX_DIRECTORIES:
                below = f"{name}/{label} {number}" if label == "Sub" else f"{name}/{label}"
                _read_directory(data, place, below, found)
    return table.next or 0


def _unlisted(data: bytes, found: list[Directory]) -> bytes:
    """What is left without directories, values and zeros: undocumented data of a camera."""
    left = bytearray(data)
    for start, end in (directory.place for directory in found):
        left[start:end] = bytes(len(left[start:end]))
    rest = bytes(left[8:])
    values = {
        each for directory in found for each in (*directory.raw.values(), directory.samples(data))
    }
    for value in sorted(values, key=len, reverse=True):
        rest = rest.replace(value, b"") if len(value) > 4 else rest
    return rest.replace(b"\0", b"")
