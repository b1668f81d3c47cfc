"""Split a manifest into shards: checked, with absolute URIs, stored beside the results.

``<output>/manifest/shard=NNNNN.parquet`` hold the rows (see :data:`SHARD_SCHEMA`) and
``plan.json``, written last, says that they are complete. Later runs on the same output use the
same shards, which is what makes them resumable one by one.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import DestinationError, ManifestError, RowError
from manifests.files import Place
from manifests.marks import Gathered, gather
from manifests.read import ManifestFile, find_files, fingerprint, name_lines, read_manifest
from manifests.schema import SHARD_SCHEMA, extra_columns

#: A shard is the unit of scheduling, of resuming and of lineage files. Small manifests get small
#: shards, to keep all actors busy; large ones get large shards, to keep files few.
_SHARDS_AIMED_AT = 1024
_ROWS_PER_SHARD = (8, 1000)
_MIN_SHARDS = 8

#: With the longest suffix, the name of a file may have 255 bytes on common file systems.
_MAX_ID_BYTES = 200

#: So many rows' shapes are in memory as Python objects at a time.
_ROWS_GATHERED = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, without the rows themselves.

    Attributes:
        output: absolute path or URI of the results' folder.
        manifest: as the user named it.
        fingerprint: of the manifest's files.
        rows: ids planned, each in exactly one shard.
        shards: how many there are, numbered from 0.
        rejected: error code -> ids that were found unusable, told before any work starts.
        notes: sentences about rejected rows and renamed columns.
    """

    output: str
    manifest: str
    fingerprint: str
    rows: int
    shards: int
    rejected: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def shard(self, number: int) -> Place:
        """Where the rows of a shard are stored."""
        return Place.of(self.output) / "manifest" / f"{shard_name(number)}.parquet"


def shard_name(number: int) -> str:
    """``shard=00042``: also the lineage's folder, read as a partition by DuckDB and pandas."""
    return f"shard={number:05d}"


