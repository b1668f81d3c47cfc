"""List the tags of a TIFF structure: a TIFF or BigTIFF file, or an EXIF block (TIFF 6.0)."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

#: numpy's name of a value's numbers, by TIFF's number of their type; rationals are pairs of them.
_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "u1", 7: "u1", 8: "i2", 9: "i4", 10: "i4"}
_TYPES |= {11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
_RATIONALS = (5, 10)

#: Tags that point to further directories.
POINTERS = {0x8769: "Exif", 0x8825: "GPS", 0xA005: "Interoperability", 0x14A: "Sub"}

#: Tags with positions and lengths of samples: strips, tiles, JPEG.
_SAMPLES = ((273, 279), (324, 325), (513, 514))
PLACES = frozenset(tag for pair in _SAMPLES for tag in pair)

_MAX_DIRECTORIES = 2000


@dataclass(slots=True)
class Directory:
    """One IFD.

    Attributes:
        name: ``0`` for the first, ``1`` for the next one in the chain, ``0/Exif`` below that.
        tags: values by tag number, little-endian; truncated ones and unknown types as bytes.
        ranges: positions (start, end) of the directory, of its values and of its samples.
    """

    name: str
    tags: dict[int, npt.NDArray[Any]] = field(default_factory=dict)
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def numbers(self, tag: int) -> list[int]:
        """A tag's integers."""
        values = self.tags.get(tag)
        return [] if values is None or values.dtype.kind == "f" else [*map(int, values)]

    def number(self, tag: int) -> int:
        """A tag's first integer; 0 if there is none."""
        return next(iter(self.numbers(tag)), 0)

    def places(self) -> list[tuple[int, int]]:
        """Start and end of each strip, tile, or JPEG."""
        pairs = [(self.numbers(starts), self.numbers(sizes)) for starts, sizes in _SAMPLES]
        return [(at, at + size) for pair in pairs for at, size in zip(*pair, strict=False)]

    def samples(self, data: bytes) -> bytes:
        """All strips, tiles, and the JPEG that the directory describes."""
        return b"".join(data[start:end] for start, end in self.places())


def directories(data: bytes) -> list[Directory]:
    """All directories of the chain, each followed by those below it; none if it is no TIFF.

    Damaged ones are read as far as they lie inside the data.
    """
    reader = _Reader(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        with suppress(struct.error):  # it may end in the middle of a directory
            reader.read_chain()
    return reader.found


class _Reader:
    """Reads directories into ``found``; raises struct.error where the data end."""

    def __init__(self, data: bytes) -> None:
        self.found: list[Directory] = []
        self._data, self._order = data, "<" if data[:1] == b"I" else ">"
        is_big = b"+" in data[2:4]
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
        directory = Directory(name, ranges=[(at, end + struct.calcsize("<" + self._word))])
        self.found.append(directory)
        for entry in range(start, min(end, len(self._data)), self._row):
            self._read_entry(entry, directory)
        directory.ranges += directory.places()
        below = [
            (f"{name}/{label} {number}" if label == "Sub" else f"{name}/{label}", place)
            for tag, label in POINTERS.items()
            for number, place in enumerate(directory.numbers(tag), 1)
        ]
        for label, place in below if name.count("/") < 3 else ():
            if 0 < place < len(self._data) and len(self.found) < _MAX_DIRECTORIES:
                self._read(place, label)
        return self._number(self._word, end) if end + 4 <= len(self._data) else 0

    def _read_entry(self, at: int, directory: Directory) -> None:
        tag, kind, count = struct.unpack_from(self._order + "HH" + self._word, self._data, at)
        numbers = np.dtype(self._order + _TYPES.get(kind, "u1"))
        size = (numbers.itemsize * count << (kind in _RATIONALS)) if kind in _TYPES else 0
        place = at + 4 + struct.calcsize("<" + self._word)
        if size > at + self._row - place:
            place = self._number(self._word, place)
        raw = self._data[place : place + size]
        directory.ranges.append((place, place + size))
        values = np.frombuffer(raw, numbers if len(raw) == size else np.uint8)
        directory.tags.setdefault(tag, values.astype(values.dtype.newbyteorder("<")))


def unlisted(data: bytes, found: list[Directory]) -> bytes:
    """The bytes that no directory refers to, without zeros: undocumented data of a camera."""
    left, position = [], 8
    for start, end in sorted(each for directory in found for each in directory.ranges):
        if start > position:
            left.append(data[position:start])
        position = max(position, end)
    return b"".join([*left, data[position:]]).replace(b"\0", b"")
