"""Checks the rows of a manifest, and converts them to rows of shards."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import RowError
from manifests.planning.columns import names_in_lineage
from manifests.planning.duplicates import UNIQUE
from manifests.planning.marks import EMPTY_MARKS, normalize_marks
from manifests.reading.formats import MAX_NAMED_LINES, Part
from manifests.reading.read import name_lines
from manifests.schema import SHARD_SCHEMA
from manifests.storage.place import Place

#: Leaves room for the suffix: file names are limited to 255 bytes on common file systems.
_MAX_ID_BYTES = 200

#: Max number of rows whose shapes are in memory as Python objects at a time.
_ROWS_PER_BATCH = 10_000

#: Max number of notes about rejected rows; a manifest can have many files.
_MAX_NOTES = 100


@dataclass(slots=True)
class _Rejection:
    """Rows of one file that were rejected for one reason."""

    count: int = 0
    lines: list[int] = field(default_factory=list)
    example: str = ""


@dataclass(slots=True)
class RejectedRows:
    """Collects the rows that were rejected, and those that mark nothing.

    Attributes:
        ids: error code -> number of ids that have it.
        empty: number of ids that explicitly mark nothing.
    """

    ids: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    _rejections: dict[tuple[Place, str], _Rejection] = field(default_factory=dict)
    _not_named: int = 0

    def add(self, place: Place, part: Part, checked: pa.Table) -> None:
        """Add the rejected rows of a part; ``checked`` is the result of :func:`check_rows`."""
        codes = checked["error_code"].combine_chunks()
        if codes.null_count == len(codes):
            return
        for code in pc.unique(codes.drop_null()).to_pylist():
            rows = pc.indices_nonzero(pc.equal(codes, code)).to_numpy()
            key = (place, code)
            if key not in self._rejections and len(self._rejections) == _MAX_NOTES:
                self._not_named += len(rows)
                continue
            rejection = self._rejections.setdefault(key, _Rejection())
            if not rejection.count:
                rejection.example = checked["id"][int(rows[0])].as_py()[:40]
            rejection.lines += part.lines(rows[: MAX_NAMED_LINES - len(rejection.lines)].tolist())
            rejection.count += len(rows)

    def count(self, rows: pa.Table) -> None:
        """Count rows of shards, in which each id occurs once."""
        self.ids.update(rows["error_code"].drop_null().to_pylist())
        if rows["marks"].null_count < len(rows):
            is_empty = pc.match_substring_regex(rows["marks"], EMPTY_MARKS)
            no_mask = pc.equal(rows["mask_uri"], "")
            is_usable = pc.is_null(rows["error_code"])
            self.empty += pc.sum(pc.and_(pc.and_(is_empty, no_mask), is_usable)).as_py() or 0

    def notes(self) -> list[str]:
        """Format a sentence per file and code, naming lines, and one for rows that mark nothing."""
        notes = []
        for place, code in sorted(self._rejections, key=lambda key: (key[0].uri, key[1])):
            rejection = self._rejections[place, code]
            lines = name_lines(place, rejection.lines, rejection.count)
            notes.append(f"{place.uri}, {lines}: {code} (id {rejection.example!r}).")
        if self._not_named:
            notes.append(f"{self._not_named} more rows, of further files, cannot be used.")
        if self.empty:
            rows = "row marks" if self.empty == 1 else "rows mark"
            photos = "its photo is" if self.empty == 1 else "their photos are"
            notes.append(f"{self.empty} {rows} nothing: {photos} passed on unchanged.")
        return notes


def check_rows(
    table: pa.Table, base: Place, extra: pa.Schema, kinds: npt.NDArray[np.uint8]
) -> pa.Table:
    """Convert rows of a manifest to rows of a shard, with absolute URIs and errors.

    Args:
        table: a part from :func:`manifests.reading.read.read_parts`.
        base: the folder that paths are relative to.
        extra: the merged schema of the manifest's other columns.
        kinds: the kind of each row's id, see :mod:`manifests.planning.duplicates`.

    Returns:
        The same rows in the same order: :data:`SHARD_SCHEMA` and the other columns.

    Raises:
        ValueError: a value does not fit the merged type of its column.
    """
    starts = range(0, max(table.num_rows, 1), _ROWS_PER_BATCH)  # the last part may be empty
    normalized = pa.concat_tables(
        normalize_marks(table.slice(at, _ROWS_PER_BATCH), lambda paths: _absolute_uris(paths, base))
        for at in starts
    )
    ids, images = table["id"].combine_chunks(), table["image"].combine_chunks()
    mask_uris, marks, problems = (column.combine_chunks() for column in normalized.columns)
    errors = _errors(
        (_is_unsafe(ids), "id.unsafe", "The id cannot be a file name."),
        (pa.array(kinds != UNIQUE), "id.duplicate", "The id is not unique."),
        (pc.is_null(images), "image.no_uri", "The cell is empty."),
        (pc.is_valid(problems), "mask.bad_shape", problems),
        (pc.and_(pc.is_null(mask_uris), pc.is_null(marks)), "mask.no_uri", "The cell is empty."),
    )
    columns = [
        ids,
        pc.fill_null(_absolute_uris(images, base), ""),
        pc.fill_null(mask_uris, ""),
        marks,
        *errors,
        *(_column(table, field) for field in extra),
    ]
    names = names_in_lineage(extra.names)
    renamed = (field.with_name(names[field.name]) for field in extra)
    return pa.table(columns, schema=pa.schema([*SHARD_SCHEMA, *renamed]))


def _column(table: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    try:
        return table[field.name].cast(field.type)
    except pa.ArrowException as error:
        raise ValueError(f"column {field.name}: {error}") from None


def _absolute_uris(paths: pa.Array, base: Place) -> pa.Array:
    relative = pc.invert(pc.match_substring_regex(paths, r"^([A-Za-z][A-Za-z0-9+.-]*://|/)"))
    joined = pc.binary_join_element_wise(base.uri, paths, "/")
    uris = pc.if_else(relative, joined, paths)
    dotted = pc.and_(relative, pc.match_substring_regex(uris, r"(^|/)\.\.?(/|$)"))
    return _resolve_dots(uris, dotted) if pc.any(dotted).as_py() else uris


def _resolve_dots(uris: pa.Array, which: pa.Array) -> pa.Array:
    """Resolve ``.`` and ``..``, which object stores take literally; never above the root."""
    replaced = []
    for uri in uris.filter(which).to_pylist():
        scheme, separator, path = uri.rpartition("://")
        root, _, rest = path.partition("/")  # the bucket; empty for a local path
        replaced.append(f"{scheme}{separator}{root}{posixpath.normpath('/' + rest)}")
    return pc.replace_with_mask(uris, which, pa.array(replaced, pa.string()))


#: Characters that change text direction or have no width: an id with one can look like another.
_INVISIBLE = r"[\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{2069}\x{feff}]"


def _is_unsafe(ids: pa.Array) -> pa.Array:
    """Find ids that leave their folder (also after Unicode normalization) or imitate others."""
    normal = pc.utf8_normalize(ids, form="NFKC")  # it turns a fullwidth solidus into a slash
    is_path = pc.match_substring_regex(normal, r"[\x00-\x1f\x7f-\x9f/\\]|\.\.|^\.$")
    is_fake = pc.match_substring_regex(ids, _INVISIBLE)
    is_long = pc.greater(pc.binary_length(ids), _MAX_ID_BYTES)
    return pc.or_(pc.or_(is_path, is_fake), is_long)


def _errors(*cases: tuple[pa.Array, str, str | pa.Array]) -> tuple[pa.Array, pa.Array]:
    """The error code and text of each row, null if there is no error.

    Args:
        cases: a row mask (null is false), the code, and the text; the first match wins.
    """
    holds = pa.StructArray.from_arrays(
        [pc.fill_null(which, False) for which, _, _ in cases], [code for _, code, _ in cases]
    )
    texts = (
        str(RowError(code, text)) if isinstance(text, str) else text for _, code, text in cases
    )
    return pc.case_when(holds, *(code for _, code, _ in cases)), pc.case_when(holds, *texts)
