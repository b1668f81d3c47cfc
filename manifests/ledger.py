"""The lineage as a ledger: which rows are ok, which failed, and which are pending.

Its files are ``<output>/lineage/recipe=<hash>/shard=NNNNN/*.parquet``, one for each batch of rows
that ended together; they are merged when all rows of the shard ended. Its pending rows are its
manifest rows minus its lineage rows of the same recipe. They are computed shard by shard, so no
process ever needs a list of all ids.

A photo can have several rows: it was redone because of ``--retry`` or changed files, or two runs
processed it. The row of the latest run counts, by the runs' numbers and not by a clock.
:meth:`Ledger.compact` keeps only that row.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from manifests.planning.plan import Plan, shard_name
from manifests.schema import CRASHED, FAILED, OK, STALE, lineage_schema
from manifests.storage.path import StoragePath

#: Reading a shard's few small files is bound by I/O.
_READER_THREADS = 16

#: Max number of pending rows that are listed by id.
MAX_NAMED_ROWS = 1000

#: The columns that identify a row's work: its id, its inputs, and what else marks the photo.
IDENTITY_COLUMNS = ("id", "image_uri", "mask_uri", "marks")

#: The columns that decide which of several rows of an id counts.
_ORDER_COLUMNS = ("run_id", "status", "finished_at")

#: The columns that record how a row ended.
_OUTCOME_COLUMNS = (*IDENTITY_COLUMNS, *_ORDER_COLUMNS, "error_code", "masked_px")

#: Further columns that a tally counts; files of an earlier version may lack them.
_FIDELITY_COLUMNS = ("fidelity", "fidelity_note")

#: Columns with paths of ``<output>/<folder>/<recipe>/<id>.<suffix>``, and the folder of each.
_STORED = {"output_uri": "images", "detected_uri": "masks"}

#: Parts of a ``fidelity_note`` that differ from photo to photo: numbers, and text after a colon.
_DETAILS = re.compile(r"(, )?quality \d+| \([^)]*\)|:.*|\d+ (?=further)")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which recorded rows count as ended.

    Attributes:
        run_id: of this run. The rows it recorded count as ended, regardless of ``retry``.
        retry: statuses that are redone if an earlier run recorded them.
    """

    run_id: str
    retry: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Ledger:
    """The lineage of one recipe in an output folder.

    Attributes:
        output: absolute path or URI.
        recipe_hash: of the recipe.
    """

    output: str
    recipe_hash: str

    def add(self, shard: int, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        """Add rows to a shard, in one new file.

        Raises:
            OutputError: ``output.not_writable``.
        """
        self._new_file(shard).write_table(pa.Table.from_pylist(rows, schema=schema))

    def latest(self, shard: int, columns: Sequence[str] = _OUTCOME_COLUMNS) -> pa.Table:
        """Read the row of each id that counts; by default the columns that record how it ended.

        Columns that the files lack, such as those of an earlier version, are left out. Result URIs
        refer to this output folder, even if it was moved: see :meth:`_located`.
        """
        rows, _ = self._read(shard, [*columns, "id", *_ORDER_COLUMNS])
        rows = self._located(self._latest(rows))
        return rows.select([name for name in columns if name in rows.column_names])

    def ended(self, shard: int, policy: RetryPolicy, columns: Sequence[str] = ()) -> pa.Table:
        """Read the rows that ended: how they did, and further columns."""
        rows, _ = self._read(shard, [*_OUTCOME_COLUMNS, *columns])
        return _ended(self._latest(rows), policy)

    def pending(
        self, plan: Plan, shard: int, policy: RetryPolicy, columns: Sequence[str] = ()
    ) -> pa.Table:
        """Read the selected planned rows of a shard that are pending.

        Args:
            plan: the plan.
            shard: number of the shard.
            policy: which recorded rows count as ended.
            columns: those to read, among them :data:`IDENTITY_COLUMNS`; empty: all.
        """
        rows = plan.read_shard(shard, [*columns] or None)
        return _without(rows, row_keys(self.ended(shard, policy)))

    def tally(self, plan: Plan, shard: int, policy: RetryPolicy) -> Tally:
        """Count the rows of one shard by status."""
        planned = plan.read_shard(shard, [*IDENTITY_COLUMNS])
        recorded, damaged = self._read(shard, [*_OUTCOME_COLUMNS, *_FIDELITY_COLUMNS])
        latest = self._latest(recorded)
        rows = _ended(latest, policy)
        ended = row_keys(rows)
        pending = _without(planned, ended)["id"]
        rows = rows.filter(pc.is_in(ended, value_set=row_keys(planned)))
        statuses = _counts(rows["status"])
        by_fidelity, reasons = count_fidelity(rows)
        superseded = recorded.num_rows - latest.num_rows
        return Tally(
            rows=planned.num_rows,
            ok=statuses[OK],
            unchanged=pc.sum(pc.equal(rows["masked_px"], 0)).as_py() or 0,
            failed=_counts(rows["error_code"].filter(pc.equal(rows["status"], FAILED))),
            crashed=statuses[CRASHED],
            by_fidelity=by_fidelity,
            reencoded_reasons=reasons,
            pending=[(shard, name) for name in pending.slice(0, MAX_NAMED_ROWS).to_pylist()],
            pending_count=len(pending),
            pending_by_shard={shard: len(pending)} if len(pending) else {},
            superseded_by_shard={shard: superseded} if superseded else {},
            damaged=damaged,
        )

    def compact(self, shard: int) -> None:
        """Merge a shard's files into one, with the rows that count.

        It is written before the others are deleted. If the process is killed in between, rows exist
        twice; one of them counts, and the next call merges them. If another process is merging the
        same shard, or a file is damaged, nothing happens.
        """
        files = self._folder(shard).files()
        if len(files) < 2:
            return
        try:
            rows, damaged = _read_files(files, None)
        except FileNotFoundError:
            return
        if damaged:
            return
        self._new_file(shard).write_table(self._latest(rows))
        for file in files:
            with suppress(FileNotFoundError):
                file.delete()

    def _latest(self, rows: pa.Table) -> pa.Table:
        """Select each id's row of the latest run; within a run, a stale row yields to others."""
        if rows.num_rows == 0:
            return rows
        ends = pc.not_equal(rows["status"], STALE).cast(pa.int8())
        order = pc.sort_indices(
            pa.table({"run": rows["run_id"], "ends": ends, "at": rows["finished_at"]}),
            [("run", "ascending"), ("ends", "ascending"), ("at", "ascending")],
        )
        positions = pa.table({"id": rows["id"].take(order), "position": np.arange(len(order))})
        last = positions.group_by("id", use_threads=False).aggregate([("position", "max")])
        return rows.take(order.take(last["position_max"].combine_chunks()))

    def _located(self, rows: pa.Table) -> pa.Table:
        """Rewrite the URIs of stored files to this output folder, which may have been moved.

        URIs that do not have the form of :data:`_STORED` are kept.
        """
        here, ids = StoragePath.of(self.output).uri, rows["id"].to_pylist()
        for name in _STORED.keys() & {*rows.column_names}:
            pairs = zip(rows[name].to_pylist(), ids, strict=True)
            uris = [uri and _moved(uri, here, _STORED[name], id_) for uri, id_ in pairs]
            position = rows.column_names.index(name)
            rows = rows.set_column(position, name, pa.array(uris, pa.string()))
        return rows

    @retry(
        retry=retry_if_exception_type(FileNotFoundError),  # another process merged it since listed
        stop=stop_after_attempt(10),
        reraise=True,
    )
    def _read(self, shard: int, columns: Iterable[str]) -> tuple[pa.Table, list[StoragePath]]:
        return _read_files(self._folder(shard).files(), list(dict.fromkeys(columns)))

    def _new_file(self, shard: int) -> StoragePath:
        return self._folder(shard) / f"{uuid.uuid4().hex}.parquet"

    def _folder(self, shard: int) -> StoragePath:
        folder = StoragePath.of(self.output) / "lineage" / f"recipe={self.recipe_hash}"
        return folder / shard_name(shard)


def _moved(uri: str, output: str, folder: str, id_: str) -> str:
    """The URI of the same file below another output folder."""
    above, found, suffix = uri.rpartition(f"/{id_}.")
    _, is_below, recipe = above.rpartition(f"/{folder}/")
    is_stored = found and is_below and recipe and "/" not in recipe + suffix
    return f"{output}/{folder}/{recipe}/{id_}.{suffix}" if is_stored else uri


def row_keys(table: pa.Table) -> pa.Array:
    """The :data:`IDENTITY_COLUMNS` columns of each row, joined into one string."""
    columns = [pc.fill_null(table[name].cast(pa.large_string()), "") for name in IDENTITY_COLUMNS]
    joined = pc.binary_join_element_wise(*columns, pa.scalar("\0", pa.large_string()))
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _without(planned: pa.Table, ended: pa.Array) -> pa.Table:
    """The planned rows whose keys are not among the ended ones: the anti-join."""
    return planned.filter(pc.invert(pc.is_in(row_keys(planned), value_set=ended)))


def set_aside(file: StoragePath) -> None:
    """Rename a damaged file so that it is no longer read as lineage; it is not deleted."""
    file.rename(f".damaged-{file.name.removesuffix('.parquet')}")


@dataclass(slots=True)
class Tally:
    """Counts of a plan's rows for one recipe.

    Attributes:
        rows: ids planned.
        ok: rows whose result is stored.
        unchanged: those of them with an empty mask.
        failed: error code -> rows.
        crashed: rows whose process died.
        by_fidelity: ``fidelity`` -> ok rows, also those with an empty mask (``identical``).
        reencoded_reasons: reason -> rows, for those that are ``reencoded``.
        pending: (shard, id) of pending rows, the first :data:`MAX_NAMED_ROWS`.
        pending_count: number of pending rows.
        pending_by_shard: shard -> number of pending rows, if there are any.
        superseded_by_shard: shard -> rows that do not count, since a later row of the same id does.
        damaged: lineage files that cannot be read.
    """

    rows: int = 0
    ok: int = 0
    unchanged: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    crashed: int = 0
    by_fidelity: Counter[str] = field(default_factory=Counter)
    reencoded_reasons: Counter[str] = field(default_factory=Counter)
    pending: list[tuple[int, str]] = field(default_factory=list)
    pending_count: int = 0
    pending_by_shard: dict[int, int] = field(default_factory=dict)
    superseded_by_shard: dict[int, int] = field(default_factory=dict)
    damaged: list[StoragePath] = field(default_factory=list)

    @property
    def failed_count(self) -> int:
        """The number of rows that failed."""
        return self.failed.total()

    @property
    def ended(self) -> int:
        """The number of rows that are not pending."""
        return self.rows - self.pending_count

    def ended_counts(self) -> dict[str, object]:
        """The counts of ended rows, by their names in JSON: in run.json and of ``status``."""
        return {
            "rows": self.rows,
            "ok": self.ok,
            "unchanged": self.unchanged,
            "kept": self.by_fidelity,
            "recoded": self.reencoded_reasons,
            "failed": self.failed,
            "crashed": self.crashed,
        }

    def add(self, other: Tally) -> None:
        """Add the counts of another part of the plan."""
        self.rows += other.rows
        self.ok += other.ok
        self.unchanged += other.unchanged
        self.crashed += other.crashed
        self.failed += other.failed
        self.by_fidelity += other.by_fidelity
        self.reencoded_reasons += other.reencoded_reasons
        self.pending_count += other.pending_count
        self.pending = (self.pending + other.pending)[:MAX_NAMED_ROWS]
        self.pending_by_shard |= other.pending_by_shard
        self.superseded_by_shard |= other.superseded_by_shard
        self.damaged += other.damaged


def reconcile(plan: Plan, ledger: Ledger, policy: RetryPolicy, shards: Collection[int]) -> Tally:
    """Compare the plan with its lineage, so that no row is dropped silently."""
    total = Tally()
    for _, part in tallies(plan, ledger, dict.fromkeys(shards, policy)):
        total.add(part)
    return total


def tallies(
    plan: Plan, ledger: Ledger, policies: Mapping[int, RetryPolicy]
) -> Iterable[tuple[int, Tally]]:
    """The tally of each shard, in order.

    Args:
        plan: the plan.
        ledger: its lineage.
        policies: shard -> which of its rows count as ended.
    """
    with ThreadPoolExecutor(_READER_THREADS) as pool:
        parts = pool.map(lambda each: ledger.tally(plan, *each), policies.items())
        yield from zip(policies, parts, strict=True)


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    counted = pc.value_counts(column).to_pylist()
    return Counter({each["values"]: each["counts"] for each in counted})


def count_fidelity(rows: pa.Table) -> tuple[Counter[str], Counter[str]]:
    """Count ok rows by ``fidelity``, and the ``reencoded`` ones by reason.

    Arrow groups the notes first, since a shard has few different ones. Rows of an earlier version
    lack the columns, and are not counted.
    """
    if not {*_FIDELITY_COLUMNS} <= {*rows.column_names}:
        return Counter(), Counter()
    ok = rows.filter(pc.equal(rows["status"], OK))
    notes = ok["fidelity_note"].filter(pc.equal(ok["fidelity"], "reencoded"))
    reasons = Counter[str]()
    for note, count in _counts(pc.fill_null(notes, "")).items():
        reason = _DETAILS.sub("", note).strip(" ,;") or "no reason recorded"
        reasons[reason] += count
    return _counts(ok["fidelity"].drop_null()), reasons


def _ended(latest: pa.Table, policy: RetryPolicy) -> pa.Table:
    retried = pc.is_in(latest["status"], value_set=pa.array(sorted(policy.retry), pa.string()))
    ours = pc.equal(latest["run_id"], policy.run_id)
    ends = pc.not_equal(latest["status"], STALE)
    return latest.filter(pc.and_(ends, pc.or_(pc.invert(retried), ours)))


def _read_files(
    files: Iterable[StoragePath], columns: list[str] | None
) -> tuple[pa.Table, list[StoragePath]]:
    """Read the rows of some files, and which are damaged; all columns if None.

    Raises:
        FileNotFoundError: a file no longer exists.
        OSError: the storage cannot read a file.
    """
    tables, damaged = [], []
    for file in files:
        data = file.read()
        try:
            tables.append(pq.ParquetFile(pa.BufferReader(data)).read(columns))
        except (pa.ArrowException, OSError):  # it is read from memory, so the content is invalid
            damaged.append(file)
    if tables:
        return pa.concat_tables(tables, promote_options="permissive"), damaged
    schema = lineage_schema()
    known = [schema.field(name) for name in schema.names if columns is None or name in columns]
    return pa.schema(known).empty_table(), damaged
