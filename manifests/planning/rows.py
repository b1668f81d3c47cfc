"""Checks the rows of a manifest, and converts them to rows of shards."""

from __future__ import annotations

import functools
import posixpath
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import RowError
from manifests.planning.columns import names_in_lineage
from manifests.planning.marks import EMPTY_MARKS, Marks, normalize_marks
from manifests.planning.pairing import Pairing
from manifests.reading.formats import (
    MAX_EXAMPLES,
    MAX_NAMED_LINES,
    Part,
    list_lines,
    list_some,
)
from manifests.reading.pictures import IS_PICTURE, SUFFIXES
from manifests.schema import SHARD_SCHEMA
from manifests.storage import SCHEMES
from manifests.storage.path import StoragePath

#: Of each part of an id: file names are limited to 255 bytes on common file systems, suffix
#: included. And of an id: S3's keys are limited to 1024 bytes, the output's prefix included.
_MAX_PART_BYTES, _MAX_ID_BYTES = 200, 700

#: The marks of a photo in which nothing is marked.
_NOTHING = Marks([]).pack()[1]

#: Max number of rows whose shapes are in memory as Python objects at a time.
_ROWS_PER_BATCH = 10_000

#: Max number of notes about rejected rows; a manifest can have many files.
_MAX_NOTES = 100


#: Boxes that could all be corners are suspicious from this number on.
_MIN_BOXES = 8


@dataclass(slots=True)
class _Rejection:
    """Rows of one file that were rejected for one reason."""

    unit: str
    count: int = 0
    lines: list[int | str] = field(default_factory=list)
    example: str = ""


@dataclass(slots=True)
class RowCounts:
    """Counts the rows that were rejected, that mark nothing, and by how they got their marks.

    Attributes:
        rejected: error code -> number of ids that have it.
        rows: number of ids.
        empty: number of ids that explicitly mark nothing.
        paired: number of ids whose mask was named beside the manifest.
        unmarked: number of ids without marks.
        with_suffix: number of ids that end like a picture's name.
        boxes: number of boxes that could also be corners.
        are_corners: whether all boxes could.
    """

    rejected: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    empty: int = 0
    paired: int = 0
    unmarked: int = 0
    with_suffix: int = 0
    boxes: int = 0
    are_corners: bool = True
    _first_unmarked: list[str] = field(default_factory=list)
    _rejections: dict[tuple[StoragePath, str], _Rejection] = field(default_factory=dict)
    _not_named: int = 0

    def add_errors(self, path: StoragePath, part: Part, checked: pa.Table) -> None:
        """Add the rejected rows of a part; ``checked`` is the table of :func:`to_shard_rows`."""
        codes = checked["error_code"].combine_chunks()
        if codes.null_count == len(codes):
            return
        for code in pc.unique(codes.drop_null()).to_pylist():
            rows = pc.indices_nonzero(pc.equal(codes, code)).to_numpy()
            key = (path, code)
            if key not in self._rejections and len(self._rejections) == _MAX_NOTES:
                self._not_named += len(rows)
                continue
            rejection = self._rejections.setdefault(key, _Rejection(part.unit))
            if not rejection.count:
                rejection.example = checked["id"][int(rows[0])].as_py()[:40]
            rejection.lines += part.lines(rows[: MAX_NAMED_LINES - len(rejection.lines)].tolist())
            rejection.count += len(rows)

    def add_rows(self, rows: pa.Table, facts: pa.Table) -> None:
        """Count rows of shards, in which each id occurs once; see :func:`to_shard_rows`."""
        unmarked = facts["unmarked"].combine_chunks()
        self.rows += len(rows)
        self.rejected.update(rows["error_code"].drop_null().to_pylist())
        is_name = pc.match_substring_regex(rows["id"], IS_PICTURE)
        self.with_suffix += pc.sum(is_name).as_py() or 0
        self.paired += facts["paired"].combine_chunks().true_count
        self.unmarked += unmarked.true_count
        if unmarked.true_count and len(self._first_unmarked) < MAX_EXAMPLES:
            ids = rows["id"].filter(unmarked).slice(0, MAX_EXAMPLES)
            self._first_unmarked += ids.to_pylist()
        if rows["marks"].null_count < len(rows):
            is_empty = pc.match_substring_regex(rows["marks"], EMPTY_MARKS)
            no_mask = pc.equal(rows["mask_uri"], "")
            is_own = pc.and_(pc.is_null(rows["error_code"]), pc.invert(unmarked))
            self.empty += pc.sum(pc.and_(pc.and_(is_empty, no_mask), is_own)).as_py() or 0
            self.boxes += pc.sum(facts["corners"]).as_py() or 0
            self.are_corners &= pc.min(facts["corners"]).as_py() != 0

    def notes(self, pairing: Pairing) -> list[str]:
        """Format a sentence on masks beside the manifest, on each file and code, naming lines, and
        on rows that mark nothing.
        """
        notes = [self._pairing_note(pairing)] if pairing.gives_marks else []
        for path, code in sorted(self._rejections, key=lambda key: (key[0].uri, key[1])):
            rejection = self._rejections[path, code]
            lines = list_lines(rejection.unit, rejection.lines, rejection.count)
            notes.append(f"{path.uri}, {lines}: {code} (id {rejection.example!r}).")
        if self._not_named:
            notes.append(f"{self._not_named} more rows, of further files, cannot be used.")
        if self.empty:
            rows = "row marks" if self.empty == 1 else "rows mark"
            photos = "its photo is" if self.empty == 1 else "their photos are"
            notes.append(f"{self.empty} {rows} nothing: {photos} passed on unchanged.")
        if self.with_suffix:
            ids = "id ends" if self.with_suffix == 1 else "ids end"
            notes.append(
                f"{self.with_suffix:,} {ids} like a picture's name. The result's file gets another "
                "suffix: a.jpg.jpg."
            )
        if self.are_corners and self.boxes >= _MIN_BOXES:
            notes.append(
                f"The {self.boxes:,} boxes look like corners (x0, y0, x1, y1). They are read as "
                "COCO's: x, y of the top left corner, width, height."
            )
        return notes

    def _pairing_note(self, pairing: Pairing) -> str:
        """Say how many rows got a mask that was named beside the manifest, and which got none."""
        clauses = []
        if pairing.masks:
            clauses.append(f"{self.paired:,} paired with masks")
        elif pairing.mask:
            clauses.append(f"{self.paired:,} with the mask {pairing.mask}")
        if self.unmarked:
            what = {"fail": "", "pass": ", passed on unchanged", "detect": ", to be searched"}
            shown = list_some(self._first_unmarked, self.unmarked)
            examples = f": {shown}" if shown else ""
            clauses.append(f"{self.unmarked:,} without marks{what[pairing.unmarked]}{examples}")
        photos = "photo" if self.rows == 1 else "photos"
        return f"{self.rows:,} {photos}{': ' if clauses else ''}{'; '.join(clauses)}."


