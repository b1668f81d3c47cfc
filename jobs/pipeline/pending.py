"""The pending rows of a shard: the anti-join that makes a run resumable."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.pipeline.changed_inputs import mark_stale
from jobs.pipeline.spec import RunSpec
from manifests.errors import error_from_code
from manifests.ledger import IDENTITY_COLUMNS, Ledger, RetryPolicy, reconcile
from manifests.planning.plan import Plan
from manifests.schema import SHARD_SCHEMA
from stages.photo import Photo
from stages.steps.base import fail

#: Prefix of the manifest's extra columns beside ours: in units of work, and in a report, where one
#: from an earlier version may have the name of a lineage column of this version.
EXTRA_PREFIX = "manifest: "

#: Column with the number of a row's shard.
SHARD = "_shard"

#: Column with the code and message of an error that ends the run, in place of rows.
RUN_ERROR = "_run_error"

#: Shards that are read, or checked for changed files, at once.
_THREADS = 8

#: Interval at which an actor checks for a stop request.
_STOP_CHECK_INTERVAL_S = 3.0


def read_pending(spec: RunSpec, shard: int, only: Collection[str] | None = None) -> pa.Table:
    """Read the pending rows of a shard, as planned, with the column :data:`SHARD`.

    The manifest's extra columns have a prefix, so that their names cannot collide with ours.

    Args:
        spec: the run.
        shard: number of the shard.
        only: the ids to process; None: all pending ids.
    """
    if spec.check_inputs and only is None:
        mark_stale(spec, shard)
    rows = spec.ledger.pending(spec.plan, shard, spec.retry_policy)
    if only is not None:
        rows = rows.filter(pc.is_in(rows["id"], value_set=pa.array(only, pa.string())))
    ours = set(SHARD_SCHEMA.names)
    names = [name if name in ours else EXTRA_PREFIX + name for name in rows.column_names]
    return rows.rename_columns(names).append_column(
        SHARD, pa.array(np.full(len(rows), shard), pa.int64())
    )


def photos_of(spec: RunSpec, rows: pa.Table) -> Iterator[Photo]:
    """Yield the photos of pending rows; ends early if the run is asked to stop.

    Raises:
        CatalogCleanupError: the rows could not be read.
    """
    stop_check = _StopCheck(spec)
    for row in rows.to_pylist():
        if run_error := row.pop(RUN_ERROR, None):
            raise error_from_code(*run_error)
        if stop_check.stop_requested():
            return
        yield _photo(spec, row)


def count_unusable(plan: Plan, ledger: Ledger, policy: RetryPolicy, shards: Collection[int]) -> int:
    """Count the pending rows that would fail because of the manifest."""
    if not plan.rejected:
        return 0

    def count(shard: int) -> int:
        codes = ledger.pending(plan, shard, policy, [*IDENTITY_COLUMNS, "error_code"])["error_code"]
        return len(codes) - int(codes.null_count)

    with ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(count, shards))


def limit_rows(spec: RunSpec, shards: Collection[int], limit: int) -> tuple[RunSpec, int]:
    """Limit a run to ``limit`` pending rows, spread evenly over the shards.

    If fewer are pending, and inputs are checked, it looks for changed files among the ended
    rows, until there are enough. The limited run need not check them again.

    Returns:
        The limited run, and the number of pending rows that it leaves out.

    Raises:
        StorageError, OutputError: see :func:`mark_stale`.
    """
    tally = reconcile(spec.plan, spec.ledger, spec.retry_policy, shards)
    if spec.check_inputs and _mark_stale(spec, shards, limit - tally.pending_count):
        tally = reconcile(spec.plan, spec.ledger, spec.retry_policy, shards)
    spec = replace(spec, check_inputs=False)
    if not tally.pending_count:
        return spec, 0
    only = {}
    counts = tally.pending_by_shard
    for shard, quota in zip(counts, _quotas([*counts.values()], limit), strict=True):
        if quota:
            rows = spec.ledger.pending(spec.plan, shard, spec.retry_policy, [*IDENTITY_COLUMNS])
            only[shard] = rows["id"].slice(0, quota).to_pylist()
    limited = replace(spec, plan=replace(spec.plan, only=only))
    return limited, tally.pending_count - min(limit, tally.pending_count)


def _mark_stale(spec: RunSpec, shards: Collection[int], wanted: int) -> int:
    """Mark rows with changed files as stale until there are enough; returns their number."""
    found, numbers = 0, iter(shards)
    with ThreadPoolExecutor(_THREADS) as pool:
        while found < wanted and (some := list(islice(numbers, _THREADS))):
            found += sum(pool.map(partial(mark_stale, spec), some))
    return found


def _quotas(counts: Sequence[int], limit: int) -> list[int]:
    """Split ``limit`` in proportion to the counts."""
    total = sum(counts)
    limit = min(limit, total)
    ends = [end * limit // total for end in accumulate(counts)]
    return [end - start for start, end in pairwise([0, *ends])]


def _photo(spec: RunSpec, row: dict[str, Any]) -> Photo:
    photo = Photo(
        spec.lineage_of(row),
        shard=row[SHARD],
        extra={
            name.removeprefix(EXTRA_PREFIX): value
            for name, value in row.items()
            if name.startswith(EXTRA_PREFIX)
        },
    )
    if row["error_code"]:
        fail(photo, row["error_code"], row["error"], "plan")
    return photo


@dataclass(slots=True)
class _StopCheck:
    """Checks at intervals whether the run is asked to stop."""

    spec: RunSpec
    is_asked: bool = False
    checked_at: float = field(default=-_STOP_CHECK_INTERVAL_S)

    def stop_requested(self) -> bool:
        if not self.is_asked and time.monotonic() - self.checked_at >= _STOP_CHECK_INTERVAL_S:
            self.is_asked = self.spec.supervisor.stop_requested()
            self.checked_at = time.monotonic()
        return self.is_asked


def extra_schema(shard: pa.Schema) -> pa.Schema:
    """The extra columns of a shard, which come from the manifest and are passed through."""
    return pa.schema([field for field in shard if field.name not in SHARD_SCHEMA.names])
