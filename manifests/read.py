"""Read a manifest: CSV, JSON Lines or Parquet; a file, a folder of files, or a pattern.

To add a format, write a function from a place to a table and enter its suffixes in
:data:`_READERS`.
"""

from __future__ import annotations

import csv
import fnmatch
import gzip
import hashlib
import io
import json
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
from pyarrow import fs

from manifests.errors import ManifestError
from manifests.files import Place
from manifests.marks import as_text
from manifests.schema import MANIFEST_COLUMNS, SHAPE_COLUMNS

#: How many bad lines an error names before it says how many more there are.
NAMED_LINES = 10

#: What marks a photo; a manifest has at least one of these.
_MARK_COLUMNS = ("mask", *SHAPE_COLUMNS)

csv.field_size_limit(2**31 - 1)  # polygons and run lengths may be longer than the default's 128 KiB


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a manifest.

    Attributes:
        place: where it lies.
        table: ``id``, ``image``, ``mask`` and those of :data:`SHAPE_COLUMNS` that it has, as
            strings, lists as JSON, null where a cell is empty; and the other columns: strings
            from CSV, which has no types, as they are from the others.
    """

    place: Place
    table: pa.Table

    def lines(self, rows: list[int]) -> list[int]:
        """The 1-based line numbers of rows (0-based); row numbers + 1 in Parquet."""
        if _format_of(self.place) == ".parquet":
            return [row + 1 for row in rows]
        wanted, found = set(rows), {}
        text = io.TextIOWrapper(io.BytesIO(_plain_bytes(self.place)), "utf-8-sig", newline="")
        if _format_of(self.place) == ".csv":
            reader = csv.reader(text)
            next(reader, None)
            start = reader.line_num + 1
            row = 0
            for cells in reader:
                if cells:
                    if row in wanted:
                        found[row] = start
                    row += 1
                start = reader.line_num + 1
        else:
            filled = (number for number, line in enumerate(text, 1) if line.strip())
            found = {row: number for row, number in enumerate(filled) if row in wanted}
        return [found[row] for row in rows]


def read_manifest(uri: str) -> list[ManifestFile]:
    """Read all files of a manifest.

    Args:
        uri: path or ``s3://`` URI of a file or folder; the last part may be a pattern.

    Raises:
        ManifestError: ``manifest.not_found``, ``manifest.unreadable``,
            ``manifest.missing_column``, ``manifest.missing_id`` or ``manifest.empty``.
    """
    files = [ManifestFile(place, _read_file(place)) for place in find_files(uri)]
    if not any(file.table.num_rows for file in files):
        raise ManifestError("manifest.empty", f"The manifest {uri} has no rows.")
    for file in files:
        _refuse_missing_ids(file)
    return files


def find_files(uri: str) -> list[Place]:
    """The files of a manifest, by name.

    Raises:
        ManifestError: ``manifest.not_found``.
    """
    try:
        place = Place.of(uri)
        kind = place.kind()
        if kind == fs.FileType.Directory:
            found = [file for file in place.files() if _format_of(file) in _READERS]
        elif kind == fs.FileType.File:
            found = [place]
        else:
            found = [f for f in place.parent.files() if fnmatch.fnmatch(f.name, place.name)]
    except (OSError, ValueError) as error:
        raise ManifestError("manifest.not_found", f"The manifest {uri}: {error}.") from None
    if not found:
        raise ManifestError("manifest.not_found", f"There is no manifest at {uri}.")
    return found


def fingerprint(files: list[Place]) -> str:
    """A hash that changes with the files' contents, names and folder, 16 hex digits."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.uri.encode())
        with file.filesystem.open_input_stream(file.path, compression=None) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def _read_file(place: Place) -> pa.Table:
    reader = _READERS.get(_format_of(place))
    if reader is None:
        raise ManifestError(
            "manifest.unreadable", f"{place.uri} is none of {', '.join(sorted(_READERS))}."
        )
    if place.filesystem.get_file_info(place.path).size == 0:
        raise ManifestError("manifest.empty", f"{place.uri} is empty.")
    try:
        table = reader(place)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            "manifest.unreadable", f"{place.uri}: line {line} is not UTF-8."
        ) from None
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        raise ManifestError("manifest.unreadable", f"{place.uri}: {error}.") from None
    # Spreadsheets leave nameless columns behind, and blanks around names.
    table = table.select([i for i, name in enumerate(table.column_names) if name.strip()])
    table = table.rename_columns([name.strip() for name in table.column_names])
    missing = [name for name in ("id", "image") if name not in table.column_names]
    if not set(_MARK_COLUMNS).intersection(table.column_names):
        missing.append("mask, boxes, polygons or rle")
    if missing:
        found = ", ".join(table.column_names) or "none"
        hint = " Are its cells separated by semicolons? Use commas." if ";" in found else ""
        if {name.lower() for name in table.column_names} >= set(MANIFEST_COLUMNS):
            hint = " Write their names in lower case."
        raise ManifestError(
            "manifest.missing_column",
            f"{place.uri} has no column {', '.join(missing)}, only {found}.{hint}",
        )
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if repeated:
        raise ManifestError(
            "manifest.unreadable", f"{place.uri} has {', '.join(sorted(repeated))} more than once."
        )
    if "mask" not in table.column_names:
        table = table.append_column("mask", pa.nulls(table.num_rows, pa.string()))
    for name in _MARK_COLUMNS:
        if name in table.column_names and (name != "mask" or pa.types.is_nested(table[name].type)):
            table = table.set_column(table.column_names.index(name), name, as_text(table[name]))
    for name in MANIFEST_COLUMNS:
        table = _as_text(table, name, place)
    return table