def to_shard_rows(
    table: pa.Table,
    base: StoragePath,
    extra: pa.Schema,
    duplicates: pa.StringArray,
    pairing: Pairing,
) -> tuple[pa.Table, pa.Table]:
    """Convert rows of a manifest to rows of a shard, with absolute URIs and errors.

    Args:
        table: a part from :func:`manifests.reading.read.read_parts`.
        base: the folder that paths are relative to.
        extra: the merged schema of the manifest's extra columns.
        duplicates: the errors of ids that are not unique; null for others.
        pairing: how rows without marks are marked.

    Returns:
        The same rows in the same order: the table to store, of :data:`SHARD_SCHEMA` and the
        manifest's extra columns; and facts on each row: ``paired`` (its mask is not its own, but
        was named beside the manifest), ``unmarked`` (it has no marks, and no other error) and
        ``corners`` (see :func:`normalize_marks`).

    Raises:
        ValueError: a value does not fit the merged type of its column.
    """
    starts = range(0, max(table.num_rows, 1), _ROWS_PER_BATCH)  # the last part may be empty
    normalized = pa.concat_tables(
        normalize_marks(table.slice(at, _ROWS_PER_BATCH), lambda paths: _absolute_uris(paths, base))
        for at in starts
    )
    ids, images = table["id"].combine_chunks(), table["image"].combine_chunks()
    mask_uris, marks, problems, corners = (each.combine_chunks() for each in normalized.columns)
    image_uris = _absolute_uris(images, base)
    has_none = pc.and_(pc.and_(pc.is_null(mask_uris), pc.is_null(marks)), pc.is_null(problems))
    found = pairing.find(ids)
    mask_uris = pc.if_else(has_none, found.uris, mask_uris)
    paired = pc.and_(has_none, pc.is_valid(found.uris))
    several = pc.if_else(has_none, found.several, None)
    unmarked = pc.and_(has_none, pc.and_(pc.is_null(found.uris), pc.is_null(found.several)))
    if pairing.unmarked == "pass":
        marks = pc.if_else(unmarked, pa.scalar(_NOTHING, pa.large_string()), marks)
    code, text = "mask.no_uri", "Nothing marks the photo."
    if pairing.masks:
        where = pairing.masks.pictures.path.uri
        code, text = "mask.unmatched", f"No mask in {where} has the name of the photo."
    codes, texts = _errors(
        (_is_unsafe(ids), "id.unsafe", "The id cannot be a path below the output."),
        (pc.is_valid(duplicates), "id.duplicate", duplicates),
        (pc.is_null(images), "image.no_uri", "The cell is empty."),
        (
            _has_unknown_scheme(image_uris),
            "image.unknown_scheme",
            "The photo's URI cannot be read.",
        ),
        (pc.is_valid(problems), "mask.bad_shape", problems),
        (_has_unknown_scheme(mask_uris), "mask.unknown_scheme", "The mask's URI cannot be read."),
        (pc.is_valid(several), "mask.several", _several(several)),
        (pc.and_(unmarked, pairing.unmarked == "fail"), code, text),
    )
    columns = [
        ids,
        pc.fill_null(image_uris, ""),
        pc.fill_null(mask_uris, ""),
        marks,
        codes,
        texts,
        *(_column(table, field) for field in extra),
    ]
    names = names_in_lineage(extra.names)
    renamed = (field.with_name(names[field.name]) for field in extra)
    has_no_other_error = pc.fill_null(pc.equal(codes, code), True)
    facts = {
        "paired": pc.and_(paired, pc.is_null(codes)),
        "unmarked": pc.and_(unmarked, has_no_other_error),
        "corners": corners,
    }
    return pa.table(columns, schema=pa.schema([*SHARD_SCHEMA, *renamed])), pa.table(facts)


