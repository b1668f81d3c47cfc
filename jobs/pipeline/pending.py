"""Which rows of a shard are still to be done: the anti-join that makes a run resumable."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.pipeline.changed_inputs import mark_stale
from jobs.pipeline.spec import RunSpec
from manifests.ledger import KEY, Ledger, RetryPolicy, reconcile, row_keys
from manifests.planning.plan import Plan
from manifests.schema import SHARD_SCHEMA, LineageRow
from stages.photo import Photo
from stages.steps.base import fail

#: How often an actor looks whether the run is asked to stop.
_SECONDS_PER_LOOK = 3.0


def read_pending(spec: RunSpec, shard: int, only: str | None = None) -> Iterator[Photo]:
    """The shard's rows less those that are done; ends early where the run is asked to stop.

    Args:
        spec: the run.
        shard: its number.
        only: one id of the shard; None: all of them.
    """
    if spec.check_inputs and only is None:
        mark_stale(spec, shard)
    rows = spec.plan.read_shard(shard)
    done = row_keys(spec.ledger.ended(shard, spec.policy))
    rows = rows.filter(pc.invert(pc.is_in(row_keys(rows), value_set=done)))
    if only is not None:
        rows = rows.filter(pc.equal(rows["id"], only))
    look_out = _LookOut(spec)
    recipe_hash = spec.recipe.hash  # of some milliseconds: once a shard
    for row in rows.to_pylist():
        if look_out.stop_requested():
            return
        yield _photo(spec, shard, row, recipe_hash)


def limit_rows(
    plan: Plan, ledger: Ledger, policy: RetryPolicy, shards: Collection[int], limit: int
) -> Plan:
    """The plan with at most ``limit`` of the rows that are left, spread evenly over the shards."""
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
    """How many of each count to take: ``limit`` in all, spread evenly over all that is counted."""
    total = sum(counts)
    limit = min(limit, total)
    ends = [end * limit // total for end in accumulate(counts)]
    return [end - start for start, end in pairwise([0, *ends])]


def _photo(spec: RunSpec, shard: int, row: dict[str, Any], recipe_hash: str) -> Photo:
    ours = set(SHARD_SCHEMA.names)
    photo = Photo(
        LineageRow(
            id=row["id"],
            image_uri=row["image_uri"],
            mask_uri=row["mask_uri"],
            marks=row["marks"],
            recipe_name=spec.recipe.name,
            recipe_hash=recipe_hash,
            package_version=version("catalog-cleanup"),
            run_id=spec.policy.run_id,
        ),
        shard=shard,
        extra={name: value for name, value in row.items() if name not in ours},
    )
    if row["error_code"]:
        fail(photo, row["error_code"], row["error"], "plan")
    return photo


@dataclass(slots=True)
class _LookOut:
    """Looks now and then whether the run is asked to stop."""

    spec: RunSpec
    asked: bool = False
    looked: float = field(default=-_SECONDS_PER_LOOK)

    def stop_requested(self) -> bool:
        if not self.asked and time.monotonic() - self.looked >= _SECONDS_PER_LOOK:
            with suppress(OSError):  # a storage that does not answer asks for nothing
                self.asked = self.spec.record.stop_requested
            self.looked = time.monotonic()
        return self.asked


def extra_schema(shard: pa.Schema) -> pa.Schema:
    """Of a shard's columns those that are the manifest's own, to be passed on."""
    return pa.schema([field for field in shard if field.name not in SHARD_SCHEMA.names])
