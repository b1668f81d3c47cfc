"""The DAG, pass after pass, until every row has ended.

1. *Together*: whole shards, as fast as they go. A worker that dies takes the rows it had in flight
   with it; nothing else is lost.
2. *Alone*: each row that is missing as a block of its own, none waiting behind another: only a row
   that kills its worker is lost again. Left out where few rows are missing.
3. *Isolated*: each in a process of its own, which is watched and may die: every row ends.

After each pass the ledger tells what is missing. A row whose watching worker died too, in two
passes that got nowhere, is recorded as crashed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from rich.console import Console

from cluster.pools import PoolSize
from jobs import clean
from jobs.pipeline import metrics
from jobs.pipeline.heartbeat import Heartbeat
from jobs.pipeline.placement import Choose, explain_start_timeout
from jobs.pipeline.progress import meter
from jobs.pipeline.spec import RunSpec
from manifests.errors import CatalogCleanupError, RowError, error_from_code
from manifests.ledger import KEY, MAX_NAMED_ROWS, Tally, reconcile
from manifests.schema import CRASHED, LineageRow, lineage_dict, lineage_schema

if TYPE_CHECKING:
    from ray.data import Dataset

#: So few rows are not worth a pass in shared workers: a process each costs less.
_ISOLATED_AT_ONCE = 32

#: A row is given up when so many passes over it alone got nowhere.
_PASSES_IN_VAIN = 2


#: Shards whose files are merged at once, when a pass ends.
_MERGERS = 8


class Style(Enum):
    """How rows are spread over workers."""

    TOGETHER = "together"
    ALONE = "each alone"
    ISOLATED = "each in a process of its own"


def execute(
    spec: RunSpec,
    shards: Collection[int],
    tally: Tally,
    *,
    choose: Choose,
    trouble: list[str],
    heartbeat: Heartbeat,
    console: Console,
) -> Tally:
    """Run passes until no row is missing, or the run is asked to stop.

    Args:
        spec: the run.
        shards: those of the plan that are this run's.
        tally: how they stand.
        choose: pools for a spec with so many blocks.
        trouble: receives the errors that Ray Data goes on after.
        heartbeat: of the run.
        console: where progress goes.

    Raises:
        CatalogCleanupError: an error that is no row's; what had ended is recorded.
    """
    style, in_vain = Style.TOGETHER, 0
    while True:
        before, trouble[:] = tally.missing_count, []
        # With inputs to be looked at, there may be work in any shard.
        work = _whole(shards) if spec.check_inputs else _work(tally, style)
        passing = replace(spec, isolated=style is Style.ISOLATED)
        pools = _narrowed(choose(passing, len(work)), style)
        with (
            meter(console, before) as shown,
            Merger(spec, tally.unfinished) as merger,
            explain_start_timeout(passing, pools),
        ):
            _drain(clean.build(passing, pools, work), shown.advance, merger.count, heartbeat)
        tally = reconcile(spec.plan, spec.ledger, spec.policy, shards)
        spec = replace(spec, check_inputs=False)
        if not tally.missing_count or heartbeat.is_stopping:
            return tally
        in_vain = in_vain + 1 if tally.missing_count == before else 0
        if in_vain >= _PASSES_IN_VAIN and style is Style.ISOLATED:
            return _give_up(spec, shards, tally, trouble)
        style = _next_style(style, tally.missing_count, progressed=tally.missing_count < before)
        photos = "photo" if tally.missing_count == 1 else "photos"
        console.print(f"{tally.missing_count} {photos} lost their worker; {style.value} ...")


def _next_style(style: Style, missing: int, *, progressed: bool) -> Style:
    if missing <= _ISOLATED_AT_ONCE or (style is not Style.TOGETHER and not progressed):
        return Style.ISOLATED
    return Style.TOGETHER if missing > MAX_NAMED_ROWS and progressed else Style.ALONE


def _work(tally: Tally, style: Style) -> list[clean.WorkUnit]:
    if style is Style.TOGETHER:
        return _whole(tally.unfinished)
    return [clean.WorkUnit(shard=shard, id=name) for shard, name in tally.missing]


def _whole(shards: Iterable[int]) -> list[clean.WorkUnit]:
    return [clean.WorkUnit(shard=shard, id=None) for shard in shards]


def _narrowed(pools: Mapping[str, PoolSize], style: Style) -> Mapping[str, PoolSize]:
    if style is Style.TOGETHER:
        return pools
    # None may wait behind one that kills its worker: it would be lost with it again.
    return {name: size.without_prefetch() for name, size in pools.items()}


def _drain(
    data: Dataset,
    advance: Callable[[int, int], None],
    count: Callable[[int, int], None],
    heartbeat: Heartbeat,
) -> None:
    """Execute the DAG by taking its progress rows.

    Raises:
        CatalogCleanupError: an actor met an error that is no row's.
    """
    blocks = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    for block in cast("Iterable[pa.Table]", blocks):
        for row in block.to_pylist():
            if row["problem"]:
                raise error_from_code(row["problem_code"], row["problem"])
            advance(row["ok"], row["failed"])
            count(row["shard"], row["ok"] + row["failed"])
            heartbeat.advance(row["ok"], row["failed"])


def _give_up(spec: RunSpec, shards: Collection[int], tally: Tally, trouble: list[str]) -> Tally:
    """Record as crashed what is missing still, if it is the rows' workers that died."""
    if not trouble:
        return tally
    cause = f"Its worker was lost each time, at last by {trouble[-1].rstrip('.')}."
    reason = str(RowError("row.crashed", cause))
    names = {name for _, name in tally.missing}
    for shard in {shard for shard, _ in tally.missing}:
        planned = spec.plan.read_shard(shard).to_pylist()
        rows = [_crashed(spec, row, reason) for row in planned if row["id"] in names]
        spec.ledger.add(shard, rows, lineage_schema(spec.extra))
        metrics.record_rows(rows)
    return reconcile(spec.plan, spec.ledger, spec.policy, shards)


