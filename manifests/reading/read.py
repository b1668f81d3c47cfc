"""Read a manifest: a file, a folder of files, or a pattern; see :mod:`.formats`."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from manifests.errors import ManifestError
from manifests.planning.marks import as_text
from manifests.reading.arrow_types import plain_table
from manifests.reading.formats import READERS, Part, format_of
from manifests.schema import MANIFEST_COLUMNS, MARK_COLUMNS
from manifests.storage.place import Place

#: A partition's folder of this name holds the rows in which the column is null.
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class ManifestFile(Place):
    """A file of a manifest.

    Attributes:
        base: the folder that the paths in it are relative to: its own or, where the manifest is a
            folder, that one.
        partitions: names and values that Hive-partitioned folders above it (``country=de``) tell of
            all its rows.
    """

    base: Place
    partitions: tuple[tuple[str, str | None], ...] = ()


def find_files(uri: str) -> list[ManifestFile]:
    """The files of a manifest, by name; of a folder also those in its partitions' folders.

    Raises:
        ManifestError: ``manifest.not_found``.
    """
    try:
        place = Place.of(uri)
        kind = place.kind()
        if kind == fs.FileType.Directory:
            return list(_files_in(place, place, ())) or _raise_not_found(uri)
        files = [place]
        if kind != fs.FileType.File:
            files = [f for f in place.parent.files() if fnmatch.fnmatch(f.name, place.name)]
    except (OSError, ValueError) as error:
        raise ManifestError("manifest.not_found", f"The manifest {uri}: {error}.") from None
    found = [ManifestFile(file.storage, file.path, base=file.parent) for file in files]
    return found or _raise_not_found(uri)


def count_rows(files: Sequence[ManifestFile]) -> int:
    """How many rows a manifest has; Parquet files say it in their footers.

    Raises:
        ManifestError: as :func:`read_parts`, and ``manifest.empty``.
    """
    count = sum(map(_count_rows, files))
    if not count:
        names = ", ".join(place.uri for place in files)
        raise ManifestError("manifest.empty", f"{names}: there are no rows.")
    return count


def _count_rows(place: ManifestFile) -> int:
    if format_of(place) != ".parquet":
        return sum(part.table.num_rows for part in read_parts(place, marks=False))
    try:
        with place.filesystem.open_input_file(place.path) as file:
            return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError("manifest.unreadable", f"{place.uri}: {error}.") from None


def _files_in(
    folder: Place, base: Place, partitions: tuple[tuple[str, str | None], ...]
) -> Iterator[ManifestFile]:
    for file in folder.files():
        if format_of(file) in READERS:
            yield ManifestFile(file.storage, file.path, base, partitions)
    for inner in folder.folders():
        name, separator, value = inner.name.partition("=")
        if separator and name.strip():
            cell = None if value == _NULL_PARTITION else unquote(value)
            yield from _files_in(inner, base, (*partitions, (unquote(name), cell)))


def _raise_not_found(uri: str) -> NoReturn:
    raise ManifestError("manifest.not_found", f"There is no manifest at {uri}.")


def fingerprint(files: Sequence[Place]) -> str:
    """A hash that changes with the files' contents, names and folder, 16 hex digits."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.uri.encode())
        with file.filesystem.open_input_stream(file.path, compression=None) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def stamp(files: Sequence[Place]) -> str:
    """A hash of the files' names, sizes and times of change, 16 hex digits: cheap to compare.

    While it stays, nobody has written the files anew, unless within one tick of the storage's clock
    (in S3, a second) and with as many bytes. It changes without the contents when they are copied.
    """
    digest = hashlib.sha256()
    found = files[0].filesystem.get_file_info([file.path for file in files])
    for file, info in zip(files, found, strict=True):
        digest.update(f"{file.uri}\0{info.size}\0{info.mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def read_parts(
    place: ManifestFile,
    *,
    marks: bool = True,
) -> Iterator[Part]:
    """Read a file of a manifest, in parts of bounded size.

    Args:
        place: the file.
        marks: False leaves out what marks the photos but plain mask files, since making text of
            lists is slow.

    Yields:
        Parts with ``id``, ``image``, ``mask`` and those of :data:`SHAPE_COLUMNS` that they have as
        strings, lists as JSON, null where a cell is empty; the other columns, and the partitions,
        with types of :mod:`manifests.reading.arrow_types`.

    Raises:
        ManifestError: ``manifest.unreadable``, ``manifest.missing_column`` or ``manifest.empty``.
    """
    reader = READERS.get(format_of(place))
    if reader is None:
        raise ManifestError(
            "manifest.unreadable", f"{place.uri} is none of {', '.join(sorted(READERS))}."
        )
    if place.filesystem.get_file_info(place.path).size == 0:
        raise ManifestError("manifest.empty", f"{place.uri} is empty.")
    names: dict[str, None] = {}  # a set in the order of the file
    try:
        for part in reader(place):
            table = _with_partitions(_with_trimmed_names(part.table, place), place)
            names |= dict.fromkeys(table.column_names)
            if format_of(place) != ".jsonl":  # in which rows need not name what they do not have
                _refuse_missing_columns(list(names), place)
            table = plain_table(table)
            if format_of(place) == ".csv":
                table = _with_trimmed_cells(table, part)
            yield replace(part, table=_with_texts(table, place, marks=marks))
    except (pa.ArrowException, OSError, EOFError, ValueError, MemoryError) as error:
        raise ManifestError("manifest.unreadable", f"{place.uri}: {error}.") from None
    if names:
        _refuse_missing_columns(list(names), place)


