"""Reads a manifest: files (see :mod:`.formats`), or pictures (see :mod:`.pictures`)."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from manifests.errors import ManifestError
from manifests.reading.arrow_types import plain_table
from manifests.reading.formats import READERS, Part, format_of, separator_hint
from manifests.reading.pictures import PictureList, is_picture, split_pattern
from manifests.schema import MANIFEST_COLUMNS, MARK_COLUMNS, SHAPE_COLUMNS
from manifests.storage.path import StoragePath

#: The name of a Hive partition whose rows have null in the column.
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file of a manifest.

    Attributes:
        path: the file.
        base: the folder that its paths are relative to: the manifest if that is a folder, else the
            file's own.
        partitions: names and values of the Hive partitions it is in (``country=de``).
    """

    path: StoragePath
    base: StoragePath
    partitions: tuple[tuple[str, str | None], ...] = ()


_SUFFIX_HINTS = {
    ".json": " JSON Lines have one object per row, each in a line of its own, and end in .jsonl. "
    "manifests/README.md converts COCO's instances.json.",
    ".tsv": " Write commas instead of tabs.",
}

#: What a manifest consists of: files, or one list of pictures.
Source = ManifestFile | PictureList


def find_files(uri: str) -> Sequence[Source]:
    """List the files of a manifest, sorted by name, including those in Hive partitions.

    A folder without manifest files, and a pattern that matches a picture, is a list of pictures.

    Raises:
        ManifestError: ``manifest.not_found`` or ``manifest.no_pictures``.
    """
    try:
        path = StoragePath.of(uri)
        if found := _manifest_files(path):
            return found
        pictures = PictureList.find(uri)
    except (OSError, ValueError) as error:
        raise ManifestError("manifest.not_found", f"The manifest {uri}: {error}.") from None
    if not pictures.paths:
        what = "matches" if pictures.pattern else "is in"
        raise ManifestError(
            "manifest.no_pictures", f"Neither a manifest file nor a picture {what} {uri}."
        )
    return [pictures]


def _manifest_files(path: StoragePath) -> list[ManifestFile]:
    """The files of a manifest; none if it consists of pictures.

    Raises:
        FileNotFoundError: it does not exist.
    """
    kind = path.info().type
    if kind == fs.FileType.Directory:
        return list(_files_in(path, path, ()))
    if is_picture(path.name):
        return []
    if kind == fs.FileType.File:
        return [ManifestFile(path, path.parent)]
    folder, pattern = split_pattern(path)
    if "/" in pattern:
        return []
    files = [file for file in folder.files() if fnmatch.fnmatch(file.name, pattern)]
    if any(is_picture(file.name) for file in files):
        return []
    return [ManifestFile(file, folder) for file in files]


def count_rows(files: Sequence[Source]) -> int:
    """Count the rows of a manifest; for Parquet from the footers alone.

    Raises:
        ManifestError: see :func:`read_parts`, and ``manifest.empty``.
    """
    count = sum(map(_count_rows, files))
    if not count:
        names = ", ".join(file.path.uri for file in files)
        raise ManifestError("manifest.empty", f"{names}: there are no rows.")
    return count


