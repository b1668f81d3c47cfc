"""The formats of manifests, each read in parts, so that a manifest's size costs no memory.

To add one, write a function from a place to its parts and enter its suffix in :data:`READERS`.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from manifests.reading.json_lines import bad_lines, read_objects
from manifests.storage.place import Place

#: So much text is parsed at a time. What is made of it takes some ten times as much memory.
PART_BYTES = 16 << 20

#: A row may be so long. The run lengths of a photo of 100 megapixels have some 5 MB; what is longer
#: is a quote that was left open, or no manifest at all.
ROW_BYTES = 32 << 20

#: Each column costs memory in every part, and nobody could work with a lineage of more.
MOST_COLUMNS = 1000

#: How many bad lines an error names before it says how many more there are.
NAMED_LINES = 10

#: A part of Parquet, however small its rows.
_PART_ROWS = 100_000

#: Arrow parses text in blocks of this size on all cores, or, if a row does not fit, as a whole.
_BLOCK_BYTES = 1 << 20

csv.field_size_limit(2**31 - 1)  # polygons and run lengths may be longer than the default's 128 KiB

# A quote opens a cell only at its start, and closes it where it is not doubled; what follows up to
# the comma still belongs to the cell. That is how Arrow and Python read CSV, too.
_CELL = rb'(?:"(?:[^"]++|"")*+"[^,\r\n]*+|[^",\r\n][^,\r\n]*+)?+'
_RECORD = rb"(?:" + _CELL + rb"(?:," + _CELL + rb")*+(?:\r\n|\n|\r(?=[\s\S])))"
_ONE_RECORD, _RECORDS = re.compile(_RECORD), re.compile(_RECORD + rb"*+")


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a file, one after the other.

    Attributes:
        table: its columns as they are; from CSV, which has no types, as text, without rows of
            nothing but commas.
        lines: gives the 1-based line numbers of rows (0-based in the table, ascending); from
            Parquet, row numbers + 1.
    """

    table: pa.Table
    lines: Callable[[Sequence[int]], list[int]]


@dataclass(frozen=True, slots=True)
class _Text:
    """Some lines of a file; ``line`` is the 1-based number of the first."""

    data: bytes
    line: int

    def line_at(self, position: int) -> int:
        head = self.data[:position]
        return self.line + head.count(b"\n") + head.count(b"\r") - head.count(b"\r\n")

    def decoded(self) -> str:
        """The text, with line ends as they are.

        Raises:
            ValueError: it is not UTF-8.
        """
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"line {self.line_at(error.start)} is not UTF-8") from None


def format_of(place: Place) -> str:
    """Suffix in lower case, ``.gz`` left out, spellings of one format brought together."""
    suffix = posixpath.splitext(place.path.lower().removesuffix(".gz"))[1]
    return {".ndjson": ".jsonl", ".pq": ".parquet"}.get(suffix, suffix)


def _texts(place: Place, end_of_records: Callable[[bytes], int]) -> Iterator[_Text]:
    """A text file in pieces of whole records, unpacked where its name ends in ``.gz``.

    Raises:
        ValueError: a record is longer than :data:`ROW_BYTES`, or holds NUL.
    """
    compression = "gzip" if place.path.lower().endswith(".gz") else None
    line, rest, is_first = 1, b"", True
    with place.filesystem.open_input_stream(place.path, compression=compression) as stream:
        while more := _read_fully(stream):
            data = rest + (more.removeprefix(b"\xef\xbb\xbf") if is_first else more)
            is_first = False
            end = end_of_records(data)
            if end:
                text = _Text(_without_nul(_Text(data[:end], line)), line)
                yield text
                line = text.line_at(end)
            rest = data[end:]
            if len(rest) > ROW_BYTES:
                raise ValueError(
                    f"the row in line {line} is longer than {ROW_BYTES >> 20} MiB; perhaps a "
                    "quotation mark was left open"
                )
    if rest:
        yield _Text(_without_nul(_Text(rest, line)), line)


