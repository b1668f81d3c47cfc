"""Normalizes the marks of photos: mask files, boxes, polygons and RLE masks.

A row with one mask file needs only its URI. All other marks, which are JSON text in CSV and lists
in JSON Lines and Parquet, become one JSON object in the column ``marks`` of shards and lineage.
Planning only checks that they are JSON; ``stages/pixels/shapes.py`` validates the shapes when it
draws them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import RowError
from manifests.reading.arrow_types import LONE_SURROGATE, cell_as_json, refuse_constant
from manifests.schema import SHAPE_COLUMNS

#: A mask cell of this form is parsed as JSON, which must be a list of paths; ``[1].png`` is a path.
_JSON = r"^\s*(?:\[[\s\S]*\]|\{[\s\S]*\})\s*$"

#: Max number of characters of a bad cell that its error repeats.
_MAX_SHOWN = 80

_NORMALIZED = ["mask_uri", "marks", "problem", "corners"]

#: Matches the result of :meth:`Marks.pack` if all lists are empty.
EMPTY_MARKS = r'^\{("[a-z]+":\[\],?)+\}$'


@dataclass(frozen=True, slots=True)
class Marks:
    """All marks of one photo; the union of them is removed.

    Attributes:
        files: URIs of its mask files.
        shapes: ``boxes``, ``polygons`` and ``rle`` as in the manifest; absent ones are left out.
    """

    files: list[str]
    shapes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, files: list[str], **cells: Any) -> Marks:
        """Take cells of shapes as a program has them: lists, objects, NumPy arrays; None: no cell.

        Raises:
            ValueError: a cell has no form in JSON.
        """
        texts = {name: cell_as_json(cell) for name, cell in cells.items() if cell is not None}
        return cls(files, {name: _from_json(name, text) for name, text in texts.items()})

    @classmethod
    def unpack(cls, mask_uri: str, marks: str | None) -> Marks:
        """Parse the result of :meth:`pack`."""
        shapes = json.loads(marks) if marks else {}
        more = shapes.pop("masks", [])
        return cls([mask_uri, *more] if mask_uri else more, shapes)

    def pack(self) -> tuple[str, str | None]:
        """Serialize to the first file's URI and the rest as JSON.

        The URI is empty if there is no file; the rest is None if there is only one. Marks without
        files and shapes, an empty mask, have an empty list of masks as their rest.

        Raises:
            ValueError: a number is infinite.
        """
        first, *more = self.files or [""]
        nothing = not first and not self.shapes
        rest = self.shapes | ({"masks": more} if more or nothing else {})
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return first, text if rest else None


def is_unmarked(mask_uri: str, marks: str | None) -> bool:
    """Whether a row of a shard or the lineage has no marks; one that marks nothing has some."""
    return not mask_uri and marks is None


def normalize_marks(table: pa.Table, absolute: Callable[[pa.Array], pa.Array]) -> pa.Table:
    """Normalize the marks of each row.

    Rows with only one mask file, the common case, are processed as whole columns.

    Args:
        table: has ``mask`` and optionally :data:`SHAPE_COLUMNS`, all text.
        absolute: converts paths to URIs, and keeps nulls.

    Returns:
        The columns ``mask_uri``, of the first mask file; ``marks``, the others as JSON;
        ``problem``: why the cells are invalid, with the remedy; and ``corners``: the number of
        boxes if all of them could also be x0, y0, x1, y1, otherwise 0. Each is null if there is
        none.
    """
    masks = table["mask"].combine_chunks()
    names = [name for name in SHAPE_COLUMNS if name in table.column_names]
    special = pc.fill_null(pc.match_substring_regex(masks, _JSON), False)
    for name in names:
        special = pc.or_(special, pc.is_valid(table[name]).combine_chunks())
    rows = pc.indices_nonzero(special).to_pylist()
    marks, none = pa.nulls(table.num_rows, pa.large_string()), pa.nulls(table.num_rows, pa.string())
    if not rows:
        corners = pa.nulls(table.num_rows, pa.int64())
        return pa.table([absolute(masks), marks, none, corners], _NORMALIZED)
    problems: list[str | None] = []
    parsed: list[Marks | None] = []
    packed: list[str | None] = []
    for cells in table.select(["mask", *names]).take(rows).to_pylist():
        try:
            read = _read_row(cells)
            text, problem = read.pack()[1] if read else None, None
        except (ValueError, RecursionError) as error:
            read, text = None, None
            shown = "; ".join(f"{name} {_start(cell)}" for name, cell in cells.items() if cell)
            problem = str(RowError("mask.bad_shape", f"{error}: {shown}."))
        parsed.append(read)
        packed.append(text)
        problems.append(problem)
    firsts = [each.files[0] if each and each.files else None for each in parsed]
    uris = absolute(pc.replace_with_mask(masks, special, pa.array(firsts, pa.string())))
    further = [path for each in parsed if each for path in each.files[1:]]
    more = iter(absolute(pa.array(further, pa.string())).to_pylist())
    for number, each in enumerate(parsed):
        if each and len(each.files) > 1:
            files = [each.files[0], *islice(more, len(each.files) - 1)]
            packed[number] = Marks(files, each.shapes).pack()[1]
    marks = pc.replace_with_mask(marks, special, pa.array(packed, pa.large_string()))
    failed = pc.replace_with_mask(none, special, pa.array(problems, pa.string()))
    counts = pa.array([each and _corners(each.shapes.get("boxes")) for each in parsed], pa.int64())
    corners = pc.replace_with_mask(pa.nulls(table.num_rows, pa.int64()), special, counts)
    return pa.table([uris, marks, failed, corners], _NORMALIZED)


def _corners(boxes: Any) -> int | None:
    """The number of boxes if all could also be corners, otherwise 0; None if nothing speaks for
    either: a box at 0, 0 is the same in both.
    """
    try:
        each_box = boxes if isinstance(boxes[0], list) else [boxes]
        fits = [width > x and height > y for x, y, width, height in each_box if x or y]
    except (TypeError, ValueError, LookupError):
        return None
    return (len(fits) if all(fits) else 0) if fits else None


def _read_row(cells: dict[str, str | None]) -> Marks | None:
    """Read the marks of one row, with unchanged paths; None if all cells are empty.

    Raises:
        ValueError: a cell is not JSON (or contains NaN), or ``mask`` is not a list of paths.
    """
    mask = cells["mask"]
    texts = {name: text for name, text in cells.items() if text and name != "mask"}
    values = {name: _from_json(name, text) for name, text in texts.items()}
    shapes = {name: value for name, value in values.items() if value is not None}
    if not mask:
        return Marks([], shapes) if shapes else None
    if not re.match(_JSON, mask):
        return Marks([mask], shapes)
    files = _from_json("mask", mask)
    if not isinstance(files, list) or not all(
        isinstance(each, str) and each and not LONE_SURROGATE.search(each) for each in files
    ):
        raise ValueError("The cell mask is not a list of paths")
    return Marks(files, shapes)


def _start(text: str) -> str:
    """The start of a cell, for an error: the cell is not recorded."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _from_json(name: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The cell {name} is not JSON: {error}") from None