def make_plan(
    manifest: str, output: str, *, rows_per_shard: int | None = None, strict: bool = False
) -> Plan:
    """Plan a manifest, or find the plan that an earlier run on the same output made.

    Rows with an unusable id or cell are planned as failed, unless ``strict``.

    Args:
        manifest: path or URI of a file, folder or pattern.
        output: absolute path or URI of the results' folder.
        rows_per_shard: None chooses by the number of rows.
        strict: refuse the manifest if any row is unusable.

    Raises:
        ManifestError: see :func:`read_manifest`, and ``manifest.invalid_rows`` if ``strict``.
        DestinationError: ``output.other_run`` if the output was planned from another manifest.
    """
    marker = Place.of(output) / "manifest" / "plan.json"
    print_ = fingerprint(find_files(manifest))
    earlier = load_plan(output)
    if earlier:
        if earlier.fingerprint != print_:
            raise DestinationError(
                "output.other_run",
                f"{output} was planned from another manifest or another state of it, "
                f"{earlier.manifest}.",
            )
        _refuse_if_strict(earlier, strict=strict)
        return earlier
    files = read_manifest(manifest)
    rows, notes = _check_rows(files)
    size = rows_per_shard or _rows_per_shard(rows.num_rows)
    plan = Plan(
        output=output,
        manifest=manifest,
        fingerprint=print_,
        rows=rows.num_rows,
        shards=-(-rows.num_rows // size),
        rejected=_count(rows["error_code"]),
        notes=notes,
    )
    _refuse_if_strict(plan, strict=strict)
    for number in range(plan.shards):
        plan.shard(number).write_table(rows.slice(number * size, size))
    marker.write(json.dumps(asdict(plan), indent=2).encode())
    return plan


def _refuse_if_strict(plan: Plan, *, strict: bool) -> None:
    if strict and plan.rejected:
        raise ManifestError("manifest.invalid_rows", " ".join(plan.notes))


def load_plan(output: str) -> Plan | None:
    """The plan stored at an output, if there is a complete one.

    Raises:
        DestinationError: ``output.other_run`` if it cannot be read.
    """
    marker = Place.of(output) / "manifest" / "plan.json"
    try:
        return Plan(**(json.loads(marker.read()) | {"output": output}))
    except FileNotFoundError:
        return None
    except (TypeError, ValueError):
        raise DestinationError(
            "output.other_run", f"{marker.uri} is damaged, or not of this version."
        ) from None


def _rows_per_shard(rows: int) -> int:
    least, most = _ROWS_PER_SHARD
    return min(max(rows // _SHARDS_AIMED_AT, least), most, -(-rows // _MIN_SHARDS))


def _check_rows(files: list[ManifestFile]) -> tuple[pa.Table, list[str]]:
    """Return the rows as :data:`SHARD_SCHEMA` and the other columns, and what to tell the user."""
    notes: list[str] = []
    gathered = [part for file in files for part in _gather(file)]
    try:
        tables = _with_one_type_each([_absolute(file) for file in files])
        rows = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        names = ", ".join(file.place.name for file in files)
        raise ManifestError(
            "manifest.unreadable", f"The columns of {names} do not fit together: {error}."
        ) from None
    extra_names = extra_columns(rows.schema)
    for old, new in extra_names.items():
        if old != new:
            notes.append(f"The manifest's column {old} is called {new} in the lineage.")
    ids = rows["id"].combine_chunks()
    codes = np.full(rows.num_rows, None, dtype=object)
    texts = np.full(rows.num_rows, None, dtype=object)
    repeated = _is_repeated(ids)
    mask_uris = pa.concat_arrays([each.mask_uri for each in gathered])
    marks = pa.concat_arrays([each.marks for each in gathered])
    unmarked = pc.and_(pc.is_null(mask_uris), pc.is_null(marks))
    _reject(codes, texts, unmarked, "mask.no_uri", "The cell is empty.")
    _reject_bad_cells(codes, texts, gathered)
    _reject(codes, texts, pc.is_null(rows["image"]), "image.no_uri", "The cell is empty.")
    _reject(codes, texts, repeated, "id.duplicate", "The id is not unique.")
    _reject(codes, texts, _is_unsafe(ids), "id.unsafe", "The id cannot be a file name.")
    notes += _name_rejected(files, codes, ids)
    columns = {
        "id": ids,
        "image_uri": pc.fill_null(rows["image"], ""),
        "mask_uri": pc.fill_null(mask_uris, ""),
        "marks": marks,
        "error_code": pa.array(codes, pa.string()),
        "error": pa.array(texts, pa.string()),
    }
    extra = {new: rows[old] for old, new in extra_names.items()}
    schema = pa.schema(
        [*SHARD_SCHEMA, *(pa.field(name, column.type) for name, column in extra.items())]
    )
    table = pa.table([*columns.values(), *extra.values()], schema=schema)
    return table.filter(_first_of_each(ids)), notes


def _with_one_type_each(tables: list[pa.Table]) -> list[pa.Table]:
    """Make a column text in all files if it is text in one, as it always is in CSV."""
    text = {
        field.name for table in tables for field in table.schema if pa.types.is_string(field.type)
    }
    return [
        table.cast(
            pa.schema(
                [
                    field.with_type(pa.string()) if field.name in text else field
                    for field in table.schema
                ]
            )
        )
        for table in tables
    ]


def _gather(file: ManifestFile) -> Iterator[Gathered]:
    """What marks the file's rows, with paths relative to it made absolute, part by part."""
    for start in range(0, file.table.num_rows, _ROWS_GATHERED):
        part = file.table.slice(start, _ROWS_GATHERED)
        yield gather(part, lambda paths: _absolute_uris(paths, file.place.parent))


def _absolute(file: ManifestFile) -> pa.Table:
    """The file's other columns, with the photos' paths relative to it made absolute."""
    table = file.table
    images = _absolute_uris(table["image"].combine_chunks(), file.place.parent)
    table = table.set_column(table.column_names.index("image"), "image", images)
    return table.select(["id", "image", *extra_columns(table.schema)])


def _absolute_uris(paths: pa.Array, base: Place) -> pa.Array:
    relative = pc.invert(pc.match_substring_regex(paths, r"^([A-Za-z][A-Za-z0-9+.-]*://|/)"))
    joined = pc.binary_join_element_wise(base.uri, paths, "/")
    made = pc.if_else(relative, joined, paths)
    dotted = pc.and_(relative, pc.match_substring_regex(made, r"(^|/)\.\.?(/|$)"))
    return _resolve_dots(made, dotted) if pc.any(dotted).as_py() else made


def _resolve_dots(uris: pa.Array, which: pa.Array) -> pa.Array:
    """Resolve ``.`` and ``..``, which object stores would take literally; never above the root."""
    replaced = []
    for uri in uris.filter(which).to_pylist():
        scheme, separator, path = uri.rpartition("://")
        root, _, rest = path.partition("/")  # the bucket; empty for a local path
        replaced.append(f"{scheme}{separator}{root}{posixpath.normpath('/' + rest)}")
    return pc.replace_with_mask(uris, which, pa.array(replaced, pa.string()))


def _is_unsafe(ids: pa.Array) -> pa.Array:
    pattern = r"[\x00-\x1f\x7f-\x9f/\\]|\.\.|^\.$"
    return pc.or_(
        pc.match_substring_regex(ids, pattern), pc.greater(pc.binary_length(ids), _MAX_ID_BYTES)
    )


def _is_repeated(ids: pa.Array) -> pa.Array:
    counts = pc.value_counts(ids)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    return pc.is_in(ids, repeated)


def _first_of_each(ids: pa.Array) -> pa.Array:
    """True at the first row of each id."""
    positions = pa.table({"id": ids, "row": np.arange(len(ids))})
    first = positions.group_by("id", use_threads=False).aggregate([("row", "min")])["row_min"]
    keep = np.zeros(len(ids), np.bool_)
    keep[first.to_numpy()] = True
    return pa.array(keep)


def _reject(
    codes: np.ndarray, texts: np.ndarray, which: pa.Array | pa.ChunkedArray, code: str, text: str
) -> None:
    selected = which.to_numpy(zero_copy_only=False).astype(bool)
    codes[selected], texts[selected] = code, str(RowError(code, text))


def _reject_bad_cells(codes: np.ndarray, texts: np.ndarray, gathered: list[Gathered]) -> None:
    offset = 0
    for part in gathered:
        for row, text in part.problems.items():
            codes[offset + row] = "mask.bad_shape"
            texts[offset + row] = str(RowError("mask.bad_shape", text))
        offset += len(part.marks)


def _name_rejected(files: list[ManifestFile], codes: np.ndarray, ids: pa.Array) -> list[str]:
    """One sentence for each file and code, naming the lines."""
    notes, offset = [], 0
    for file in files:
        count = file.table.num_rows
        here = codes[offset : offset + count]
        for code in sorted({code for code in here if code}):
            rows = np.flatnonzero(here == code)
            example = ids[offset + int(rows[0])].as_py()[:40]
            where = name_lines(file, rows.tolist())
            notes.append(f"{file.place.uri}, {where}: {code} (id {example!r}).")
        offset += count
    return notes


def _count(codes: pa.ChunkedArray) -> dict[str, int]:
    counts = pc.value_counts(codes.drop_null()).to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}


def parse_shards(text: str, plan: Plan) -> list[int]:
    """The numbers of ``0-99,150``."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return sorted(numbers)
