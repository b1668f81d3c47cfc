"""Rasterizes boxes, polygons and RLE masks, in COCO's formats, at the photo's size.

The frame is the photo as displayed: origin at its top left corner, x to the right, y down, in px or
in shares of its sides; pixel 0 extends from 0 to 1. Numbers that are plausible only in other units
are rejected: a box of shares, read as px, would be a speck in a corner.

pycocotools draws polygons and RLE masks. It is C code that trusts its input, so input that could
cause invalid memory access, or unbounded memory or time, is rejected here first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from manifests.errors import RowError
from stages.arrays import BoolMask
from stages.recipe.options import ShapeOptions

#: Maximum number of shapes of one kind: each takes up to a pass over the photo.
_MAX_SHAPES = 1000

#: Coordinates beyond this are mistakes, and would overflow C's integers.
_MAX_COORDINATE_PX = 1_000_000

#: Maximum total perimeter of a photo's polygons: drawing takes 80 bytes per px.
_MAX_PERIMETER_PX = 2_000_000

#: The photo's full width or height in units other than px.
_UNIT_MAX = {"share": 1.0, "percent": 100.0}

#: Tolerance outside the photo for shares, as a share of its side: they may be rounded.
_ROUNDING = 0.001

#: A generous box may reach outside. One with less than this share of it inside, or with its far end
#: beyond the photo by more than this share of its side, though as two corners it would fit, was
#: meant otherwise.
_MIN_INSIDE, _MAX_BEYOND = 0.5, 0.05

#: Percents, taken for px, all lie in the first 100 x 100 px. Shapes there are taken for percents if
#: they have fractions, cover less than this share of the photo, and its sides have this many px.
_PERCENTS_SHARE, _PERCENTS_SIDE_PX = 0.001, 1000

#: COCO's compressed counts: groups of 5 bits, of which all but a number's last carry the sixth.
_COMPRESSED = re.compile(r"(?:[P-o]{0,6}[0-O])*")


def rasterize_shapes(
    shapes: Mapping[str, Any], width: int, height: int, options: ShapeOptions, uri: str
) -> BoolMask:
    """Return ``(h, w)`` bool: what the shapes mark, united; what reaches outside is cut off.

    Args:
        shapes: parsed JSON, whatever it holds. ``boxes``: lists of x, y, width and height, or one
            such; every pixel that a box touches is marked. ``polygons``: lists of x1, y1, x2, y2
            and so on, or one such. ``rle``: objects of ``size`` (height, width) and ``counts``, a
            list or COCO's compressed string, or one such. Empty lists mark nothing.
        width: of the photo as displayed, px.
        height: of the photo as displayed, px.
        options: the units of boxes and polygons.
        uri: names the photo in errors.

    Raises:
        RowError: ``mask.bad_shape``, also for a box or polygon that lies outside the photo with
            more than half of it, or whose numbers are plausible in other units only, and for
            polygons that are all too thin to mark a pixel; ``mask.size_mismatch`` for an RLE mask
            of another size.
    """
    frame = _Frame(width, height, options.units)
    try:
        marked = np.zeros((height, width), np.bool_)
        items = _items("boxes", shapes.get("boxes", []), _is_list_of_numbers)
        boxes = [_box(name, box, frame) for name, box in items]
        rings = _rings(shapes.get("polygons", []), frame)
        frame.check_units([*boxes, *map(_extent, rings)])
        for (x0, y0), (x1, y1) in boxes:
            rows = slice(max(math.floor(y0), 0), math.ceil(y1))
            marked[rows, max(math.floor(x0), 0) : math.ceil(x1)] = True
        encoded = [
            *_polygons(rings, frame),
            *_rle_masks(shapes.get("rle", []), width, height, uri),
        ]
        if encoded:
            marked |= coco.decode(coco.merge(encoded)).view(np.bool_)
    except _BadShapeError as error:
        raise RowError("mask.bad_shape", f"The photo {uri}: {error}.") from None
    return marked


def encode_rle(marked: BoolMask) -> str:
    """Return an ``(h, w)`` mask as COCO's compressed RLE, without its size."""
    return str(coco.encode(np.asfortranarray(marked.view(np.uint8)))["counts"], "ascii")


