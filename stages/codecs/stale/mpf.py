"""The index of a multi-picture JPEG (CIPA DC-007): read it, and write it for fewer pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stages.codecs.stale.tiff import Directory, Entry, Tiff

NAME = b"MPF\0"

#: Where the index's own positions count from, in its segment.
_HEAD = 4 + len(NAME)

_COUNT, _ENTRIES, _IDENTIFIERS = 0xB001, 0xB002, 0xB003
_ENTRY_SIZE, _IDENTIFIER_SIZE = 16, 33

#: Types, the lower 24 bits of an entry's first number.
_TYPE = 0xFFFFFF
_LARGE_THUMBNAILS = range(0x010001, 0x010010)
_TYPE_NAMES = {
    0x020001: "panorama",
    0x020002: "disparity picture",
    0x020003: "multi-angle picture",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """One picture of an index.

    Attributes:
        attributes: what it is, as the standard packs it.
        start: position in the file; 0: the primary one.
        length: bytes.
        linked: numbers, from 1, of two pictures that it depends on; 0: none.
    """

    attributes: int
    start: int
    length: int
    linked: tuple[int, int]

    @property
    def is_preview(self) -> bool:
        """Whether it is the primary picture, made smaller."""
        return self.attributes & _TYPE in _LARGE_THUMBNAILS

    @property
    def name(self) -> str:
        """What it is, in words."""
        return _TYPE_NAMES.get(self.attributes & _TYPE, "further picture")


def is_index(segment: bytes) -> bool:
    """Whether a JPEG's segment is one of this kind."""
    return segment[:2] == b"\xff\xe2" and segment.startswith(NAME, 4)


def read_index(segment: bytes, position: int) -> list[Listed]:
    """The pictures that an index lists, the primary one first.

    Args:
        segment: all of it.
        position: of the segment in the file.

    Returns:
        None at all if it is damaged, or tells only of the picture it is in.
    """
    tiff, entry = _opened(segment)
    if tiff is None or entry is None:
        return []
    listed = []
    for at in range(entry.start, entry.end - _ENTRY_SIZE + 1, _ENTRY_SIZE):
        attributes, length, offset = (tiff.u32(at + shift) for shift in (0, 4, 8))
        linked = (tiff.u16(tiff.data[at + 12 : at + 14]), tiff.u16(tiff.data[at + 14 : at + 16]))
        # Positions count from the index, but the primary picture's is 0.
        start = (position + _HEAD + offset) % 2**32 if at > entry.start else 0
        listed.append(Listed(attributes, start, length, linked))
    return listed


def write_index(segment: bytes, position: int, kept: dict[int, Listed]) -> bytes:
    """An index with some of its pictures only, in a segment of the same length.

    Args:
        segment: the old one, which :func:`read_index` can read.
        position: of the segment in the new file.
        kept: the pictures that are left, by their old number from 0, with their new places.
    """
    tiff, entry = _opened(segment)
    assert tiff is not None
    assert entry is not None
    block = bytearray(tiff.data)
    new_numbers = {old + 1: new for new, old in enumerate(kept, 1)}
    rows = [_row(tiff, _relinked(each, new_numbers), position) for each in kept.values()]
    _fill(block, tiff, entry, b"".join(rows))
    directory = tiff.chain()[0]
    _set_count(block, tiff, directory, len(kept))
    identifiers = directory.entries.get(_IDENTIFIERS)
    if identifiers:
        raw = tiff.data[identifiers.start : identifiers.end]
        left = b"".join(raw[_IDENTIFIER_SIZE * old :][:_IDENTIFIER_SIZE] for old in kept)
        _fill(block, tiff, identifiers, left)
    return segment[:_HEAD] + bytes(block)


def _opened(segment: bytes) -> tuple[Tiff | None, Entry | None]:
    """The structure, and what lists the pictures."""
    tiff = Tiff.of(segment[_HEAD:])
    chain = tiff.chain() if tiff else []
    entry = chain[0].entries.get(_ENTRIES) if chain else None
    return tiff, entry if entry and entry.end - entry.start > 4 else None


def _relinked(listed: Listed, new_numbers: dict[int, int]) -> Listed:
    first, second = (new_numbers.get(number, 0) for number in listed.linked)
    return replace(listed, linked=(first, second))


def _row(tiff: Tiff, listed: Listed, position: int) -> bytes:
    offset = (listed.start - position - _HEAD) % 2**32 if listed.start else 0
    numbers = tiff.packed32(listed.attributes, listed.length, offset)
    return numbers + tiff.packed16(*listed.linked)


def _fill(block: bytearray, tiff: Tiff, entry: Entry, value: bytes) -> None:
    """Put a shorter value in a longer one's place."""
    block[entry.start : entry.end] = value.ljust(entry.end - entry.start, b"\0")
    block[entry.position + 4 : entry.position + 8] = tiff.packed32(len(value))


def _set_count(block: bytearray, tiff: Tiff, directory: Directory, count: int) -> None:
    entry = directory.entries.get(_COUNT)
    if entry and entry.end - entry.start == 4:
        block[entry.start : entry.end] = tiff.packed32(count)
