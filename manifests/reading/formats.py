"""Reads the formats of manifests in parts, so that memory does not grow with the manifest.

To add one, write a function from a path to its parts, and add its suffix to :data:`READERS`.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.reading.arrow_types import LONE_SURROGATE, refuse_constant
from manifests.schema import MARK_COLUMNS
from manifests.storage.path import StoragePath

#: Size of the parts in which text is parsed. Parsing takes some thirty times as much memory.
PART_BYTES = 4 << 20

#: Max size of a row. The RLE mask of a photo of 100 megapixels have some 5 MB. A longer row
#: means that a quotation mark was left open, or that the file is not a manifest.
ROW_BYTES = 32 << 20

#: Max number of columns; each costs memory in every part.
MAX_COLUMNS = 1000

#: Max number of bad lines that an error names; it counts the others.
MAX_NAMED_LINES = 10

#: Max number of names that a note gives as examples.
MAX_EXAMPLES = 3

#: Max rows in a part of Parquet, however small they are.
_PART_ROWS = 100_000

#: Appended to CSV: it becomes a record of its own, unless a quotation mark is still open.
_END = "\0"


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of a file.

    Attributes:
        table: the file's columns, unchanged. From CSV, which has no types, they are text, and rows
            that consist only of commas are left out.
        numbers: each row's first line, from 1; from Parquet, the row's number; of pictures, their
            paths.
        unit: what the numbers count: ``line``, ``row`` or ``photo``.
    """

    table: pa.Table
    numbers: Sequence[int | str]
    unit: str = "line"

    def lines(self, rows: Sequence[int]) -> list[int | str]:
        """The numbers of some rows, which are counted from 0 in the table."""
        return [self.numbers[row] for row in rows]


def list_lines(unit: str, lines: Sequence[int | str], count: int) -> str:
    """Format ``line 7``, or ``lines 7, 9, 12 and 30 more``; ``count`` is the total."""
    return f"{unit}{'s' if count > 1 else ''} {list_some(map(str, lines), count, MAX_NAMED_LINES)}"


def list_some(names: Iterable[str], count: int, max_names: int = MAX_EXAMPLES) -> str:
    """Format ``a, b, c and 30 more``; ``count`` is the total."""
    shown = list(islice(names, max_names))
    more = f" and {count - len(shown):,} more" if count > len(shown) else ""
    return ", ".join(shown) + more


def separator_hint(names: Iterable[str]) -> str:
    """A hint, in brackets, for a header of such cells; empty if no cell has a separator."""
    header = "".join(names)
    for character, word in ((";", "semicolons"), ("\t", "tabs")):
        if character in header:
            return f" (are the cells separated by {word}? Use commas)"
    return ""


def format_of(path: StoragePath) -> str:
    """The normalized suffix of a format: lower case, without ``.gz``, one spelling per format."""
    suffix = posixpath.splitext(path.name.lower().removesuffix(".gz"))[1]
    return {".ndjson": ".jsonl", ".pq": ".parquet"}.get(suffix, suffix)


class _Lines:
    """Iterates over the lines of a text file; decompresses files that end in ``.gz``.

    Attributes:
        held: characters supplied since the last row ended; reset to 0 by the reader.
    """

    def __init__(self, path: StoragePath) -> None:
        self._path = path
        self.held = 0

    def __iter__(self) -> Iterator[str]:
        """Yield lines with their line ends.

        Raises:
            ValueError: a line is not UTF-8 or contains NUL, or a row is longer than
                :data:`ROW_BYTES`.
        """
        row = 1
        with self._path.open_input() as file:
            is_zipped = self._path.name.lower().endswith(".gz")
            stream = pa.CompressedInputStream(file, "gzip") if is_zipped else file
            text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
            for number, line in enumerate(iter(partial(text.readline, ROW_BYTES + 1), ""), 1):
                if not self.held:
                    row = number
                self.held += len(line)
                if self.held > ROW_BYTES:
                    raise ValueError(
                        f"the row in line {row} is longer than {ROW_BYTES >> 20} MiB; perhaps a "
                        "quotation mark was left open"
                    )
                if "\0" in line:
                    raise ValueError(
                        f"line {number} contains a NUL byte; a manifest is text in UTF-8"
                    )
                if not line.isascii() and LONE_SURROGATE.search(line):
                    raise ValueError(f"line {number} is not UTF-8")
                yield line


def _read_csv(path: StoragePath) -> Iterator[Part]:
    """Read CSV with all columns as text: 00123 is an article number, not the integer 123."""
    names: list[str] = []
    for records, numbers in _csv_records(_Lines(path)):
        if not names and records:
            names = records.pop(0)
            del numbers[0]
        if len(names) > MAX_COLUMNS:
            raise ValueError(f"it has {len(names)} columns, at most {MAX_COLUMNS} are read")
        bad = [
            f"line {line} has {len(cells)} cells, the header {len(names)}"
            for line, cells in zip(numbers, records, strict=True)
            if len(cells) != len(names)
        ]
        if bad:
            raise ValueError("; ".join(bad[:MAX_NAMED_LINES]) + separator_hint(names))
        columns = zip(*records, strict=True) if records else ([] for _ in names)
        yield Part(pa.table([pa.array(each, pa.string()) for each in columns], names), numbers)