def _crashed(spec: RunSpec, row: dict[str, Any], reason: str) -> dict[str, Any]:
    lineage = LineageRow(
        **{name: row[name] for name in KEY},
        status=CRASHED,
        error_code="row.crashed",
        error=reason,
        recipe_name=spec.recipe.name,
        recipe_hash=spec.recipe.hash,
        package_version=version("catalog-cleanup"),
        run_id=spec.policy.run_id,
        finished_at=datetime.now(UTC),
    )
    return lineage_dict(lineage) | {name: row[name] for name in spec.extra.names}


class Merger:
    """Merges the lineage files of each shard when it is done, beside the work on others.

    Args:
        spec: the run.
        expected: shard -> rows that will be recorded.
    """

    def __init__(self, spec: RunSpec, expected: Mapping[int, int]) -> None:
        self._ledger = spec.ledger
        self._left = dict(expected)
        self._unmerged: set[int] = set()
        self._pool = ThreadPoolExecutor(1)  # so that a shard is never merged twice at once

    def __enter__(self) -> Merger:
        return self

    def count(self, shard: int, rows: int) -> None:
        """So many more rows of the shard are recorded."""
        self._left[shard] = self._left.get(shard, 0) - rows
        self._unmerged.add(shard)
        if self._left[shard] <= 0:
            self._unmerged.discard(shard)
            self._pool.submit(self._merge, shard)

    def _merge(self, shard: int) -> None:
        # Files that stay apart are no loss; rows that are there twice, the run's end tells.
        with suppress(CatalogCleanupError, OSError):
            self._ledger.compact(shard)

    def __exit__(self, *_: object) -> None:
        """Merge the shards that were not done, and wait."""
        self._pool.shutdown()
        with ThreadPoolExecutor(_MERGERS) as pool:
            list(pool.map(self._merge, self._unmerged))
