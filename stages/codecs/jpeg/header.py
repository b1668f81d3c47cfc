"""Read the markers of a JPEG: its structure, and the parts that an edit must keep.

ITU-T T.81; the colour model is chosen as in libjpeg's ``default_decompress_parms``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from stages.codecs.errors import DamagedError, UnsupportedError
from stages.codecs.jpeg.markers import APP0, APP14, EOI, SOS, segments

ColourModel = Literal["grey", "ycc", "rgb", "cmyk", "ycck"]

#: Position in the zigzag -> position in the 8 x 8 block, row by row.
_ZIGZAG = np.array(
    [
        *(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5),
        *(12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28),
        *(35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51),
        *(58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63),
    ]
)

#: Code lengths of the luminance DC table in T.81, annex K; any other table is optimised.
_STANDARD_DC_LENGTHS = bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])

_DQT, _DHT, _DRI, _DNL = 0xDB, 0xC4, 0xDD, 0xDC
_FRAMES = [m for m in range(0xC0, 0xD0) if m not in (0xC4, 0xC8, 0xCC)]
_SUPPORTED_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)


@dataclass(frozen=True, slots=True)
class Component:
    """One plane.

    Attributes:
        identifier: as in the file.
        horizontal: sampling factor, 1 to 4.
        vertical: sampling factor, 1 to 4.
        table: number of its quantisation table.
    """

    identifier: int
    horizontal: int
    vertical: int
    table: int


@dataclass(slots=True)
class JpegHeader:
    """The contents of a file's markers.

    Attributes:
        width: px, in the stored frame.
        height: px, in the stored frame.
        components: the planes.
        model: the colour model of the planes.
        adobe: whether there is an Adobe segment; CMYK is inverted then.
        progressive: whether it is progressive; if not, sequential.
        arithmetic: whether it is arithmetic coded; if not, Huffman coded.
        optimised: whether its Huffman tables are not the standard ones.
        restart_blocks: MCUs between restart markers; 0: none.
        tables: quantisation tables, ``(64,)`` float32 in raster order.
        segments: the application segments and comments with their markers, in order.
        body_start: position of the first segment that is neither application segment nor comment.
        body_end: position after the end-of-image marker.
    """

    width: int = 0
    height: int = 0
    components: list[Component] = field(default_factory=list)
    model: ColourModel = "grey"
    adobe: bool = False
    progressive: bool = False
    arithmetic: bool = False
    optimised: bool = False
    restart_blocks: int = 0
    tables: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)
    segments: list[bytes] = field(default_factory=list)
    body_start: int = 0
    body_end: int = 0

    @property
    def max_horizontal(self) -> int:
        """The largest horizontal sampling factor."""
        return max(c.horizontal for c in self.components)

    @property
    def max_vertical(self) -> int:
        """The largest vertical sampling factor."""
        return max(c.vertical for c in self.components)

    def step(self, component: int) -> tuple[int, int]:
        """Pixels of the photo per sample of a component: (horizontally, vertically)."""
        part = self.components[component]
        return self.max_horizontal // part.horizontal, self.max_vertical // part.vertical

    def blocks(self, component: int) -> tuple[int, int]:
        """8 x 8 blocks of a component that hold samples of the picture: (rows, columns)."""
        across, down = self.step(component)
        return -(-self.height // (8 * down)), -(-self.width // (8 * across))


def read_header(jpeg: bytes) -> JpegHeader:
    """Read all markers.

    Raises:
        DamagedError: they are invalid.
        UnsupportedError: the file is valid, but cannot be edited block by block.
    """
    header = JpegHeader()
    jfif, adobe_transform, in_scans = False, None, False
    for segment in segments(jpeg):
        marker, start, content = segment
        if marker == EOI:
            header.body_end = segment.end
        elif segment.is_metadata:
            if in_scans:
                raise UnsupportedError("application data between its scans")
            header.segments.append(jpeg[start : segment.end])
            jfif |= marker == APP0 and content[:5] == b"JFIF\0"
            if marker == APP14 and content[:5] == b"Adobe" and len(content) >= 12:
                adobe_transform = content[11]
        else:
            header.body_start = header.body_start or start
            in_scans |= marker == SOS
            _read_segment(header, marker, content, in_scans=in_scans)
    if not header.components or not in_scans:
        raise DamagedError("it has no picture")
    header.adobe = adobe_transform is not None
    header.model = _colour_model(header, jfif=jfif, adobe_transform=adobe_transform)
    _check_components(header)
    return header


def _read_segment(header: JpegHeader, marker: int, body: bytes, *, in_scans: bool) -> None:
    if marker == _DQT:
        _read_tables(header, body, redefinable=not in_scans)
    elif marker == _DHT:
        header.optimised |= body[:1] == b"\0" and body[1:17] != _STANDARD_DC_LENGTHS
    elif marker == _DRI:
        header.restart_blocks = int.from_bytes(body[:2], "big")
    elif marker == _DNL:
        raise UnsupportedError("its height is stated after its first scan")
    elif marker in _FRAMES:
        if header.components:
            raise UnsupportedError("several frames")
        _read_frame(header, marker, body)


def _read_tables(header: JpegHeader, body: bytes, *, redefinable: bool) -> None:
    position = 0
    while position < len(body):
        wide, number = body[position] >> 4, body[position] & 15
        size = 128 if wide else 64
        if len(body) < position + 1 + size:
            raise DamagedError("a quantisation table is cut off")
        table = np.zeros(64, np.float32)
        table[_ZIGZAG] = np.frombuffer(body, ">u2" if wide else "u1", 64, position + 1)
        known = header.tables.get(number)
        if known is not None and not redefinable and not np.array_equal(known, table):
            raise UnsupportedError("its quantisation tables change between scans")
        header.tables[number] = table
        position += 1 + size


def _read_frame(header: JpegHeader, marker: int, body: bytes) -> None:
    if marker not in _SUPPORTED_FRAMES:
        raise UnsupportedError(f"frame type SOF{marker - 0xC0}")
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise DamagedError("its frame header is cut off")
    precision, header.height, header.width, count = struct.unpack_from(">BHHB", body)
    if precision != 8:
        raise UnsupportedError(f"{precision} bits a sample")
    if not header.height or not header.width:
        raise UnsupportedError("its size is stated after its first scan")
    if count not in (1, 3, 4):
        raise UnsupportedError(f"{count} components")
    for i in range(count):
        identifier, sampling, table = body[6 + 3 * i : 9 + 3 * i]
        header.components.append(Component(identifier, sampling >> 4, sampling & 15, table))
    header.progressive = marker in (0xC2, 0xCA)
    header.arithmetic = marker in (0xC9, 0xCA)


def _colour_model(header: JpegHeader, *, jfif: bool, adobe_transform: int | None) -> ColourModel:
    count = len(header.components)
    if count == 1:
        return "grey"
    if count == 4:
        return "ycck" if adobe_transform == 2 else "cmyk"
    if jfif:
        return "ycc"
    if adobe_transform is not None:
        return "rgb" if adobe_transform == 0 else "ycc"
    return "rgb" if bytes(c.identifier for c in header.components) == b"RGB" else "ycc"


def _check_components(header: JpegHeader) -> None:
    for part in header.components:
        if not (1 <= part.horizontal <= 4 and 1 <= part.vertical <= 4):
            raise DamagedError("impossible sampling factors")
        if header.max_horizontal % part.horizontal or header.max_vertical % part.vertical:
            raise UnsupportedError("fractional sampling factors")
        if part.table not in header.tables:
            raise DamagedError("a quantisation table is missing")
        if not header.tables[part.table].all():
            raise DamagedError("a quantisation table holds a zero")