def _as_text(table: pa.Table, name: str, place: Place) -> pa.Table:
    """The column as strings, null where it is empty."""
    if pa.types.is_floating(table[name].type) and table[name].null_count < table.num_rows:
        raise ManifestError(
            "manifest.unreadable",
            f"{place.uri}: column {name} holds numbers with decimals, or too large to be exact; "
            "put them in quotes.",
        )
    try:
        column = pc.cast(table[name], pa.string())
    except pa.ArrowException as error:
        raise ManifestError(
            "manifest.unreadable", f"{place.uri}: column {name} is not text: {error}."
        ) from None
    column = pc.if_else(pc.equal(column, ""), None, column)
    return table.set_column(table.column_names.index(name), name, column)


def _refuse_missing_ids(file: ManifestFile) -> None:
    rows = pc.indices_nonzero(pc.is_null(file.table["id"])).to_pylist()
    if rows:
        raise ManifestError(
            "manifest.missing_id", f"{file.place.uri} has no id in {name_lines(file, rows)}."
        )


def name_lines(file: ManifestFile, rows: list[int]) -> str:
    """``line 7``, or ``lines 7, 9, 12 and 30 more``; rows are 0-based."""
    word = "row" if _format_of(file.place) == ".parquet" else "line"
    lines = file.lines(rows[:NAMED_LINES])
    text = f"{word}{'s' if len(rows) > 1 else ''} {', '.join(map(str, lines))}"
    more = len(rows) - len(lines)
    return f"{text} and {more} more" if more else text


def _format_of(place: Place) -> str:
    """Suffix in lower case, ``.gz`` left out, spellings of one format brought together."""
    suffix = posixpath.splitext(place.path.lower().removesuffix(".gz"))[1]
    return {".ndjson": ".jsonl", ".pq": ".parquet"}.get(suffix, suffix)


def _plain_bytes(place: Place) -> bytes:
    """The file's bytes, unpacked where the name ends in ``.gz``."""
    with place.filesystem.open_input_stream(place.path, compression=None) as stream:
        data: bytes = stream.read()
    return gzip.decompress(data) if place.path.lower().endswith(".gz") else data


def _read_csv(place: Place) -> pa.Table:
    data = _plain_bytes(place)
    names = next(csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")), [])
    try:
        return pacsv.read_csv(
            io.BytesIO(data),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                # 00123 is an article number, not the integer 123
                column_types={name: pa.string() for name in names},
                strings_can_be_null=False,
            ),
            read_options=pacsv.ReadOptions(block_size=_block_size(data)),
        )
    except pa.ArrowException as error:
        raise ValueError(_bad_csv_lines(data) or str(error)) from None


def _bad_csv_lines(data: bytes) -> str:
    """Which lines have another number of cells than the header."""
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    expected, bad, start = len(next(reader, [])), [], 2
    for cells in reader:
        if cells and len(cells) != expected:
            bad.append(f"line {start} has {len(cells)} cells, the header {expected}")
        start = reader.line_num + 1
    return "; ".join(bad[:NAMED_LINES])


def _read_json_lines(place: Place) -> pa.Table:
    data = _plain_bytes(place)
    try:
        if not re.search(rb'"(mask|boxes|polygons|rle)"\s*:\s*[\[{]', data):
            return _arrow_from_json(data)
        others, marks = _apart(data)
        table = _arrow_from_json(others)
        return pa.table(dict(zip(table.column_names, table.columns, strict=True)) | marks)
    except (pa.ArrowException, ValueError, RecursionError) as error:
        raise ValueError(_bad_json_lines(data) or f"{error} (counted from row 0)") from None


def _arrow_from_json(data: bytes) -> pa.Table:
    options = pajson.ReadOptions(block_size=_block_size(data))
    table = pajson.read_json(io.BytesIO(data), options)
    dates = [field.name for field in table.schema if pa.types.is_temporal(field.type)]
    if not dates:
        return table
    # JSON has no dates: what looks like one stays the text it is.
    as_strings = pa.schema([(name, pa.string()) for name in dates])
    return pajson.read_json(
        io.BytesIO(data), options, pajson.ParseOptions(explicit_schema=as_strings)
    )


def _apart(data: bytes) -> tuple[bytes, dict[str, pa.Array]]:
    """Take what marks the photos out of JSON Lines, as text, lists as JSON.

    Its type may differ from row to row, which Arrow does not take.
    """
    marks: dict[str, list[str | None]] = {name: [] for name in _MARK_COLUMNS}
    others = []
    for line in filter(bytes.strip, data.splitlines()):
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("a line is no object")  # which one, the caller tells
        for name, cells in marks.items():
            cell = row.pop(name, None)
            cells.append(cell if cell is None or isinstance(cell, str) else json.dumps(cell))
        others.append(json.dumps(row).encode())
    return b"\n".join(others), {
        name: pa.array(cells, pa.large_string()) for name, cells in marks.items() if any(cells)
    }


def _block_size(data: bytes) -> int:
    """Arrow reads files in blocks, in which each line must have room."""
    return max(1 << 20, 2 * max(map(len, io.BytesIO(data)), default=0))


def _bad_json_lines(data: bytes) -> str:
    """Which lines are not JSON objects."""
    bad = []
    for number, line in enumerate(data.decode().splitlines(), 1):
        try:
            if line.strip() and not isinstance(json.loads(line), dict):
                bad.append(f"line {number} is not an object")
        except (ValueError, RecursionError) as error:
            bad.append(f"line {number}: {error}")
    return "; ".join(bad[:NAMED_LINES])


_READERS: dict[str, Callable[[Place], pa.Table]] = {
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": Place.read_table,
}