def _with_trimmed_names(table: pa.Table, place: Place) -> pa.Table:
    """Spreadsheets leave nameless columns behind, and blanks around names."""
    table = table.select([i for i, name in enumerate(table.column_names) if name.strip()])
    table = table.rename_columns([name.strip() for name in table.column_names])
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if repeated:
        raise ManifestError(
            "manifest.unreadable", f"{place.uri} has {', '.join(sorted(repeated))} more than once."
        )
    return table


def _with_partitions(table: pa.Table, place: ManifestFile) -> pa.Table:
    """With a column for each partition, as text; one that the file has itself stays."""
    for name, value in place.partitions:
        if name not in table.column_names:
            column = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
            table = table.append_column(name, column)
    return table


def _with_trimmed_cells(table: pa.Table, part: Part) -> pa.Table:
    """Without blanks around the cells that we use: many write them behind CSV's commas.

    Raises:
        ValueError: a quotation mark follows a blank, where it does not open a cell.
    """
    for position, name in enumerate(table.column_names):
        if name not in (*MANIFEST_COLUMNS, *MARK_COLUMNS):
            continue
        column = table[name]
        quoted = pc.indices_nonzero(pc.match_substring_regex(column, r'^\s+"'))
        if len(quoted):
            (line,) = part.lines([quoted[0].as_py()])
            raise ValueError(
                f"line {line}: a blank before a quotation mark, in column {name}; leave it out"
            )
        table = table.set_column(position, name, pc.utf8_trim_whitespace(column))
    return table


def _refuse_missing_columns(names: list[str], place: Place) -> None:
    missing = [name for name in ("id", "image") if name not in names]
    if not set(MARK_COLUMNS).intersection(names):
        missing.append("mask, boxes, polygons or rle")
    if not missing:
        return
    found = ", ".join(names) or "none"
    hint = " Are its cells separated by semicolons? Use commas." if ";" in found else ""
    if {name.lower() for name in names} >= set(MANIFEST_COLUMNS):
        hint = " Write their names in lower case."
    raise ManifestError(
        "manifest.missing_column",
        f"{place.uri} has no column {', '.join(missing)}, only {found}.{hint}",
    )


def _with_texts(table: pa.Table, place: Place, *, marks: bool) -> pa.Table:
    """The columns we use as text; ``id``, ``image`` and ``mask`` are there in any case."""
    for name in MARK_COLUMNS:
        if name not in table.column_names:
            continue
        if name == "mask" and not _is_list_of_text(table[name].type):
            continue  # made text below, or refused there
        position = table.column_names.index(name)
        if marks:
            table = table.set_column(position, name, as_text(table[name]))
        else:
            table = table.remove_column(position)
    for name in MANIFEST_COLUMNS:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
        table = _as_text(table, name, place)
    return table


def _is_list_of_text(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) and kind.value_type in (pa.string(), pa.null())


def _as_text(table: pa.Table, name: str, place: Place) -> pa.Table:
    """The column as strings, null where it is empty."""
    column = table[name]
    kind = column.type
    if pa.types.is_floating(kind) and column.null_count < table.num_rows:
        raise ManifestError(
            "manifest.unreadable",
            f"{place.uri}: column {name} holds numbers with decimals, or too large to be exact; "
            "put them in quotes.",
        )
    if pa.types.is_nested(kind):
        also = " or lists of paths" if name == "mask" else ""
        raise ManifestError(
            "manifest.unreadable", f"{place.uri}: column {name} is {kind}; it takes text{also}."
        )
    try:
        column = pc.cast(column, pa.string())
    except pa.ArrowException as error:
        raise ManifestError(
            "manifest.unreadable", f"{place.uri}: column {name} is not text: {error}."
        ) from None
    column = pc.if_else(pc.equal(column, ""), None, column)
    return table.set_column(table.column_names.index(name), name, column)


def name_lines(place: Place, lines: Sequence[int], count: int) -> str:
    """``line 7``, or ``lines 7, 9, 12 and 30 more``, of which ``count`` is all."""
    word = "row" if format_of(place) == ".parquet" else "line"
    text = f"{word}{'s' if count > 1 else ''} {', '.join(map(str, lines))}"
    more = count - len(lines)
    return f"{text} and {more} more" if more else text