def _csv_records(lines: _Lines) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Yield records that contain more than commas, and the numbers of their first lines."""
    csv.field_size_limit(2 * ROW_BYTES)  # Python's default is too small for some polygons
    reader = csv.reader(chain(lines, [_END]))
    records: list[list[str]] = []
    numbers: list[int] = []
    start, size = 1, 0
    for cells in reader:
        if "".join(cells).strip():  # spreadsheets write empty rows as commas
            records.append(cells)
            numbers.append(start)
        start = reader.line_num + 1
        size += lines.held
        lines.held = 0
        if size >= PART_BYTES and cells != [_END]:
            yield records, numbers
            records, numbers, size = [], [], 0
    if records[-1:] != [[_END]]:
        raise ValueError(f"the quotation mark in line {numbers[-1]} is not closed")
    yield records[:-1], numbers[:-1]


def _read_json_lines(path: StoragePath) -> Iterator[Part]:
    lines = _Lines(path)
    part: list[str] = []
    first, size = 1, 0
    for line in lines:
        part.append(line)
        size += lines.held
        lines.held = 0
        if size >= PART_BYTES:
            yield _json_part(part, first)
            first, part, size = first + len(part), [], 0
    if part:
        yield _json_part(part, first)


def _json_part(lines: Sequence[str], first: int) -> Part:
    """Parse lines of one object each; lists, objects and what marks photos become text."""
    names: set[str] = set()
    decoder = json.JSONDecoder(
        object_pairs_hook=partial(_json_object, names),
        parse_int=_json_integer,
        parse_constant=refuse_constant,
    )
    rows: list[dict[str, Any]] = []
    numbers, bad = [], []
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except (ValueError, RecursionError) as error:
            bad.append(f"line {number}: {error}{_list_hint(line)}")
        else:
            rows.append(row)
            numbers.append(number)
            if not isinstance(row, dict):
                bad.append(f"line {number} is not an object{_list_hint(line)}")
        if len(bad) == MAX_NAMED_LINES:
            break
    if bad:
        raise ValueError("; ".join(bad))
    columns = {
        name: _json_column([row.get(name) for row in rows], name, numbers)
        for name in dict.fromkeys(chain(*rows))
    }
    return Part(pa.table(columns), numbers)


def _list_hint(line: str) -> str:
    is_list = line.lstrip().startswith("[")
    return " (write one object per line, without a list around them)" if is_list else ""


def _json_object(names: set[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object with unique names; limit the names, since each becomes a column."""
    result = dict(pairs)
    names.update(result)
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"there are more than {MAX_COLUMNS} names of columns and fields")
    if len(result) < len(pairs):
        raise ValueError("an object has two fields of one name")
    return result


def _json_integer(text: str) -> int | float:
    """Parse an integer; beyond 64 bits it becomes the nearest float."""
    number = int(text)
    return number if -(2**63) <= number < 2**63 else float(number)


def _json_column(cells: list[Any], name: str, lines: Sequence[int]) -> pa.Array:
    """Convert cells of several types, lists and objects to text."""
    is_text = name in MARK_COLUMNS or any(isinstance(each, list | dict) for each in cells)
    is_needed = name in ("id", "image")
    if is_needed or not is_text:
        try:
            return pa.array(cells)
        except (pa.ArrowException, ValueError) as error:
            if is_needed:
                pairs = zip(lines, map(type, cells), strict=True)
                (first, kind), *others = [pair for pair in pairs if pair[1] is not type(None)]
                odd = next((n for n, other in others if other is not kind), None)
                where = f" and line {odd}" if odd else ""
                raise ValueError(
                    f"column {name}, line {first}{where}: {error}; put its values in quotes"
                ) from None
    texts = [each if isinstance(each, str | None) else json.dumps(each) for each in cells]
    return pa.array(texts, pa.large_string())


def _read_parquet(path: StoragePath) -> Iterator[Part]:
    with path.open_input() as file:
        # With a buffer, Arrow reads a row group page by page, otherwise as a whole.
        parquet = pq.ParquetFile(file, buffer_size=4 << 20, pre_buffer=False)
        metadata = parquet.metadata
        if len(parquet.schema_arrow) > MAX_COLUMNS:
            raise ValueError(
                f"it has {len(parquet.schema_arrow)} columns, at most {MAX_COLUMNS} are read"
            )
        groups = range(metadata.num_row_groups)
        size = sum(metadata.row_group(number).total_byte_size for number in groups)
        rows = PART_BYTES * metadata.num_rows // max(size, 1)
        row = 0
        for batch in parquet.iter_batches(batch_size=min(max(rows, 1), _PART_ROWS)):
            _validate(batch)
            numbers = range(row + 1, row + 1 + batch.num_rows)
            yield Part(pa.Table.from_batches([batch]), numbers, "row")
            row += batch.num_rows
        if not row:
            yield Part(parquet.schema_arrow.empty_table(), ())


def _validate(batch: pa.RecordBatch) -> None:
    """Raise if a value is invalid, such as text that is not UTF-8, which Arrow does not check."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise ValueError(f"column {name} of type {column.type} is damaged: {error}") from None


READERS: dict[str, Callable[[StoragePath], Iterator[Part]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
