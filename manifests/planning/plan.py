"""Splits a manifest into shards of checked rows, stored in the output folder.

``<output>/manifest/<key>/shard=NNNNN.parquet`` contain the rows (see :data:`SHARD_SCHEMA`).
``<output>/manifest/plan.json``, written last, marks them as complete. Later runs on the same output
use the same shards, so each shard can be resumed. The key is derived from the manifest's content,
the names of masks beside it, the shard size, and what becomes of rows without marks. So plans with
the same key write the same files, and leftovers of a killed plan never mix with another's shards.

The manifest is read twice, in parts: once for ids, column types and fatal errors, once to write the
shards. A list of pictures is read once, and kept in memory.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileType

from manifests.errors import ManifestError, OutputError
from manifests.planning.columns import merge_types, names_in_lineage
from manifests.planning.duplicates import REPEATED, IdHashes, Ids, with_labels
from manifests.planning.pairing import Pairing, UnmarkedPolicy, hash_with_masks
from manifests.planning.rows import RowCounts, to_shard_rows
from manifests.reading.formats import MAX_NAMED_LINES, list_lines, list_some
from manifests.reading.pictures import PLAN, PictureList
from manifests.reading.read import Source, find_files, fingerprint, read_parts, stamp
from manifests.storage.path import StoragePath

#: A shard is the unit of resuming and of lineage files. Its size does not limit how work is spread:
#: actors get units of up to 64 rows, from any shards. Small shards cost requests and files.
_TARGET_SHARDS = 1024
_ROWS_PER_SHARD = (64, 1000)

#: Max size of a shard, which is read as a whole; with many shapes it has fewer rows.
_SHARD_BYTES = 64 << 20

#: Writing small files to S3 is bound by latency.
_WRITER_THREADS = 16

#: What becomes of rows without marks.
_FATES: dict[UnmarkedPolicy, str] = {
    "fail": "errors (--unmatched fail, the default of recipes that do not detect)",
    "pass": "passed on unchanged (--unmatched pass)",
    "detect": "searched (--unmatched detect, the default of recipes that detect, as declutter)",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run: its shards and counts, without the rows themselves.

    Attributes:
        output: absolute path or URI of the results' folder.
        manifest: path, URI or pattern, as the user entered it.
        fingerprint: hash of the manifest's files, and of the names of masks beside it.
        stamp: the same of the files' sizes and modification times; while it is unchanged, the files
            need not be read.
        rows: number of planned ids, each in exactly one shard.
        rows_per_shard: max rows in a shard.
        shards: number of shards, numbered from 0.
        rejected: error code -> number of rejected ids, reported before any work starts.
        notes: sentences about rejected rows, rows that mark nothing, masks beside the manifest, and
            renamed columns.
        unmarked: what became of rows without marks.
        unmarked_rows: number of ids without marks.
        only: shard -> ids, to select a part of the rows; None: all of them.
    """

    output: str
    manifest: str
    fingerprint: str
    stamp: str
    rows: int
    rows_per_shard: int
    shards: int
    rejected: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unmarked: UnmarkedPolicy = "fail"
    unmarked_rows: int = 0
    only: Mapping[int, Sequence[str]] | None = None

    def read_shard(self, number: int, columns: list[str] | None = None) -> pa.Table:
        """Read the selected rows of a shard; ``columns``, unless None, must contain ``id``."""
        rows = self.shard_file(number).read_table(columns)
        if self.only is None:
            return rows
        wanted = pa.array(self.only.get(number, ()), pa.string())
        return rows.filter(pc.is_in(rows["id"].cast(pa.string()), value_set=wanted))

    def shard_file(self, number: int) -> StoragePath:
        """The file with the rows of a shard."""
        return self.folder / f"{shard_name(number)}.parquet"

    @property
    def folder(self) -> StoragePath:
        """The folder of the shards."""
        name = f"{self.fingerprint}-{self.rows_per_shard}"
        if self.unmarked != "fail":
            name += f"-{self.unmarked}"
        return StoragePath.of(self.output) / "manifest" / name


def shard_name(number: int) -> str:
    """A name such as ``shard=00042``; the lineage's folders use it as a Hive partition, too."""
    return f"shard={number:05d}"


def resolve_output(output: str) -> StoragePath:
    """Resolve an output folder from a local path, ``file://`` or ``s3://`` URI.

    Raises:
        OutputError: ``output.not_writable``: it is none of these, or it is a file.
    """
    try:
        path = StoragePath.of(output)
        kind = path.info().type
    except (OSError, ValueError) as error:
        raise OutputError("output.not_writable", f"--output {output!r}: {error}.") from None
    if kind == FileType.File:
        raise OutputError("output.not_writable", f"--output {path.uri} is a file.")
    return path


