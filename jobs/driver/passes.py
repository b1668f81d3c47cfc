"""Runs the DAG in passes until every row is recorded.

1. *Together*: all rows, at full speed. What a dead worker had in flight is repeated once. This
   pass is repeated while more than 1,000 rows are pending and the passes make progress.
2. *One by one*: each pending row is its own block. None waits behind another, so that only a row
   that kills its worker is lost again. Skipped if few rows are pending.
3. *Isolated*: each row runs in its own process, which is watched and may die. Every row ends.

After each pass the ledger is compared with the plan. A row is recorded as crashed if two isolated
passes made no progress because the worker that watched its process died, too.

A row that ends with ``internal.error`` in the first pass counts as pending, too: the fault may be
the machine's. If too many rows do, the run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from rich.console import Console

from jobs import clean
from jobs.driver.heartbeat import Heartbeat
from jobs.driver.placement import PoolSizer, explain_start_timeout
from jobs.driver.progress import format_count, meter
from jobs.pipeline import metrics
from jobs.pipeline.spec import RunSpec
from jobs.pipeline.supervisor import SupervisorClient
from jobs.pipeline.units import one_by_one_units, pending_units
from manifests.errors import CatalogCleanupError, ClusterError, RowError, error_from_code
from manifests.ledger import MAX_NAMED_ROWS, Tally, reconcile
from manifests.schema import CRASHED, lineage_dict, lineage_schema

if TYPE_CHECKING:
    from ray.data import Dataset

#: Up to this number of rows are isolated at once: own processes then cost less than another pass.
_MAX_ISOLATED_AT_ONCE = 32

#: Number of isolated passes without progress after which the pending rows are given up.
_MAX_STALLED_PASSES = 2

#: Threads that merge the lineage files of shards.
_MERGE_THREADS = 8

#: A run ends if at least this number of photos end with internal.error, and this share of those
#: that ended so far. Photos that do so again in the second pass are recorded instead.
_MIN_INTERNAL_ERRORS, _MAX_INTERNAL_SHARE = 100, 0.1


class PassMode(Enum):
    """How rows are distributed to workers."""

    TOGETHER = "together"
    ONE_BY_ONE = "one by one"
    ISOLATED = "each in its own process"


def execute(
    spec: RunSpec,
    shards: Collection[int],
    tally: Tally,
    *,
    size_pools: PoolSizer,
    ray_errors: list[str],
    heartbeat: Heartbeat,
    console: Console,
) -> Tally:
    """Run passes until no row is pending, or the run is asked to stop.

    Args:
        spec: the run.
        shards: numbers of this run's shards.
        tally: their current counts.
        size_pools: returns the pools for a spec and a number of blocks.
        ray_errors: receives the errors after which Ray Data continues.
        heartbeat: the heartbeat of the run.
        console: where to print progress.

    Raises:
        CatalogCleanupError: a run-level error; rows that ended are recorded.
    """
    mode, stalled = PassMode.TOGETHER, 0
    spec = replace(spec, repeats_internal_errors=True, supervisor=SupervisorClient.start())
    heartbeat.on_stop = spec.supervisor.request_stop
    while True:
        before, ray_errors[:] = tally.pending_count, []
        _run_pass(
            replace(
                spec,
                one_by_one=mode is not PassMode.TOGETHER,
                isolated=mode is PassMode.ISOLATED,
            ),
            shards,
            tally,
            size_pools=size_pools,
            heartbeat=heartbeat,
            console=console,
        )
        tally = reconcile(spec.plan, spec.ledger, spec.retry_policy, shards)
        spec = replace(spec, check_inputs=False, repeats_internal_errors=False)
        if not tally.pending_count or heartbeat.is_stopping:
            return tally
        progressed = tally.pending_count < before
        if mode is PassMode.ISOLATED:
            stalled = 0 if progressed else stalled + 1
            if stalled >= _MAX_STALLED_PASSES:
                return _give_up(spec, shards, tally, ray_errors)
        mode = _next_mode(mode, tally.pending_count, progressed=progressed)
        photos = format_count(tally.pending_count, "photo")
        have = "has" if tally.pending_count == 1 else "have"
        console.print(
            f"{photos} {have} no result yet (failed worker or internal error); retrying, "
            f"{mode.value} ..."
        )


def _run_pass(
    spec: RunSpec,
    shards: Collection[int],
    tally: Tally,
    *,
    size_pools: PoolSizer,
    heartbeat: Heartbeat,
    console: Console,
) -> None:
    pools = size_pools(spec, tally.rows if spec.check_inputs else tally.pending_count)
    if spec.one_by_one:
        # A row that waits behind one that kills its worker would be lost again.
        pools = {name: size.one_by_one(tally.pending_count) for name, size in pools.items()}
    sizes = [pools[pool] for pool, _ in spec.step_groups()]
    supervisor = replace(spec.supervisor, actors=tuple(size.actors_at_start for size in sizes))
    spec = replace(spec, supervisor=supervisor)
    if spec.one_by_one:
        units = one_by_one_units(spec, tally.pending)
    else:
        # Where inputs are checked, any shard may have work.
        pending = dict.fromkeys(shards if spec.check_inputs else (), 0) | tally.pending_by_shard
        units = pending_units(spec, pending, sizes[0].actors_at_start)
    if not units:
        return
    with (
        meter(console, tally.pending_count) as advance,
        Merger(spec, tally.pending_by_shard) as merger,
        explain_start_timeout(spec, pools),
    ):
        data = clean.build(spec, pools, units)
        _drain(data, advance, merger.count, heartbeat, tally.ended)


def _next_mode(mode: PassMode, pending_count: int, *, progressed: bool) -> PassMode:
    if pending_count <= _MAX_ISOLATED_AT_ONCE or (mode is not PassMode.TOGETHER and not progressed):
        return PassMode.ISOLATED
    return (
        PassMode.TOGETHER if pending_count > MAX_NAMED_ROWS and progressed else PassMode.ONE_BY_ONE
    )


def _drain(
    data: Dataset,
    advance: Callable[[int, int], None],
    count: Callable[[int, int], None],
    heartbeat: Heartbeat,
    ended: int,
) -> None:
    """Execute the DAG by consuming its progress rows.

    Args:
        data: the DAG.
        advance: called with further ok and failed rows.
        count: called with a shard and its further recorded rows.
        heartbeat: the heartbeat of the run.
        ended: rows that ended before.

    Raises:
        CatalogCleanupError: an actor reported a run-level error, or too many rows
            ended with ``internal.error``.
    """
    recorded, internal = ended, 0
    blocks = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for block in cast("Iterable[pa.Table]", blocks):
        for row in block.to_pylist():
            if row["run_error"]:
                raise error_from_code(row["run_error_code"], row["run_error"])
            if row["internal"]:
                internal += row["internal"]
                _raise_if_too_many(internal, recorded, row["internal_error"])
                continue
            recorded += row["ok"] + row["failed"]
            advance(row["ok"], row["failed"])
            count(row["shard"], row["ok"] + row["failed"])
            heartbeat.advance(row["ok"] + row["failed"])


def _raise_if_too_many(internal: int, recorded: int, last: str) -> None:
    if internal >= max(_MIN_INTERNAL_ERRORS, _MAX_INTERNAL_SHARE * (internal + recorded)):
        text = f"{internal} photos ended with internal.error, {recorded} did not; the last: {last}."
        raise ClusterError("cluster.workers_failed", text)


def _give_up(spec: RunSpec, shards: Collection[int], tally: Tally, ray_errors: list[str]) -> Tally:
    """Record the pending rows as crashed, if their workers died."""
    if not ray_errors:
        return tally
    cause = f"Its worker was lost each time, most recently by {ray_errors[-1].rstrip('.')}."
    reason = str(RowError("row.crashed", cause))
    names = {name for _, name in tally.pending}
    for shard in {shard for shard, _ in tally.pending}:
        planned = spec.plan.read_shard(shard).to_pylist()
        rows = [_crashed(spec, row, reason) for row in planned if row["id"] in names]
        spec.ledger.add(shard, rows, lineage_schema(spec.extra))
        metrics.record_rows(rows)
    return reconcile(spec.plan, spec.ledger, spec.retry_policy, shards)


def _crashed(spec: RunSpec, row: dict[str, Any], reason: str) -> dict[str, Any]:
    lineage = spec.lineage_of(
        row,
        status=CRASHED,
        error_code="row.crashed",
        error=reason,
        finished_at=datetime.now(UTC),
    )
    return lineage_dict(lineage) | {name: row[name] for name in spec.extra.names}


class Merger:
    """Merges the lineage files of each shard whose rows ended, while others are processed.

    Args:
        spec: the run.
        expected: shard -> number of rows to be recorded.
    """

    def __init__(self, spec: RunSpec, expected: Mapping[int, int]) -> None:
        self._ledger = spec.ledger
        self._pending = dict(expected)
        self._unmerged: set[int] = set()
        self._pool = ThreadPoolExecutor(_MERGE_THREADS)

    def __enter__(self) -> Merger:
        return self

    def count(self, shard: int, rows: int) -> None:
        """Count further recorded rows of a shard; merge it when all of them are, once."""
        before = self._pending.get(shard, 0)
        self._pending[shard] = before - rows
        self._unmerged.add(shard)
        if before > 0 >= before - rows:
            self._unmerged.discard(shard)
            self._pool.submit(self._merge, shard)

    def _merge(self, shard: int) -> None:
        # Unmerged files do no harm, and the end of the run detects duplicate rows.
        with suppress(CatalogCleanupError, OSError):
            self._ledger.compact(shard)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Merge the other shards, and wait; after an error, only for what has begun.

        Without storage each shard would take minutes. The next run merges them.
        """
        if error is None:
            list(self._pool.map(self._merge, self._unmerged))
        self._pool.shutdown(cancel_futures=error is not None)