def _count_rows(file: Source) -> int:
    if isinstance(file, PictureList):
        return len(file.paths)
    if format_of(file.path) != ".parquet":
        parts = read_parts(file, marks=False, need_marks=False)
        return sum(part.table.num_rows for part in parts)
    try:
        with file.path.open_input() as stream:
            return int(pq.read_metadata(stream).num_rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError("manifest.unreadable", f"{file.path.uri}: {error}.") from None


def _files_in(
    folder: StoragePath, base: StoragePath, partitions: tuple[tuple[str, str | None], ...]
) -> Iterator[ManifestFile]:
    files, folders = folder.children()
    for file in files:
        if format_of(file) in READERS:
            yield ManifestFile(file, base, partitions)
    for inner in folders:
        name, separator, value = inner.name.partition("=")
        if separator and name.strip():
            cell = None if value == _NULL_PARTITION else unquote(value)
            yield from _files_in(inner, base, (*partitions, (unquote(name), cell)))


def fingerprint(files: Sequence[Source]) -> str:
    """Hash the files' URIs and contents, or the pictures' paths, to 16 hex digits."""

    def content(path: StoragePath) -> Iterator[bytes]:
        yield path.uri.encode()
        with path.open_input() as stream:
            while chunk := stream.read(1 << 20):
                yield chunk

    return _hash(files, content)


def stamp(files: Sequence[Source]) -> str:
    """Hash the files' URIs, sizes and modification times, to 16 hex digits, without reading them.

    While it is unchanged, so are the files, unless one was rewritten with the same size within one
    tick of the storage's clock (a second in S3). Copying files changes it. Of pictures, it is the
    :func:`fingerprint`.
    """

    def state(path: StoragePath) -> Iterator[bytes]:
        info = path.info()
        yield f"{path.uri}\0{info.size}\0{info.mtime_ns}\0".encode()

    return _hash(files, state)


def _hash(files: Sequence[Source], parts: Callable[[StoragePath], Iterable[bytes]]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if isinstance(file, PictureList):
            digest.update(file.digest().encode())
            continue
        for part in parts(file.path):
            digest.update(part)
    return digest.hexdigest()[:16]


def read_parts(file: Source, *, marks: bool = True, need_marks: bool = True) -> Iterator[Part]:
    """Read a file of a manifest, or a list of pictures, in parts of bounded size.

    Args:
        file: the file, or the list.
        marks: False leaves out all marks except plain mask files, since converting lists to text
            is slow.
        need_marks: False accepts a file without any column that marks photos.

    Yields:
        Parts in which ``id``, ``image``, ``mask`` and any :data:`SHAPE_COLUMNS` are strings, with
        lists as JSON and empty cells as null. The extra columns and the partitions have types of
        :mod:`manifests.reading.arrow_types`.

    Raises:
        ManifestError: ``manifest.unreadable``, ``manifest.missing_column`` or ``manifest.empty``.
    """
    if isinstance(file, PictureList):
        yield from file.parts()
        return
    path, suffix = file.path, format_of(file.path)
    reader = READERS.get(suffix)
    if reader is None:
        raise ManifestError(
            "manifest.unreadable",
            f"{path.uri} is none of {', '.join(sorted(READERS))}.{_SUFFIX_HINTS.get(suffix, '')}",
        )
    if path.info().size == 0:
        raise ManifestError("manifest.empty", f"{path.uri} is empty.")
    names: dict[str, None] = {}  # a set in the order of the file
    try:
        for part in reader(path):
            table = _with_partitions(_with_trimmed_names(part.table, path), file)
            names |= dict.fromkeys(table.column_names)
            if suffix != ".jsonl":  # its rows may omit columns
                _refuse_missing_columns(list(names), path, need_marks=need_marks)
            _refuse_lists(table, path)
            table = plain_table(table if marks else _without_marks(table))
            if suffix == ".csv":
                table = _with_trimmed_cells(table, part)
            yield replace(part, table=_with_texts(table, path))
    except (pa.ArrowException, OSError, EOFError, ValueError, MemoryError) as error:
        raise ManifestError("manifest.unreadable", f"{path.uri}: {error}.") from None
    if names:
        _refuse_missing_columns(list(names), path, need_marks=need_marks)


def _with_trimmed_names(table: pa.Table, path: StoragePath) -> pa.Table:
    """Drop columns without a name, and spaces around names, which spreadsheets write."""
    table = table.select([i for i, name in enumerate(table.column_names) if name.strip()])
    table = table.rename_columns([name.strip() for name in table.column_names])
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if repeated:
        raise ManifestError(
            "manifest.unreadable",
            f"{path.uri} has more than one column {', '.join(sorted(repeated))}.",
        )
    return table


def _with_partitions(table: pa.Table, file: ManifestFile) -> pa.Table:
    """Add a text column for each partition, unless the file has a column of that name."""
    for name, value in file.partitions:
        if name not in table.column_names:
            column = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
            table = table.append_column(name, column)
    return table


def _with_trimmed_cells(table: pa.Table, part: Part) -> pa.Table:
    """Strip spaces around the cells that this program uses; many write them after commas.

    Raises:
        ValueError: a quotation mark follows a space, so it does not open a quoted cell.
    """
    for position, name in enumerate(table.column_names):
        if name not in (*MANIFEST_COLUMNS, *MARK_COLUMNS):
            continue
        column = table[name]
        quoted = pc.indices_nonzero(pc.match_substring_regex(column, r'^\s+"'))
        if len(quoted):
            (line,) = part.lines([quoted[0].as_py()])
            raise ValueError(
                f"line {line}: a space before a quotation mark, in column {name}; remove it"
            )
        table = table.set_column(position, name, pc.utf8_trim_whitespace(column))
    return table


def _refuse_missing_columns(names: list[str], path: StoragePath, *, need_marks: bool) -> None:
    missing = [name for name in ("id", "image") if name not in names]
    if need_marks and not set(MARK_COLUMNS).intersection(names):
        missing.append("mask, boxes, polygons or rle")
    if not missing:
        return
    existing = (", ".join(names) or "none") + separator_hint(names)
    hint = ""
    if {name.lower() for name in names} >= set(MANIFEST_COLUMNS):
        hint = " Write their names in lower case."
    raise ManifestError(
        "manifest.missing_column",
        f"{path.uri} has no column {', '.join(missing)}, only {existing}.{hint}",
    )


def _refuse_lists(table: pa.Table, path: StoragePath) -> None:
    """Refuse lists and objects in columns that take text; ``mask`` also takes lists of it."""
    texts = (pa.string(), pa.large_string(), pa.string_view(), pa.null())
    for name in set(MANIFEST_COLUMNS).intersection(table.column_names):
        kind = table[name].type
        items = texts if name == "mask" else ()
        if pa.types.is_nested(kind) and getattr(kind, "value_type", None) not in items:
            also = " or lists of paths" if name == "mask" else ""
            raise ManifestError(
                "manifest.unreadable", f"{path.uri}: column {name} is {kind}; it takes text{also}."
            )


def _without_marks(table: pa.Table) -> pa.Table:
    is_mask = "mask" in table.column_names and not pa.types.is_nested(table["mask"].type)
    marks = set(SHAPE_COLUMNS if is_mask else MARK_COLUMNS).intersection(table.column_names)
    return table.drop_columns(list(marks))


def _with_texts(table: pa.Table, path: StoragePath) -> pa.Table:
    """Convert this program's columns to text, empty cells to null; add missing ones."""
    for name in (*MANIFEST_COLUMNS, *SHAPE_COLUMNS):
        if name in table.column_names:
            text = _as_text(table[name], name, path)
            table = table.set_column(table.column_names.index(name), name, text)
        elif name in MANIFEST_COLUMNS:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    return table


def _as_text(column: pa.ChunkedArray, name: str, path: StoragePath) -> pa.ChunkedArray:
    is_shape = name in SHAPE_COLUMNS
    if pa.types.is_floating(column.type) and column.null_count < len(column) and not is_shape:
        remedy = "put them in quotes"
        if format_of(path) == ".parquet":
            remedy = f'write text, in pandas: df["{name}"].astype("Int64").astype(str)'
        raise ManifestError(
            "manifest.unreadable",
            f"{path.uri}: column {name} contains numbers with decimals, or too large to be exact; "
            f"{remedy}.",
        )
    try:
        # The shapes of a manifest can exceed 2 GB.
        text = column.cast(pa.large_string() if is_shape else pa.string())
    except pa.ArrowException as error:
        raise ManifestError(
            "manifest.unreadable", f"{path.uri}: column {name} is not text: {error}."
        ) from None
    return pc.if_else(pc.equal(text, ""), None, text)
