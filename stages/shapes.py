"""Boxes, polygons and run lengths, in COCO's forms, drawn at the photo's size.

The frame is the photo as displayed: origin at its top left corner, x to the right, y down, in px;
pixel 0 reaches from 0 to 1. pycocotools draws polygons and run lengths. It is C code that trusts
its input, so everything that could make it read or write where it must not, or take memory or time
without bound, is refused here first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco

from manifests.errors import RowError
from stages.masks import Bits

#: How many shapes of one kind may mark a photo: each costs up to a pass over it.
_MOST = 1000

#: Coordinates beyond this are mistakes, and would not fit into C's integers.
_FARTHEST_PX = 1_000_000

#: What the polygons of a photo may have around them, together: drawing takes 80 bytes for each px.
_LONGEST_PX = 2_000_000

#: COCO's compressed counts: groups of 5 bits, of which all but a number's last carry the sixth.
_COMPRESSED = re.compile(r"(?:[P-o]{0,6}[0-O])*")

_NEITHER = "is neither an object with size and counts nor a list of such"


def rasterise(shapes: Mapping[str, Any], width: int, height: int, uri: str) -> Bits:
    """Return ``(h, w)`` bool: what the shapes mark, united; what reaches outside is cut off.

    Args:
        shapes: parsed JSON, whatever it holds. ``boxes``: lists of x, y, width and height, or one
            such; every pixel that a box touches is marked. ``polygons``: lists of x1, y1, x2, y2
            and so on, or one such. ``rle``: objects of ``size`` (height, width) and ``counts``, a
            list or COCO's compressed string, or one such. Empty lists mark nothing.
        width: of the photo as displayed, px.
        height: of the photo as displayed, px.
        uri: names the photo in errors.

    Raises:
        RowError: ``mask.bad_shape``, also for a box or polygon that lies outside the photo, and
            for polygons that are all too thin to mark a pixel; ``mask.size_mismatch`` for run
            lengths of another size.
    """
    try:
        region = np.zeros((height, width), np.bool_)
        for name, box in _items("boxes", shapes.get("boxes", []), _is_number):
            _draw_box(region, name, box)
        encoded = [
            *_polygons(shapes.get("polygons", []), width, height),
            *_run_lengths(shapes.get("rle", []), width, height, uri),
        ]
        if encoded:
            region |= coco.decode(coco.merge(encoded)).view(np.bool_)
    except _BadShapeError as error:
        raise RowError("mask.bad_shape", f"The photo {uri}: {error}.") from None
    return region


class _BadShapeError(Exception):
    """What is wrong with a shape."""


def _items(name: str, value: object, is_part: Callable[[object], bool]) -> list[tuple[str, Any]]:
    """The shapes of a cell that holds one, or a list of them, each with its name in errors."""
    if not isinstance(value, list):
        raise _BadShapeError(f"{name} is not a list")
    if value and is_part(value[0]):
        return [(name, value)]
    _refuse_too_many(name, value)
    return [(f"{name}[{index}]", item) for index, item in enumerate(value)]


def _refuse_too_many(name: str, value: list[Any]) -> None:
    if len(value) > _MOST:
        raise _BadShapeError(
            f"{name} has {len(value)} shapes, more than the {_MOST} that a photo may have"
        )


def _draw_box(region: Bits, name: str, box: object) -> None:
    if not isinstance(box, list) or len(box) != 4:
        count = f"has {len(box)} numbers" if isinstance(box, list) else "is no list"
        raise _BadShapeError(f"{name} {count}, not x, y, width, height")
    _check_coordinates(name, box)
    x, y, box_width, box_height = box
    if box_width <= 0 or box_height <= 0:
        raise _BadShapeError(f"{name} is {box_width:g} wide and {box_height:g} high")
    height, width = region.shape
    x0, x1 = max(math.floor(x), 0), min(math.ceil(x + box_width), width)
    y0, y1 = max(math.floor(y), 0), min(math.ceil(y + box_height), height)
    if x0 >= x1 or y0 >= y1:
        raise _BadShapeError(f"{name} lies outside the photo of {width}x{height}")
    region[y0:y1, x0:x1] = True


def _polygons(value: object, width: int, height: int) -> list[dict[str, Any]]:
    rings = _items("polygons", value, _is_number)
    length = 0.0
    for name, ring in rings:
        if not isinstance(ring, list):
            raise _BadShapeError(f"{name} is no list of x1, y1, x2, y2 and so on")
        if len(ring) < 6 or len(ring) % 2:
            raise _BadShapeError(
                f"{name} has {len(ring)} numbers; three points or more have 6, 8 and so on"
            )
        _check_coordinates(name, ring)
        points = np.asarray(ring, np.float64).reshape(-1, 2)
        length += float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()) + len(points)
        if length > _LONGEST_PX:
            raise _BadShapeError(f"the polygons are over {_LONGEST_PX} px long, up to {name}")
        if (points.min(axis=0) >= (width, height)).any() or (points.max(axis=0) <= 0).any():
            raise _BadShapeError(f"{name} lies outside the photo of {width}x{height}")
    if not rings:
        return []
    drawn: list[dict[str, Any]] = coco.frPyObjects(
        [list(map(float, ring)) for _, ring in rings], height, width
    )
    if not any(coco.area(each) for each in drawn):  # of a list it makes single bytes
        raise _BadShapeError("polygons marks no pixel: all are too thin")
    return drawn


def _run_lengths(value: object, width: int, height: int, uri: str) -> Iterable[dict[str, Any]]:
    if not isinstance(value, list | dict):
        raise _BadShapeError(f"rle {_NEITHER}")
    for name, rle in [("rle", value)] if isinstance(value, dict) else _items("rle", value, _never):
        if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
            raise _BadShapeError(f"{name} {_NEITHER}")
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
            raise _BadShapeError(f"{name} holds {str(number)[:40]!r}, which is no number")
        if not abs(number) <= _FARTHEST_PX:
            raise _BadShapeError(f"{name} holds a number beyond {_FARTHEST_PX}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


def _never(_: object) -> bool:
    return False
