"""List the tags of a TIFF file or an EXIF block, with Pillow's reader of directories."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.TiffImagePlugin import ImageFileDirectory_v2

#: numpy's name of a value's numbers, by TIFF's number of their type; rationals are pairs of them.
_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "u1", 7: "u1", 8: "i2", 9: "i4", 10: "i4"}
_TYPES |= {11: "f4", 12: "f8", 13: "u4", 16: "u8"}

#: Tags that point to further directories.
POINTERS = {0x8769: "Exif", 0x8825: "GPS", 0xA005: "Interoperability", 0x14A: "Sub"}

#: Tags with positions and lengths of samples: strips, tiles, JPEG.
_SAMPLES = ((273, 279), (324, 325), (513, 514))
PLACES = frozenset(tag for pair in _SAMPLES for tag in pair)

_MAX_DIRECTORIES = 2000


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


def directories(data: bytes) -> list[Directory]:
    """All directories of the chain, each followed by those below it; none if it is no TIFF.

    Damaged ones are read as far as they lie inside the data.
    """
    found: list[Directory] = []
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return found
    seen, at = set[int](), int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big")
    while at and at not in seen and len(found) < _MAX_DIRECTORIES:
        seen.add(at)
        at = _read(data, at, str(len(seen) - 1), found)
    return found


def _read(data: bytes, at: int, name: str, found: list[Directory]) -> int:
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
    for tag, label in POINTERS.items() if name.count("/") < 3 else ():
        for number, place in enumerate(directory.numbers(tag), 1):
            if 0 < place < len(data) and len(found) < _MAX_DIRECTORIES:
                below = f"{name}/{label} {number}" if label == "Sub" else f"{name}/{label}"
                _read(data, place, below, found)
    return table.next or 0


def unlisted(data: bytes, found: list[Directory]) -> bytes:
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