def decode_rle(counts: str | None, width: int, height: int) -> BoolMask:
    """Undo :func:`encode_rle`; None: nothing is marked.

    Raises:
        RowError: ``mask.bad_shape``: they are not those of a mask of this size.
    """
    shapes = {"rle": [{"size": [height, width], "counts": counts}] if counts else []}
    return rasterize_shapes(shapes, width, height, ShapeOptions(), "recorded in the lineage")


class _BadShapeError(Exception):
    """What is wrong with a shape."""


def _items(name: str, value: object, is_one: Callable[[object], bool]) -> list[tuple[str, Any]]:
    """The shapes of a cell that holds one, or a list of them, each with its name in errors."""
    if is_one(value):
        return [(name, value)]
    if not isinstance(value, list):
        raise _BadShapeError(f"{name} is neither a shape nor a list of shapes")
    if len(value) > _MAX_SHAPES:
        raise _BadShapeError(f"{name} has {len(value)} shapes; the maximum is {_MAX_SHAPES}")
    return [(f"{name}[{index}]", item) for index, item in enumerate(value)]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The photo as displayed, px, and the units of its shapes."""

    width: int
    height: int
    units: str

    def points(self, name: str, numbers: list[Any]) -> npt.NDArray[np.float64]:
        """``(n, 2)``: x and y, or width and height, in px."""
        _check_coordinates(name, numbers)
        points = np.asarray(numbers, np.float64).reshape(-1, 2)
        low, high = points.min(), points.max()
        if self.units != "share" and low >= 0 and high <= 1:
            raise _BadShapeError(f"{name} has only numbers from 0 to 1: shares, not {self.units}")
        if self.units == "px":
            return points
        full = _UNIT_MAX[self.units]
        if not -_ROUNDING <= low / full <= high / full <= 1 + _ROUNDING:
            raise _BadShapeError(
                f"{name} has numbers from {low:g} to {high:g}; with shapes.units = {self.units} "
                f"they are from 0 to {full:g}"
            )
        return points / full * (self.width, self.height)

    def check_inside(self, name: str, corners: npt.NDArray[np.float64]) -> None:
        """Refuse what lies outside for the most part; ``corners``: ``(2, 2)``, the least first."""
        sides = np.array((self.width, self.height))
        inside = np.minimum(corners[1], sides) - np.maximum(corners[0], 0)
        extent = corners[1] - corners[0]
        where = f"outside the photo of {self.width}x{self.height}"
        if (corners[0] >= sides).any() or (corners[1] <= 0).any():
            raise _BadShapeError(f"{name} lies {where}")
        if np.divide(inside, extent, out=np.ones(2), where=extent > 0).prod() < _MIN_INSIDE:
            raise _BadShapeError(f"{name} lies {where} for the most part")

    def check_units(self, extents: list[npt.NDArray[np.float64]]) -> None:
        """Refuse shapes that are percents, given as px; ``(2, 2)`` corners of each."""
        if self.units != "px" or not extents or min(self.width, self.height) < _PERCENTS_SIDE_PX:
            return
        corners = np.stack(extents)
        is_fractional = (corners % 1 != 0).any()
        area_px = float((corners[:, 1] - corners[:, 0]).prod(axis=1).sum())
        is_small = area_px < _PERCENTS_SHARE * self.width * self.height
        if is_fractional and is_small and corners.min() >= 0 and corners.max() <= 100:
            raise _BadShapeError(
                "boxes and polygons all lie in the first 100 x 100 px, as percents would; px there "
                "must be whole numbers"
            )


def _box(name: str, box: object, frame: _Frame) -> npt.NDArray[np.float64]:
    """``(2, 2)``: a box's corners, px."""
    if not isinstance(box, list) or len(box) != 4:
        count = f"has {len(box)} numbers" if isinstance(box, list) else "is not a list"
        raise _BadShapeError(f"{name} {count}, not x, y, width, height")
    start, size = frame.points(name, box)
    if min(size) <= 0:
        raise _BadShapeError(f"{name} is {box[2]:g} wide and {box[3]:g} high")
    corners = np.round(np.stack([start, start + size]), 6)  # 0.3 of 1000 px are 300, not more
    frame.check_inside(name, corners)
    sides = np.array((frame.width, frame.height))
    is_beyond = (corners[1] > sides * (1 + _MAX_BEYOND)).any()
    if is_beyond and (start >= 0).all() and (start < size).all() and (size <= sides).all():
        raise _BadShapeError(
            f"{name} reaches outside the photo of {frame.width}x{frame.height}: it is x0, y0, x1, "
            "y1, not x, y, width, height"
        )
    return corners