def _several(names: pa.StringArray) -> pa.Array:
    """The text of ``mask.several`` of each row, null where there are not several."""
    texts = [name and str(RowError("mask.several", f"{name} match.")) for name in names.to_pylist()]
    return pa.array(texts, pa.string())


def _column(table: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    try:
        return table[field.name].cast(field.type)
    except pa.ArrowException as error:
        raise ValueError(f"column {field.name}: {error}") from None


def _has_unknown_scheme(uris: pa.Array) -> pa.Array:
    known = pc.match_substring_regex(uris, rf"^(?i)({'|'.join(SCHEMES)})://")
    return pc.and_(pc.match_substring(uris, "://"), pc.invert(known))


def _absolute_uris(paths: pa.Array, base: StoragePath) -> pa.Array:
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

#: Control characters and backslashes; an empty part, ``.`` or ``..``.
_NOT_A_PATH = r"[\x00-\x1f\x7f-\x9f\\]|(^|/)(\.\.?)?(/|$)"

#: Folders that could be the result, or a snapshot, of another id.
_IS_RESULT = rf"(?i)\.({'|'.join(SUFFIXES)})/|/\d+-(removal|refined)\.webp$"


def _is_unsafe(ids: pa.Array) -> pa.Array:
    """Find ids that leave their folder (also after Unicode normalization) or imitate others."""
    normal = pc.utf8_normalize(ids, form="NFKC")
    cases = [
        pc.match_substring_regex(normal, _NOT_A_PATH),
        # NFKC turns a fullwidth solidus into a slash.
        pc.not_equal(pc.count_substring(normal, "/"), pc.count_substring(ids, "/")),
        pc.match_substring_regex(ids, _INVISIBLE),
        pc.match_substring_regex(ids, _IS_RESULT),
        pc.greater(pc.binary_length(ids), _MAX_ID_BYTES),
        _has_long_part(ids),
    ]
    return functools.reduce(pc.or_, cases)


def _has_long_part(ids: pa.Array) -> pa.Array:
    """Whether a part of an id, between slashes, is over :data:`_MAX_PART_BYTES` long."""
    if (pc.max(pc.binary_length(ids)).as_py() or 0) <= _MAX_PART_BYTES:
        return pa.repeat(False, len(ids))
    parts = pc.split_pattern(ids, "/")
    long = pc.greater(pc.binary_length(pc.list_flatten(parts)), _MAX_PART_BYTES)
    rows = pc.list_parent_indices(parts).filter(long)
    return pc.is_in(pa.array(range(len(ids)), rows.type), value_set=rows)


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
