"""The pending rows of a shard: the anti-join that makes a run resumable."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.pipeline.changed_inputs import mark_stale
from jobs.pipeline.spec import RunSpec
from jobs.pipeline.transport import EXTRA_PREFIX
from manifests.ledger import KEY, Ledger, RetryPolicy, reconcile, row_keys
from manifests.planning.plan import Plan
from manifests.schema import SHARD_SCHEMA, LineageRow
from stages.photo import Photo
from stages.steps.base import fail

#: Column with the number of a row's shard.
SHARD = "_shard"

#: Interval at which an actor checks for a stop request.
_STOP_CHECK_INTERVAL_S = 3.0


def read_pending(spec: RunSpec, shard: int, only: Collection[str] | None = None) -> pa.Table:
    """Read the pending rows of a shard, as planned, with the column :data:`SHARD`.

    The manifest's own columns have a prefix, so that their names cannot collide with ours.

    Args:
        spec: the run.
        shard: number of the shard.
        only: the ids to process; None: all pending ids.
    """
    if spec.check_inputs and only is None:
        mark_stale(spec, shard)
    rows = spec.plan.read_shard(shard)
    done = row_keys(spec.ledger.ended(shard, spec.policy))
    rows = rows.filter(pc.invert(pc.is_in(row_keys(rows), value_set=done)))
    if only is not None:
        rows = rows.filter(pc.is_in(rows["id"], value_set=pa.array(only, pa.string())))
    ours = set(SHARD_SCHEMA.names)
    names = [name if name in ours else EXTRA_PREFIX + name for name in rows.column_names]
    return rows.rename_columns(names).append_column(
        SHARD, pa.array(np.full(len(rows), shard), pa.int64())
    )


def photos_of(spec: RunSpec, rows: pa.Table) -> Iterator[Photo]:
    """Yield the photos of pending rows; ends early if the run is asked to stop."""
    stop_check = _StopCheck(spec)
    recipe_hash = spec.recipe.hash  # takes milliseconds: computed once
    package_version = version("catalog-cleanup")
    for row in rows.to_pylist():
        if stop_check.stop_requested():
            return
        yield _photo(spec, row, recipe_hash, package_version)


def limit_rows(
    plan: Plan, ledger: Ledger, policy: RetryPolicy, shards: Collection[int], limit: int
) -> Plan:
    """Limit a plan to ``limit`` pending rows, spread evenly over the shards."""
    left = reconcile(plan, ledger, policy, shards).unfinished
    quotas = _quotas(list(left.values()), limit)
    only = {}
    for shard, quota in zip(left, quotas, strict=True):
        if quota:
            rows = plan.shard(shard).read_table([*KEY])
            done = row_keys(ledger.ended(shard, policy))
            rows = rows.filter(pc.invert(pc.is_in(row_keys(rows), value_set=done)))
            only[shard] = rows["id"].slice(0, quota).to_pylist()
    return replace(plan, only=only)


def _quotas(counts: Sequence[int], limit: int) -> list[int]:
    """Split ``limit`` in proportion to the counts."""
    total = sum(counts)
    limit = min(limit, total)
    ends = [end * limit // total for end in accumulate(counts)]
    return [end - start for start, end in pairwise([0, *ends])]


def _photo(spec: RunSpec, row: dict[str, Any], recipe_hash: str, package_version: str) -> Photo:
    photo = Photo(
        LineageRow(
            id=row["id"],
            image_uri=row["image_uri"],
            mask_uri=row["mask_uri"],
            marks=row["marks"],
            recipe_name=spec.recipe.name,
            recipe_hash=recipe_hash,
            package_version=package_version,
            run_id=spec.policy.run_id,
        ),
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
            self.is_asked = self.spec.monitor.stop_requested()
            self.checked_at = time.monotonic()
        return self.is_asked


def extra_schema(shard: pa.Schema) -> pa.Schema:
    """The extra columns of a shard, which come from the manifest and are passed through."""
    return pa.schema([field for field in shard if field.name not in SHARD_SCHEMA.names])
