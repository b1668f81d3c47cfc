"""Read the directories of a TIFF structure (TIFF 6.0), as EXIF and MPF use it, within bounds."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}
ASCII, SHORT, LONG, UNDEFINED = 2, 3, 4, 7


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag.

    Attributes:
        tag: its number.
        kind: TIFF's number of its type.
        count: values of that type.
        position: of the 12 bytes that describe it.
        start: of its value, inside those 12 bytes or elsewhere.
        end: behind its value.
    """

    tag: int
    kind: int
    count: int
    position: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Directory:
    """One IFD.

    Attributes:
        position: of its count of entries.
        end: behind the pointer to the next one.
        next: position of the next one; 0: none.
        entries: by tag; those whose value lies outside of the data are left out.
    """

    position: int
    end: int
    next: int
    entries: dict[int, Entry] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether all its entries are there."""
        return len(self.entries) == (self.end - self.position - 6) // 12

    @property
    def link(self) -> int:
        """Position of the pointer to the next directory."""
        return self.end - 4


class Tiff:
    """A TIFF structure; positions count from its first byte.

    Raises:
        ValueError: the data do not begin as one.
    """

    def __init__(self, data: bytes) -> None:
        orders: dict[bytes, Literal["<", ">"]] = {b"II*\0": "<", b"MM\0*": ">"}
        if data[:4] not in orders or len(data) < 8:
            raise ValueError("not a TIFF structure")
        self.data = data
        self.order = orders[data[:4]]

    @classmethod
    def of(cls, data: bytes) -> Tiff | None:
        """The same, but None where it raises."""
        try:
            return cls(data)
        except ValueError:
            return None

    def u32(self, position: int) -> int:
        """The number at a position that lies inside."""
        return int(struct.unpack_from(self.order + "I", self.data, position)[0])

    def u16(self, two_bytes: bytes) -> int:
        """Two bytes as a number."""
        return int(struct.unpack(self.order + "H", two_bytes)[0])

    def packed16(self, *numbers: int) -> bytes:
        """Numbers of two bytes as this structure writes them."""
        return struct.pack(f"{self.order}{len(numbers)}H", *numbers)

    def packed32(self, *numbers: int) -> bytes:
        """Numbers of four bytes as this structure writes them."""
        return struct.pack(f"{self.order}{len(numbers)}I", *numbers)

    def directory(self, position: int) -> Directory | None:
        """The directory there; None if it does not lie inside."""
        if not 8 <= position <= len(self.data) - 2:
            return None
        count = struct.unpack_from(self.order + "H", self.data, position)[0]
        end = position + 2 + 12 * count + 4
        if not count or end - 4 > len(self.data):
            return None
        # Some writers leave out the last pointer.
        following = self.u32(end - 4) if end <= len(self.data) else 0
        found = Directory(position, end, following)
        for at in range(position + 2, end - 4, 12):
            entry = self._entry(at)
            if entry:
                found.entries.setdefault(entry.tag, entry)
        return found

    def _entry(self, position: int) -> Entry | None:
        tag, kind, count = struct.unpack_from(self.order + "HHI", self.data, position)
        size = _SIZES.get(kind, 0) * count
        start = position + 8 if size <= 4 else self.u32(position + 8)
        if not size or start + size > len(self.data):
            return None
        return Entry(tag, kind, count, position, start, start + size)

    def chain(self) -> list[Directory]:
        """The main directories (IFD0, IFD1 ...), up to the first that is damaged."""
        found: list[Directory] = []
        position = self.u32(4)
        while len(found) < 8 and position not in [each.position for each in found]:
            directory = self.directory(position)
            if directory is None:
                break
            found.append(directory)
            position = directory.next
        return found

    def below(self, directory: Directory, tag: int) -> list[Directory]:
        """The directories that a tag points to."""
        positions = self.integers(directory, tag)[:32]
        return [each for each in map(self.directory, positions) if each]

    def integers(self, directory: Directory, tag: int) -> list[int]:
        """A tag's values; none if it is missing or of another type."""
        entry = directory.entries.get(tag)
        if entry is None or entry.kind not in _INTEGERS:
            return []
        layout = f"{self.order}{entry.count}{_INTEGERS[entry.kind]}"
        return list(struct.unpack_from(layout, self.data, entry.start))

    def integer(self, directory: Directory, tag: int, default: int = 0) -> int:
        """A tag's first value."""
        return next(iter(self.integers(directory, tag)), default)

    def value(self, directory: Directory, tag: int) -> bytes:
        """A tag's bytes; none if it is missing."""
        entry = directory.entries.get(tag)
        return self.data[entry.start : entry.end] if entry else b""
