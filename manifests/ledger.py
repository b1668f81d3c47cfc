"""The lineage as a ledger: what is done, what failed, what remains.

``<output>/lineage/shard=NNNNN/*.parquet``, one file for each batch of rows that ended together. Of
several rows with one id and one recipe, which only ``--retry`` makes, the latest counts; when a run
ends, :func:`drop_superseded` leaves that one alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.files import Place
from manifests.plan import Plan, shard_name
from manifests.schema import FAILED, OK

#: Reading a shard's few small files is waiting, not computing.
_READERS = 16

#: So many missing rows are named; there may be more.
NAMED = 1000

#: What makes a row the same work: its id, where its inputs lie, and what else marks the photo.
KEY = ("id", "image_uri", "mask_uri", "marks")

_KEYS = [
    *KEY,
    "status",
    "error_code",
    "recipe_hash",
    "run_id",
    "masked_px",
    "finished_at",
]


def write_rows(output: str, shard: int, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Add rows to a shard's lineage, in one new file.

    Raises:
        DestinationError: ``output.not_writable``.
    """
    _new_file(output, shard).write_table(pa.Table.from_pylist(rows, schema=schema))


@dataclass(frozen=True, slots=True)
class Goal:
    """Which rows of a plan are still to be done.

    Attributes:
        recipe_hash: rows of other recipes do not count.
        run_id: what this run has recorded is done, whatever ``retry`` says.
        retry: statuses that are done again if an earlier run recorded them.
    """

    recipe_hash: str
    run_id: str
    retry: frozenset[str] = frozenset()


def latest_rows(
    output: str, shard: int, recipe_hash: str, columns: Sequence[str] = _KEYS
) -> pa.Table:
    """The latest row of each id for a recipe; by default the columns that say how it ended."""
    tables = [file.read_table(list(columns)) for file in _folder(output, shard).files()]
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in columns})
    rows = pa.concat_tables(tables, promote_options="permissive")
    rows = rows.filter(pc.equal(rows["recipe_hash"], recipe_hash))
    return rows.take(_latest_of_each(rows, ["id"]))


def _latest_of_each(rows: pa.Table, keys: list[str]) -> pa.Array:
    """Positions of the row of each key that was finished last."""
    order = pc.sort_indices(rows, [("finished_at", "ascending")])
    ordered = rows.select(keys).take(order).append_column("place", pa.array(np.arange(len(order))))
    last = ordered.group_by(keys, use_threads=False).aggregate([("place", "max")])["place_max"]
    return order.take(last.combine_chunks())


def ended_rows(output: str, shard: int, goal: Goal) -> pa.Table:
    """The latest rows that need not be done again."""
    rows = latest_rows(output, shard, goal.recipe_hash)
    again = pc.is_in(rows["status"], pa.array(sorted(goal.retry), pa.string()))
    ours = pc.equal(rows["run_id"], goal.run_id)
    return rows.filter(pc.or_(pc.invert(again), ours))


def row_keys(table: pa.Table) -> Iterable[tuple[str, ...]]:
    """The :data:`KEY` of each row."""
    columns = (table[name].to_pylist() for name in KEY)
    return zip(*columns, strict=True)


def drop_superseded(plan: Plan) -> None:
    """Leave one row for each id and recipe, in shards where ``--retry`` made more.

    The remaining rows are written before the old files are deleted: a kill between the two leaves
    rows twice, of which the latest counts, and the next call puts it right.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        list(pool.map(lambda shard: _drop_superseded(plan.output, shard), range(plan.shards)))


def _drop_superseded(output: str, shard: int) -> None:
    files = _folder(output, shard).files()
    if not files:
        return
    rows = pa.concat_tables([file.read_table() for file in files], promote_options="permissive")
    latest = _latest_of_each(rows, ["id", "recipe_hash"])
    if len(latest) == rows.num_rows:
        return
    _new_file(output, shard).write_table(rows.take(latest))
    for file in files:
        file.delete()


@dataclass(slots=True)
class Tally:
    """How the rows of a plan stand for one recipe.

    Attributes:
        rows: ids planned.
        ok: done.
        unchanged: of these, with an empty mask.
        failed: error code -> rows.
        crashed: rows whose worker died.
        missing: (shard, id) of rows still to be done, the first :data:`NAMED`.
        missing_count: all of them.
        unfinished: numbers of the shards that have missing rows.
    """

    rows: int = 0
    ok: int = 0
    unchanged: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    crashed: int = 0
    missing: list[tuple[int, str]] = field(default_factory=list)
    missing_count: int = 0
    unfinished: list[int] = field(default_factory=list)

    @property
    def failed_count(self) -> int:
        """Rows that failed, of any code."""
        return sum(self.failed.values())

    def add(self, other: Tally) -> None:
        """Take in another part of the plan."""
        self.rows += other.rows
        self.ok += other.ok
        self.unchanged += other.unchanged
        self.crashed += other.crashed
        for code, count in other.failed.items():
            self.failed[code] = self.failed.get(code, 0) + count
        self.missing_count += other.missing_count
        self.unfinished += other.unfinished
        self.missing = (self.missing + other.missing)[:NAMED]


def reconcile(plan: Plan, goal: Goal) -> Tally:
    """Compare the plan with its lineage, shard by shard: nothing is dropped silently."""
    with ThreadPoolExecutor(_READERS) as pool:
        parts = pool.map(lambda shard: _reconcile_shard(plan, shard, goal), range(plan.shards))
        total = Tally()
        for part in parts:
            total.add(part)
    return total


def _reconcile_shard(plan: Plan, shard: int, goal: Goal) -> Tally:
    planned = plan.shard(shard).read_table([*KEY])
    rows = ended_rows(plan.output, shard, goal)
    ended = {key: position for position, key in enumerate(row_keys(rows))}
    missing = [(shard, key[0]) for key in row_keys(planned) if key not in ended]
    places = [ended[key] for key in row_keys(planned) if key in ended]
    rows = rows.take(pa.array(places, pa.int64()))
    statuses = rows["status"].to_pylist()
    failed: dict[str, int] = {}
    for status, code in zip(statuses, rows["error_code"].to_pylist(), strict=True):
        if status == FAILED:
            failed[code] = failed.get(code, 0) + 1
    done = statuses.count(OK)
    return Tally(
        rows=planned.num_rows,
        ok=done,
        unchanged=rows["masked_px"].to_pylist().count(0),
        failed=failed,
        crashed=len(statuses) - done - sum(failed.values()),
        missing=missing[:NAMED],
        missing_count=len(missing),
        unfinished=[shard] if missing else [],
    )


def _new_file(output: str, shard: int) -> Place:
    return _folder(output, shard) / f"{uuid.uuid4().hex}.parquet"


def _folder(output: str, shard: int) -> Place:
    return Place.of(output) / "lineage" / shard_name(shard)
