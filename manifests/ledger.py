"""The lineage as a ledger: what is done, what failed, what remains.

``<output>/lineage/shard=NNNNN/*.parquet``, one file for each batch of rows that ended together.
Files are only ever added; of several rows with one id and one recipe, the latest counts.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from manifests.files import Place
from manifests.plan import Plan, shard_name
from manifests.schema import FAILED, OK

#: Reading a shard's few small files is waiting, not computing.
_READERS = 16

_KEYS = [
    "id",
    "image_uri",
    "mask_uri",
    "status",
    "error_code",
    "recipe_hash",
    "masked_px",
    "finished_at",
]


def write_rows(output: str, shard: int, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Add rows to a shard's lineage, in one new file.

    Raises:
        DestinationError: ``output.not_writable``.
    """
    place = _folder(output, shard) / f"{uuid.uuid4().hex}.parquet"
    place.write_table(pa.Table.from_pylist(rows, schema=schema))


def read_shard(output: str, shard: int, recipe_hash: str) -> pa.Table:
    """The latest row of each id for a recipe: the columns that say how it ended."""
    files = _folder(output, shard).files()
    tables = [file.read_table(_KEYS) for file in files]
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in _KEYS})
    rows = pa.concat_tables(tables, promote_options="permissive")
    rows = rows.filter(pc.equal(rows["recipe_hash"], recipe_hash)).sort_by("finished_at")
    latest = rows.group_by("id", use_threads=False).aggregate(
        [(name, "last") for name in _KEYS if name != "id"]
    )
    return latest.rename_columns([name.removesuffix("_last") for name in latest.column_names])


def done(output: str, shard: int, recipe_hash: str, retry: Collection[str]) -> set[tuple[str, ...]]:
    """``(id, image_uri, mask_uri)`` of the rows that need not be done again.

    Args:
        output: the results' folder.
        shard: its number.
        recipe_hash: rows of other recipes do not count.
        retry: statuses to do again, e.g. ``{"failed"}``.
    """
    rows = read_shard(output, shard, recipe_hash)
    rows = rows.filter(pc.invert(pc.is_in(rows["status"], pa.array(list(retry), pa.string()))))
    return set(
        zip(*(rows[name].to_pylist() for name in ("id", "image_uri", "mask_uri")), strict=True)
    )


@dataclass(slots=True)
class Tally:
    """How the rows of a plan stand for one recipe.

    Attributes:
        rows: ids planned.
        ok: done.
        unchanged: of these, with an empty mask.
        failed: error code -> rows.
        crashed: rows whose worker died.
        missing: ids without a lineage row, the first hundred.
        missing_count: all of them.
    """

    rows: int = 0
    ok: int = 0
    unchanged: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    crashed: int = 0
    missing: list[str] = field(default_factory=list)
    missing_count: int = 0

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
        self.missing = (self.missing + other.missing)[:100]


def reconcile(plan: Plan, recipe_hash: str) -> Tally:
    """Compare the plan with its lineage, shard by shard: nothing is dropped silently."""
    with ThreadPoolExecutor(_READERS) as pool:
        parts = pool.map(lambda n: _reconcile_shard(plan, n, recipe_hash), range(plan.shards))
        total = Tally()
        for part in parts:
            total.add(part)
    return total


def _reconcile_shard(plan: Plan, shard: int, recipe_hash: str) -> Tally:
    planned = plan.shard(shard).read_table(["id"])["id"]
    rows = read_shard(plan.output, shard, recipe_hash)
    missing = planned.filter(pc.invert(pc.is_in(planned, rows["id"]))).to_pylist()
    ended = rows.filter(pc.is_in(rows["id"], planned.combine_chunks()))
    statuses = ended["status"].to_pylist()
    failed: dict[str, int] = {}
    for status, code in zip(statuses, ended["error_code"].to_pylist(), strict=True):
        if status == FAILED:
            failed[code] = failed.get(code, 0) + 1
    unchanged = pc.sum(pc.equal(ended["masked_px"], 0)).as_py() if ended.num_rows else 0
    return Tally(
        rows=len(planned),
        ok=statuses.count(OK),
        unchanged=unchanged or 0,
        failed=failed,
        crashed=len(statuses) - statuses.count(OK) - sum(failed.values()),
        missing=missing[:100],
        missing_count=len(missing),
    )


def _folder(output: str, shard: int) -> Place:
    return Place.of(output) / "lineage" / shard_name(shard)