def make_plan(
    manifest: str,
    output: str,
    *,
    rows_per_shard: int | None = None,
    strict: bool = False,
    unmarked: UnmarkedPolicy = "fail",
    mask: str = "",
    masks: str = "",
    results: str = "",
) -> Plan:
    """Plan a manifest, or load the plan of an earlier run on the same output.

    Rows with an invalid id or cell are planned as failed, unless ``strict``. Memory is bounded,
    except for :class:`IdHashes`, the counts of failed rows, and the names of pictures and masks.

    Args:
        manifest: path or URI of a file, a folder of files, or a pattern; or of pictures, see
            :mod:`manifests.reading.pictures`.
        output: absolute path or URI, see :func:`resolve_output`.
        rows_per_shard: max rows in a shard; None chooses by the number of rows.
        strict: reject the manifest if any row is invalid, which requires reading it once more.
        unmarked: what becomes of rows without marks, for which there is no mask below either.
        mask: path or URI of one mask for all rows without marks; empty: none.
        masks: folder or pattern of masks, which are paired with rows without marks by their names,
            see :mod:`manifests.planning.pairing`; empty: none.
        results: the folder of the run's results, if the plan is stored elsewhere.

    Raises:
        ManifestError: see :func:`find_files`, :func:`read_parts` and :class:`Pairing`, and
            ``manifest.missing_id``, ``manifest.empty``, ``manifest.changed``, and
            ``manifest.invalid_rows`` if ``strict``.
        OutputError: ``output.other_run`` if the output was planned from another manifest, or with
            other masks; ``output.is_manifest``; ``output.not_writable``.
    """
    pairing = Pairing.of(unmarked, mask, masks)
    files = pairing.select(find_files(manifest), StoragePath.of(results or output))
    now = hash_with_masks(stamp(files), pairing)
    if earlier := load_plan(output):
        # A copy of the manifest has another stamp but the same content.
        is_same = earlier.stamp == now or earlier.fingerprint == hash_with_masks(
            fingerprint(files), pairing
        )
        return _reused(earlier, unmarked, is_same=is_same, strict=strict)
    extra, ids = _scan(files, manifest, pairing)
    rows = int(np.count_nonzero(ids.kinds != REPEATED))
    plan = Plan(
        output,
        manifest,
        hash_with_masks(fingerprint(files), pairing),
        now,
        rows=rows,
        rows_per_shard=rows_per_shard or choose_rows_per_shard(rows),
        shards=0,
        unmarked=unmarked,
    )

    def finished(counts: RowCounts) -> Plan:
        is_kept = not results and not (strict and counts.rejected)
        where = plan.folder if is_kept else None
        notes = [*_listing_notes(files), *pairing.notes(where), *_renamed(extra)]
        notes += counts.notes(pairing)
        if rows < len(ids.kinds):
            notes.append(
                f"{len(ids.kinds):,} rows have {rows:,} ids: those that share one are not "
                "processed, and are recorded as one row."
            )
        rejected = dict(counts.rejected)
        return replace(plan, rejected=rejected, notes=notes, unmarked_rows=counts.unmarked)

    if strict:
        counts = RowCounts()
        deque(_checked(files, extra, ids, counts, pairing), maxlen=0)
        _refuse_if_strict(finished(counts), strict=strict)
    counts = RowCounts()
    shards = _write_shards(plan, _checked(files, extra, ids, counts, pairing))
    if hash_with_masks(stamp(files), pairing) != now:
        raise ManifestError("manifest.changed", f"{manifest} changed while it was planned.")
    plan = replace(finished(counts), shards=shards)
    marker, data = _marker(output), json.dumps(asdict(plan), indent=2).encode()
    if marker.create(data):
        return plan
    other = load_plan(output)  # by a process that planned at the same time
    if not other:
        marker.write(data)
        return plan
    is_same = other.fingerprint == plan.fingerprint
    return _reused(other, unmarked, is_same=is_same, strict=strict)


def _reused(earlier: Plan, unmarked: UnmarkedPolicy, *, is_same: bool, strict: bool) -> Plan:
    """Return the output's plan.

    Args:
        earlier: the plan.
        unmarked: what is to become of rows without marks.
        is_same: whether its manifest and masks have the same content as ours.
        strict: whether invalid rows are refused.

    Raises:
        ManifestError: ``manifest.invalid_rows``.
        OutputError: ``output.other_run``.
    """
    if not is_same:
        raise OutputError(
            "output.other_run",
            f"{earlier.output} was planned from another manifest or another state of it, "
            f"{earlier.manifest}, or with other masks.",
        )
    if earlier.unmarked != unmarked and earlier.unmarked_rows:
        raise OutputError(
            "output.other_run",
            f"In the plan of {earlier.output}, {earlier.unmarked_rows:,} photos without marks are "
            f"{_FATES[earlier.unmarked]}, not {_FATES[unmarked]}.",
        )
    _refuse_if_strict(earlier, strict=strict)
    return earlier


def _renamed(extra: pa.Schema) -> list[str]:
    return [
        f"The manifest's column {old} is called {new} in the lineage."
        for old, new in names_in_lineage(extra.names).items()
        if old != new
    ]


def _listing_notes(files: Sequence[Source]) -> Iterator[str]:
    """Name the files of a folder that are not pictures."""
    for each in files:
        if isinstance(each, PictureList) and len(each.others):
            shown = list_some((name.as_py() for name in each.others), len(each.others))
            yield f"Left out of {each.path.uri}, not pictures by their suffixes: {shown}."


