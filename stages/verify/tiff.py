"""List the tags of a TIFF structure: a TIFF or BigTIFF file, or an EXIF block (TIFF 6.0)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
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
        kinds: number -> TIFF's number of its type.
        ranges: positions (start, end) of the directory, of its values and of its samples.
    """

    name: str
    tags: dict[int, Value]
    kinds: dict[int, int] = field(default_factory=dict)
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
        return b"".join(data[start:end] for start, end in self.places())

    def places(self) -> Iterator[tuple[int, int]]:
        """Start and end of each strip, tile, or JPEG."""
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
    reader = _Reader(data, order, is_big=version == 43)
    with suppress(struct.error):  # it may end in the middle of a directory
        reader.read_chain()
    return reader.found


class _Reader:
    """Reads directories into ``found``; raises struct.error where the data end."""

    def __init__(self, data: bytes, order: str, *, is_big: bool) -> None:
        self.found: list[Directory] = []
        self._data, self._order = data, order
        self._head, self._word, self._row = ("Q", "Q", 20) if is_big else ("H", "I", 12)
        self._first = 8 if is_big else 4

    def read_chain(self) -> None:
        seen, at = set[int](), self._number(self._word, self._first)
        while at and at not in seen and len(self.found) < _MAX_DIRECTORIES:
            seen.add(at)
            at = self._read(at, str(len(seen) - 1))

    def _number(self, letter: str, position: int) -> int:
        return int(struct.unpack_from(self._order + letter, self._data, position)[0])

    def _read(self, at: int, name: str) -> int:
        """Add a directory and those below it; returns the position of the next one."""
        start = at + struct.calcsize("<" + self._head)
        end = start + self._number(self._head, at) * self._row
        directory = Directory(name, {}, ranges=[(at, end + struct.calcsize("<" + self._word))])
        self.found.append(directory)
        for entry in range(start, min(end, len(self._data)), self._row):
            self._read_entry(entry, directory)
        directory.ranges += directory.places()
        for tag, below in POINTERS.items():
            for number, place in enumerate(directory.numbers(tag), 1):
                label = below if tag != 0x14A else f"{below} {number}"
                is_inside = 0 < place < len(self._data) and name.count("/") < 3
                if is_inside and len(self.found) < _MAX_DIRECTORIES:
                    self._read(place, f"{name}/{label}")
        return self._number(self._word, end) if end + 4 <= len(self._data) else 0

    def _read_entry(self, at: int, directory: Directory) -> None:
        tag, kind, count = struct.unpack_from(self._order + "HH" + self._word, self._data, at)
        size = _SIZES.get(kind, 0) * count
        place = at + 4 + struct.calcsize("<" + self._word)
        if size > at + self._row - place:
            place = self._number(self._word, place)
        raw = self._data[place : place + size]
        directory.ranges.append((place, place + size))
        value: Value = raw
        if kind in _LETTERS and len(raw) == size:
            letter = _LETTERS[kind]
            length = size // struct.calcsize("<" + letter)
            value = struct.unpack(f"{self._order}{length}{letter}", raw)
        directory.tags.setdefault(tag, value)
        directory.kinds.setdefault(tag, kind)


def unlisted(data: bytes, found: list[Directory]) -> bytes:
    """What no directory leads to, without zeros: data that only a camera's maker can find."""
    left, position = [], 8
    for start, end in sorted(each for directory in found for each in directory.ranges):
        if start > position:
            left.append(data[position:start])
        position = max(position, end)
    return b"".join([*left, data[position:]]).replace(b"\0", b"")