def _read_fully(stream: pa.NativeFile) -> bytes:
    """The next :data:`PART_BYTES`, or what is left; a compressed stream gives less at a time."""
    pieces, missing = [], PART_BYTES
    while missing and (piece := stream.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def _without_nul(text: _Text) -> bytes:
    position = text.data.find(b"\0")
    if position >= 0:
        raise ValueError(
            f"line {text.line_at(position)} holds a NUL byte; a manifest is text in UTF-8"
        )
    return text.data


def _end_of_lines(data: bytes) -> int:
    """Where the last whole line ends; a carriage return at the end may be half a line end."""
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1


def _end_of_csv_records(data: bytes) -> int:
    if b'"' not in data:
        return _end_of_lines(data)
    found = _RECORDS.match(data)
    return found.end() if found else 0


def _read_csv(place: Place) -> Iterator[Part]:
    names: list[str] | None = None
    for text in _texts(place, _end_of_csv_records):
        body = text
        if names is None:
            names, body = _header(text)
            if len(names) > MOST_COLUMNS:
                raise ValueError(f"it has {len(names)} columns, at most {MOST_COLUMNS} are read")
        table, lines = _csv_table(body, names), partial(_lines_of_csv, body)
        rows = _filled_rows(table)
        if rows is None:
            yield Part(table, lines)
        else:
            yield Part(table.take(rows), partial(_lines_of_some, lines, rows.to_numpy()))


def _header(text: _Text) -> tuple[list[str], _Text]:
    """The names of the columns, and the text behind them."""
    start = len(text.data) - len(text.data.lstrip(b"\r\n"))
    record = _ONE_RECORD.match(text.data, start)
    end = record.end() if record else len(text.data)
    head = _Text(text.data[start:end], text.line_at(start))
    names = next(csv.reader(io.StringIO(head.decoded(), newline="")), [])
    return names, _Text(text.data[end:], text.line_at(end))


def _csv_table(text: _Text, names: list[str]) -> pa.Table:
    """Parse records; all columns are text: 00123 is an article number, not the integer 123."""
    if not text.data or text.data.isspace():
        return pa.table([pa.array([], pa.string())] * len(names), names=names)
    # Columns may be called alike, most of all those that have no name: they go by number here.
    numbers = [str(number) for number in range(len(names))]
    for block in (_BLOCK_BYTES, len(text.data) + 1):
        try:
            table = pacsv.read_csv(
                pa.BufferReader(text.data),
                parse_options=pacsv.ParseOptions(newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(numbers, pa.string()), strings_can_be_null=False
                ),
                read_options=pacsv.ReadOptions(column_names=numbers, block_size=block),
            )
            return table.rename_columns(names)
        except pa.ArrowException as error:
            failed = error
    raise ValueError(_bad_csv_lines(text, len(names)) or str(failed))


def _filled_rows(table: pa.Table) -> pa.Array | None:
    """Numbers of the rows that are more than commas, as which spreadsheets write empty ones.

    None: all of them.
    """
    empty = pa.array(np.ones(table.num_rows, np.bool_))
    for column in table.columns:
        empty = pc.and_(empty, pc.equal(pc.utf8_trim_whitespace(column), ""))
        if not pc.any(empty).as_py():
            return None
    return pc.indices_nonzero(pc.invert(empty)) if table.num_columns else None


def _lines_of_some(
    lines: Callable[[Sequence[int]], list[int]], kept: npt.NDArray[np.uint64], rows: Sequence[int]
) -> list[int]:
    return lines(kept[list(rows)].tolist())


def _csv_records(text: _Text) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not empty, and the number of its first line."""
    reader = csv.reader(io.StringIO(text.decoded(), newline=""))
    start = text.line
    for cells in reader:
        if cells:
            yield start, cells
        start = text.line + reader.line_num


def _bad_csv_lines(text: _Text, expected: int) -> str:
    """Which lines have another number of cells than the header."""
    bad = [
        f"line {line} has {len(cells)} cells, the header {expected}"
        for line, cells in _csv_records(text)
        if len(cells) != expected
    ]
    return "; ".join(bad[:NAMED_LINES])


def _lines_of_csv(text: _Text, rows: Sequence[int]) -> list[int]:
    wanted = set(rows)
    return [line for row, (line, _) in enumerate(_csv_records(text)) if row in wanted]


def _read_json_lines(place: Place) -> Iterator[Part]:
    for text in _texts(place, _end_of_lines):
        text.decoded()  # so that what is not UTF-8 is told with its line
        if text.data.isspace():
            continue
        try:
            table = read_objects(text.data, MOST_COLUMNS)
        except (pa.ArrowException, ValueError, OverflowError, RecursionError) as error:
            bad = bad_lines(text.data, text.line)
            why = "; ".join(bad[:NAMED_LINES]) or f"{error} (counted from line {text.line}, row 0)"
            raise ValueError(why) from None
        yield Part(table, partial(_lines_of_json, text))


def _lines_of_json(text: _Text, rows: Sequence[int]) -> list[int]:
    wanted = set(rows)
    filled = (number for number, line in enumerate(text.data.splitlines()) if line.strip())
    return [text.line + number for row, number in enumerate(filled) if row in wanted]


def _read_parquet(place: Place) -> Iterator[Part]:
    with place.filesystem.open_input_file(place.path) as file:
        # A buffer lets Arrow read a row group page by page; without one it takes it as a whole.
        parquet = pq.ParquetFile(file, buffer_size=4 << 20, pre_buffer=False)
        metadata = parquet.metadata
        if len(parquet.schema_arrow) > MOST_COLUMNS:
            raise ValueError(
                f"it has {len(parquet.schema_arrow)} columns, at most {MOST_COLUMNS} are read"
            )
        groups = range(metadata.num_row_groups)
        size = sum(metadata.row_group(number).total_byte_size for number in groups)
        rows = PART_BYTES * metadata.num_rows // max(size, 1)
        row = 0
        for batch in parquet.iter_batches(batch_size=min(max(rows, 1), _PART_ROWS)):
            _refuse_invalid(batch)
            yield Part(pa.Table.from_batches([batch]), partial(_rows_after, row))
            row += batch.num_rows
        if not row:
            yield Part(parquet.schema_arrow.empty_table(), partial(_rows_after, 0))


def _refuse_invalid(batch: pa.RecordBatch) -> None:
    """Find what nobody else would notice, such as texts that are not UTF-8."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise ValueError(f"column {name} of type {column.type} is damaged: {error}") from None


def _rows_after(before: int, rows: Sequence[int]) -> list[int]:
    return [before + row + 1 for row in rows]


READERS: dict[str, Callable[[Place], Iterator[Part]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