def _rings(value: object, frame: _Frame) -> list[npt.NDArray[np.float64]]:
    """The polygons' points, ``(n, 2)``, px."""
    rings: list[npt.NDArray[np.float64]] = []
    length = 0.0
    for name, ring in _items("polygons", value, _is_list_of_numbers):
        if not isinstance(ring, list):
            raise _BadShapeError(f"{name} is not a list of x1, y1, x2, y2 and so on")
        if len(ring) < 6 or len(ring) % 2:
            raise _BadShapeError(
                f"{name} has {len(ring)} numbers; three points or more have 6, 8 and so on"
            )
        points = frame.points(name, ring)
        length += float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()) + len(points)
        if length > _MAX_PERIMETER_PX:
            raise _BadShapeError(f"the polygons are over {_MAX_PERIMETER_PX} px long, up to {name}")
        frame.check_inside(name, _extent(points))
        rings.append(points)
    return rings


def _extent(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _polygons(rings: list[npt.NDArray[np.float64]], frame: _Frame) -> list[dict[str, Any]]:
    if not rings:
        return []
    drawn: list[dict[str, Any]] = coco.frPyObjects(
        [ring.ravel().tolist() for ring in rings], frame.height, frame.width
    )
    if not any(coco.area(each) for each in drawn):  # of a list it makes single bytes
        raise _BadShapeError("polygons marks no pixel: all are too thin")
    return drawn


def _rle_masks(value: object, width: int, height: int, uri: str) -> Iterable[dict[str, Any]]:
    for name, rle in _items("rle", value, lambda cell: isinstance(cell, dict)):
        if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
            raise _BadShapeError(f"{name} is not an object with size and counts")
        size, counts = rle["size"], rle["counts"]
        if not isinstance(size, list) or len(size) != 2:
            raise _BadShapeError(f"the size of {name} is not height, width")
        _check_coordinates(f"the size of {name}", size)
        if size != [height, width]:
            raise RowError(
                "mask.size_mismatch",
                f"The photo {uri}: {name} is {size[1]:g}x{size[0]:g}, the photo {width}x{height}.",
            )
        runs = _uncompressed(name, counts) if isinstance(counts, str) else counts
        if not isinstance(runs, list) or not all(map(_is_count, runs)):
            raise _BadShapeError(f"the counts of {name} are not all whole numbers from 0")
        if sum(runs) != width * height:
            raise _BadShapeError(
                f"the counts of {name} are {sum(runs)} px together, the photo has {width * height}"
            )
        yield coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)


def _uncompressed(name: str, text: str) -> list[int]:
    """The counts of COCO's compressed form: differences to the last but one, 5 bits a character."""
    if not _COMPRESSED.fullmatch(text):
        raise _BadShapeError(f"the counts of {name} are not COCO's compressed form")
    counts: list[int] = []
    value = shift = 0
    for character in text.encode("ascii"):
        value |= (character - 48 & 0x1F) << shift
        shift += 5
        if character - 48 & 0x20:
            continue
        if character - 48 & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts


def _check_coordinates(name: str, numbers: list[Any]) -> None:
    for number in numbers:
        if not _is_number(number):
            raise _BadShapeError(f"{name} holds {str(number)[:40]!r}, which is not a number")
        if not abs(number) <= _MAX_COORDINATE_PX:
            raise _BadShapeError(f"{name} holds a number beyond {_MAX_COORDINATE_PX}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of_numbers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and _is_number(value[0])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32
