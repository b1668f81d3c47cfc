"""List the tags of a TIFF structure: a TIFF or BigTIFF file, or an EXIF block (TIFF 6.0, EXIF 3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Bytes of a value, and its letter for ``struct``, by type; types without a letter stay bytes.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_LETTERS = {3: "H", 4: "I", 5: "I", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d", 13: "I"}
_LETTERS |= {16: "Q", 17: "q", 18: "Q"}

#: Tags that point to further directories.
POINTERS = {0x8769: "Exif", 0x8825: "GPS", 0xA005: "Interoperability", 0x14A: "Sub"}

#: Where samples lie, and how long they are: of strips, of tiles, of a JPEG.
_SAMPLES = ((273, 279), (324, 325), (513, 514))
PLACES = frozenset(tag for pair in _SAMPLES for tag in pair)

_MAX_DIRECTORIES = 2000

Value = bytes | tuple[float, ...]


@dataclass(slots=True)
class Directory:
    """One IFD.

    Attributes:
        name: ``0`` for the first, ``1`` for the next one in the chain, ``0/Exif`` below that.
        tags: number -> its bytes, or its numbers.
        ranges: positions (start, end) of the directory, of its values and of its samples.
    """

    name: str
    tags: dict[int, Value]
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def number(self, tag: int) -> int:
        """A tag's first number; 0 if there is none."""
        return next(iter(self.numbers(tag)), 0)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """A tag's numbers."""
        value = self.tags.get(tag, ())
        return tuple(map(int, value))

    def samples(self, data: bytes) -> bytes:
        """All strips, tiles, and the JPEG that the directory describes."""
        return b"".join(data[start:end] for start, end in self._places())

    def _places(self) -> Iterator[tuple[int, int]]:
        for starts, sizes in _SAMPLES:
            for start, size in zip(self.numbers(starts), self.numbers(sizes), strict=False):
                yield start, start + size


def directories(data: bytes) -> list[Directory]:
    """All directories of the chain, each followed by those below it; none if it is no TIFF.

    Damaged ones are read as far as they lie inside the data.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order or len(data) < 8:
        return []
    version = struct.unpack_from(order + "H", data, 2)[0]
    if version not in (42, 43):
        return []
    found: list[Directory] = []
    try:
        first = _unpack(order + ("Q" if version == 43 else "I"), data, 8 if version == 43 else 4)
        _read_chain(data, order, version == 43, first, found)
    except struct.error:  # it ends in the middle of a directory
        pass
    return found


def _unpack(layout: str, data: bytes, position: int) -> int:
    return int(struct.unpack_from(layout, data, position)[0])


def _read_chain(data: bytes, order: str, big: bool, at: int, found: list[Directory]) -> None:
    seen = set[int]()
    while at and at not in seen and len(found) < _MAX_DIRECTORIES:
        seen.add(at)
        at = _read_directory(data, order, big, at, str(len(seen) - 1), found)


def _read_directory(
    data: bytes, order: str, big: bool, at: int, name: str, found: list[Directory]
) -> int:
    """Add the directory at a position and those below it; returns the position of the next one."""
    head, word, row = ("Q", "Q", 20) if big else ("H", "I", 12)
    start = at + struct.calcsize("<" + head)
    count = _unpack(order + head, data, at)
    end = start + count * row
    directory = Directory(name, {}, [(at, end + struct.calcsize("<" + word))])
    found.append(directory)
    for entry in range(start, min(end, len(data)), row):
        tag, kind, number = struct.unpack_from(order + "HH" + word, data, entry)
        inline = entry + 4 + struct.calcsize("<" + word)
        size = _SIZES.get(kind, 0) * number
        place = inline if size <= entry + row - inline else _unpack(order + word, data, inline)
        raw = data[place : place + size]
        directory.ranges.append((place, place + size))
        letter = _LETTERS.get(kind)
        if letter and len(raw) == size:
            length = size // struct.calcsize("<" + letter)
            directory.tags.setdefault(tag, struct.unpack(f"{order}{length}{letter}", raw))
        else:
            directory.tags.setdefault(tag, raw)
    directory.ranges += directory._places()
    for tag, below in POINTERS.items():
        if tag in directory.tags and name.count("/") < 3:
            for number, place in enumerate(directory.numbers(tag)[:_MAX_DIRECTORIES], 1):
                label = below if tag != 0x14A else f"{below} {number}"
                if 0 < place < len(data) and len(found) < _MAX_DIRECTORIES:
                    _read_directory(data, order, big, place, f"{name}/{label}", found)
    return _unpack(order + word, data, end) if end + 4 <= len(data) else 0


def unlisted(data: bytes, found: list[Directory]) -> bytes:
    """What no directory leads to, without zeros: data that only a camera's maker can find."""
    left, position = [], 8
    for start, end in sorted(each for directory in found for each in directory.ranges):
        if start > position:
            left.append(data[position:start])
        position = max(position, end)
    return b"".join([*left, data[position:]]).replace(b"\0", b"")
