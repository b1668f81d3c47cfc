"""Read and change the directories of a TIFF file, or of an EXIF block (TIFF 6.0).

Values are changed in place. Unchanged data do not move, since maker notes contain offsets in
undocumented places.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stages.codecs.errors import UnsupportedError

BYTE, SHORT, LONG, UNDEFINED, IFD = 1, 3, 4, 7, 13

#: A range of bytes: position and length.
Range = tuple[int, int]

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {BYTE: "B", SHORT: "H", LONG: "I", IFD: "I"}

#: Bytes of the header, of an entry, and of values in it; where the header's pointer is.
HEADER, _ENTRY, _INLINE, _LINK = 8, 12, 4, 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a directory.

    Attributes:
        tag: the number of the tag.
        kind: the type of its values, as TIFF numbers them.
        count: the number of values.
        position: the position of the entry itself.
        value: the position of its values, in the entry or elsewhere.
    """

    tag: int
    kind: int
    count: int
    position: int
    value: int

    @property
    def size(self) -> int:
        """Size of its values, bytes."""
        return self.count * _SIZES.get(self.kind, 1)


class TiffEditor:
    """A TIFF structure being changed; positions count from its first byte.

    Args:
        data: the file; tifffile has read its main page, which is therefore well-formed. EXIF blocks
            (:meth:`of_exif`) may be damaged in any way.

    Attributes:
        data: the file with all changes so far.
    """

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self._order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"

    @classmethod
    def of_exif(cls, block: bytes) -> TiffEditor | None:
        """Parse a bare EXIF block, which may be damaged; None if it is no TIFF structure."""
        is_tiff = block.startswith((b"II*\0", b"MM\0*")) and len(block) >= 8
        return cls(block) if is_tiff else None

    @property
    def first(self) -> int:
        """Position of the first directory; not validated."""
        return self._number(_LINK, "I")

    def iter_entries(self, directory: int) -> Iterator[Entry]:
        """Yield the entries of a directory that lie, with their values, inside the data.

        Unknown types count as bytes. Values over the header or the directory itself are damage.
        """
        start = directory + 2
        if directory < HEADER or start > len(self.data):
            return
        end = self._next_at(directory)
        for i in range(self._number(directory, "H")):
            position = start + i * _ENTRY
            if position + _ENTRY > len(self.data):
                return
            tag, kind = self._number(position, "H"), self._number(position + 2, "H")
            count = self._number(position + 4, "I")
            value = position + 8
            if count * _SIZES.get(kind, 1) > _INLINE:
                value = self._number(value, "I")
            entry = Entry(tag, kind, count, position, value)
            is_apart = value >= end or HEADER <= value <= value + entry.size <= directory
            if value + entry.size <= len(self.data) and (is_apart or entry.size <= _INLINE):
                yield entry

    def entries(self, directory: int) -> dict[int, Entry]:
        """The entries of a directory by tag; the first of duplicates is used."""
        found: dict[int, Entry] = {}
        for entry in self.iter_entries(directory):
            found.setdefault(entry.tag, entry)
        return found

    def content(self, entry: Entry) -> bytes:
        """An entry's values as raw bytes."""
        return bytes(self.data[entry.value : entry.value + entry.size])

    def integer(self, entry: Entry | None) -> int:
        """An entry's first integer; 0 if it has none."""
        return next(iter(self.integers(entry)), 0)

    def integers(self, entry: Entry | None) -> tuple[int, ...]:
        """All integers of an entry; none if there is no entry, or it has another type."""
        if entry is None or entry.kind not in _INTEGERS:
            return ()
        format_ = f"{self._order}{entry.count}{_INTEGERS[entry.kind]}"
        return struct.unpack_from(format_, self.data, entry.value)

    def set_integer(self, entry: Entry, index: int, value: int) -> None:
        """Change one of an entry's integers.

        Raises:
            UnsupportedError: it does not fit into the entry's type.
        """
        format_ = self._order + _INTEGERS[entry.kind]
        size = struct.calcsize(format_)
        if value >= 1 << 8 * size:
            raise UnsupportedError(f"tag {entry.tag} has {8 * size} bits, too few for {value}")
        struct.pack_into(format_, self.data, entry.value + index * size, value)

    def set_content(self, directory: int, tag: int, kind: int, content: bytes) -> int:
        """Set a tag's values, of a type of one byte each; without any, the tag is removed.

        Returns:
            The directory's position: with the new values, it moves to the end of the file.
        """
        self.drop(directory, tag)
        if not content:
            return directory
        link = next(at for at in self._links() if self._number(at, "I") == directory)
        value = content.ljust(_INLINE, b"\0")
        if len(content) > _INLINE:
            value = struct.pack(self._order + "I", self.append(content))
        end = self._next_at(directory)
        rows = [bytes(self.data[at : at + _ENTRY]) for at in range(directory + 2, end, _ENTRY)]
        rows.append(struct.pack(self._order + "HHI", tag, kind, len(content)) + value)
        rows.sort(key=lambda row: struct.unpack_from(self._order + "H", row))
        following = bytes(self.data[end : end + 4]).ljust(4, b"\0")  # some writers omit it
        count = struct.pack(self._order + "H", len(rows))
        place = self.append(b"".join([count, *rows, following]))
        self._set_number(link, "I", place)
        return place

    def drop(self, directory: int, tag: int) -> None:
        """Remove a tag, and zero its values."""
        entry = self.entries(directory).get(tag)
        if entry is None:
            return
        if entry.size > _INLINE:
            self.wipe(entry.value, entry.size)
        end = self._next_at(directory) + 4
        rest = self.data[entry.position + _ENTRY : end]
        self.data[entry.position : end] = rest + bytes(_ENTRY)
        count = self._number(directory, "H")
        self._set_number(directory, "H", count - 1)

    def unlink(self, directory: int) -> None:
        """Remove a directory from the chain of pages."""
        following = self._next_at(directory)
        has_next = following + 4 <= len(self.data)  # some writers omit it
        for at in self._links():
            if self._number(at, "I") == directory:
                new = self._number(following, "I") if has_next else 0
                self._set_number(at, "I", new)
                return

    def wipe(self, position: int, size: int) -> None:
        """Overwrite with zeros."""
        self.data[position : position + size] = bytes(len(self.data[position : position + size]))

    def append(self, content: bytes) -> int:
        """Append bytes at an even position, and return the position."""
        self.data += bytes(len(self.data) % 2)
        position = len(self.data)
        self.data += content
        return position

    def directories(self) -> Iterator[int]:
        """Yield the directories of the chain that are not empty and lie inside the data."""
        for at in self._links():
            found = self._number(at, "I")
            if self._is_inside(found):
                yield found

    def below(self, directory: int, tag: int) -> list[int]:
        """The directories that a tag points to, if they are not empty and lie inside the data."""
        places = self.integers(self.entries(directory).get(tag))
        return [place for place in places if self._is_inside(place)]

    def _is_inside(self, directory: int) -> bool:
        """Whether a directory has entries, and all of them lie inside the data."""
        start = directory + 2
        is_there = directory >= HEADER and start <= len(self.data)
        return is_there and start < self._next_at(directory) <= len(self.data)

    def _links(self) -> Iterator[int]:
        """Yield the positions of the pointers in the chain of directories."""
        at, seen, size = _LINK, set[int](), len(self.data)
        while at not in seen and at + 4 <= size:
            seen.add(at)
            yield at
            directory = self._number(at, "I")
            if not directory or directory + 2 > size:
                return
            at = self._next_at(directory)

    def _next_at(self, directory: int) -> int:
        count = self._number(directory, "H")
        return directory + 2 + count * _ENTRY

    def _number(self, position: int, format_: str) -> int:
        return int(struct.unpack_from(self._order + format_, self.data, position)[0])

    def _set_number(self, position: int, format_: str, value: int) -> None:
        struct.pack_into(self._order + format_, self.data, position, value)
