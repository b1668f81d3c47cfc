"""The units of work: pending rows in small blocks, the source of the DAG.

A unit is what a worker takes at once, and what is repeated if it dies. Few rows are read here, and
their units become smaller towards the end, so that all workers end together. Many are read on the
cluster, lazily, by tasks that each cover some shards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.pipeline.pending import RUN_ERROR, read_pending
from jobs.pipeline.spec import RunSpec
from manifests.errors import CatalogCleanupError

if TYPE_CHECKING:
    from ray.data import Dataset

#: Max rows of a unit.
UNIT_ROWS = 64

#: Up to this number of rows are read by the driver.
_MAX_READ_HERE = 5000

#: Units per actor among which the pending rows are divided.
_UNITS_PER_ACTOR = 4

#: Max number of tasks that read rows, and how many of them run at once.
_MAX_READERS, _CONCURRENT_READERS = 2000, 4

_THREADS = 16


def pending_units(
    spec: RunSpec, pending_by_shard: Mapping[int, int], actors: int
) -> Dataset | None:
    """Build the source of all pending rows of some shards.

    Args:
        spec: the run.
        pending_by_shard: shard -> number of pending rows; more if ``check_inputs`` finds changed
            files.
        actors: number of those with which the first pool starts. An autoscaler may add others,
            but units for all that it might add would be too small.

    Returns:
        Blocks of :func:`jobs.pipeline.pending.read_pending`'s rows; None: there are none.
    """
    import ray

    count = sum(pending_by_shard.values())
    if spec.check_inputs or count > _MAX_READ_HERE:
        # The number of changed files is not known yet.
        share = UNIT_ROWS if spec.check_inputs else ceil(count / actors / _UNITS_PER_ACTOR)
        return _read_lazily(spec, pending_by_shard, min(share, UNIT_ROWS))
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = list(pool.map(partial(read_pending, spec), pending_by_shard))
    units = list(_units(pa.concat_tables(tables), actors)) if tables else []
    return ray.data.from_blocks(units) if units else None


def one_by_one_units(spec: RunSpec, rows: Collection[tuple[int, str]]) -> Dataset | None:
    """Build the source of some rows, each a unit by itself.

    Args:
        spec: the run.
        rows: shard and id of each.

    Returns:
        As :func:`pending_units`.
    """
    import ray

    ids: dict[int, list[str]] = {}
    for shard, name in rows:
        ids.setdefault(shard, []).append(name)
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = pool.map(lambda shard: read_pending(spec, shard, ids[shard]), ids)
        units = [table.slice(index, 1) for table in tables for index in range(len(table))]
    return ray.data.from_blocks(units) if units else None


def _units(rows: pa.Table, actors: int) -> Iterator[pa.Table]:
    start = 0
    while start < len(rows):
        share = ceil((len(rows) - start) / actors / _UNITS_PER_ACTOR)
        yield rows.slice(start, min(share, UNIT_ROWS))
        start += min(share, UNIT_ROWS)


def _read_lazily(spec: RunSpec, pending_by_shard: Mapping[int, int], unit_rows: int) -> Dataset:
    import ray
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    shards = list(pending_by_shard)
    step = ceil(len(shards) / _MAX_READERS)
    parts = [shards[start : start + step] for start in range(0, len(shards), step)]
    tasks = [
        ReadTask(
            partial(_read_shards, _with_shards(spec, part), part),
            BlockMetadata(None, None, None, None),
        )
        for part in parts
    ]
    # Ray Data splits the rows of each task into the same number of blocks. Any shard may have
    # changed files.
    most = spec.plan.rows_per_shard if spec.check_inputs else max(pending_by_shard.values())

    class PendingRows(Datasource):
        """The pending rows, for Ray Data."""

        def get_read_tasks(self, *_: object, **__: object) -> list[ReadTask]:
            return tasks

        def estimate_inmemory_data_size(self) -> None:
            return None

    data: Dataset = ray.data.read_datasource(
        PendingRows(),  # type: ignore[no-untyped-call]
        override_num_blocks=len(tasks) * ceil(step * most / unit_rows),
        num_cpus=0,
        concurrency=_CONCURRENT_READERS,
    )
    return data


def _with_shards(spec: RunSpec, shards: Sequence[int]) -> RunSpec:
    """The spec with the selected ids of some shards only: those of all may be megabytes."""
    only = spec.plan.only
    if only is None:
        return spec
    chosen = {shard: only[shard] for shard in shards if shard in only}
    return replace(spec, plan=replace(spec.plan, only=chosen))


def _read_shards(spec: RunSpec, shards: Sequence[int]) -> Iterator[pa.Table]:
    for shard in shards:
        if not spec.supervisor.stop_requested():
            try:
                yield read_pending(spec, shard)
            except CatalogCleanupError as error:
                # The worker that receives it ends the run; Ray Data would go on without these rows.
                yield pa.table({RUN_ERROR: [[error.code, error.message]]})
                return
            except (OSError, pa.ArrowException) as error:
                yield pa.table({RUN_ERROR: [["output.not_readable", f"Shard {shard}: {error}."]]})
                return