def _refuse_if_strict(plan: Plan, *, strict: bool) -> None:
    if strict and plan.rejected:
        raise ManifestError("manifest.invalid_rows", " ".join(plan.notes))


def load_plan(output: str) -> Plan | None:
    """Load the plan stored in an output folder; None if there is no complete one.

    Raises:
        OutputError: ``output.other_run``: it cannot be read.
    """
    marker = _marker(output)
    try:
        data = marker.read()
        if not data:  # its process is writing it, or was killed
            return None
        facts = json.loads(data) | {"output": output}
        # Plans of earlier versions, which had no other policy than to fail, lack this count.
        facts.setdefault("unmarked_rows", facts["rejected"].get("mask.no_uri", 0))
        return Plan(**facts)
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError):
        raise OutputError(
            "output.other_run", f"{marker.uri} is damaged, or not of this version."
        ) from None


def _marker(output: str) -> StoragePath:
    return StoragePath.of(output) / PLAN


def choose_rows_per_shard(rows: int) -> int:
    """Choose the max rows in a shard, by the manifest's number of rows."""
    min_rows, max_rows = _ROWS_PER_SHARD
    return min(max(rows // _TARGET_SHARDS, min_rows), max_rows)


def _scan(files: Sequence[Source], manifest: str, pairing: Pairing) -> tuple[pa.Schema, Ids]:
    """Read the merged schema of the manifest's extra columns, and its ids."""
    hashes = IdHashes()
    extra = merge_types(chain.from_iterable(_scan_file(file, hashes, pairing) for file in files))
    ids = hashes.classify()
    if not len(ids.kinds):
        raise ManifestError("manifest.empty", f"The manifest {manifest} has no rows.")
    pairing.check()
    return extra, with_labels(ids, files) if len(ids.shared) else ids


def _scan_file(file: Source, hashes: IdHashes, pairing: Pairing) -> Iterator[pa.Schema]:
    """Add the ids of a file to the hashes and the pairing; yield each part's schema."""
    missing, unit = 0, ""
    lines: list[int | str] = []
    for part in read_parts(file, marks=False, need_marks=not pairing.gives_marks):
        yield part.table.schema
        ids = part.table["id"].combine_chunks()
        if ids.null_count:
            rows = pc.indices_nonzero(pc.is_null(ids)).to_pylist()
            missing, unit = missing + len(rows), part.unit
            lines += part.lines(rows[: MAX_NAMED_LINES - len(lines)])
        elif not missing:
            hashes.add(ids)
            pairing.add_ids(ids)
    if missing:
        raise ManifestError(
            "manifest.missing_id",
            f"{file.path.uri} has no id in {list_lines(unit, lines, missing)}.",
        )


def _checked(
    files: Sequence[Source],
    extra: pa.Schema,
    ids: Ids,
    counts: RowCounts,
    pairing: Pairing,
) -> Iterator[pa.Table]:
    """Yield the checked rows of each part, each id once."""
    row = 0
    for file in files:
        for part in read_parts(file, need_marks=not pairing.gives_marks):
            count = part.table.num_rows
            if not count:
                continue
            kinds = ids.kinds[row : row + count]
            if len(kinds) < count or len(ids.labels) < len(ids.shared):
                raise ManifestError(
                    "manifest.changed", f"{file.path.uri} changed while it was planned."
                )
            try:
                errors = ids.errors(row, count)
                rows, facts = to_shard_rows(part.table, file.base, extra, errors, pairing)
            except (pa.ArrowException, ValueError) as error:
                raise ManifestError("manifest.unreadable", f"{file.path.uri}: {error}.") from None
            counts.add_errors(file.path, part, rows)
            kept = pa.array(kinds != REPEATED)
            rows = rows.filter(kept)
            counts.add_rows(rows, facts.filter(kept))
            row += count
            yield rows


def _write_shards(plan: Plan, tables: Iterable[pa.Table]) -> int:
    """Write the rows as shards; return the number of shards."""
    waiting: deque[Future[None]] = deque()
    count = 0
    with ThreadPoolExecutor(_WRITER_THREADS) as pool:
        for rows in _cut(tables, plan.rows_per_shard):
            if len(waiting) == 2 * _WRITER_THREADS:
                waiting.popleft().result()
            waiting.append(pool.submit(plan.shard_file(count).write_table, rows))
            count += 1
        for each in waiting:
            each.result()
    return count


def _cut(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Regroup rows into tables of ``size`` rows, or fewer if they reach :data:`_SHARD_BYTES`."""
    pieces: list[pa.Table] = []
    rows = volume = 0
    for table in tables:
        start = 0
        while start < table.num_rows:
            piece = table.slice(start, size - rows)
            pieces.append(piece)
            start += piece.num_rows
            rows += piece.num_rows
            volume += piece.nbytes
            if rows == size or volume >= _SHARD_BYTES:
                yield pa.concat_tables(pieces)
                pieces, rows, volume = [], 0, 0
    if pieces:
        yield pa.concat_tables(pieces)
