"""The units of work: sizes, and those of many rows, which are read on the cluster."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from rich.console import Console

from cluster.pools import PoolSize
from jobs.pipeline import units
from jobs.run import Outcome, run
from manifests.planning.plan import load_plan
from stages.recipe import Recipe
from tests.support import boxed_catalog

_PHOTOS = 90


@pytest.mark.parametrize("workers", [1, 4, 200])
@pytest.mark.parametrize("rows", [0, 1, 63, 64, 1000])
def test_units_hold_each_row_once_and_get_smaller(rows: int, workers: int) -> None:
    table = pa.table({"id": range(rows)})
    parts = list(units._units(table, workers))
    assert pa.concat_tables([table.slice(0, 0), *parts]).equals(table)
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert all(0 < size <= units.UNIT_ROWS for size in sizes)
    assert len(sizes) >= min(rows, workers), "each worker has one"


def test_rows_that_the_cluster_reads_are_done_once(
    ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a catalog of millions: the driver holds none of them. A second run goes on."""
    monkeypatch.setattr(units, "_MAX_READ_HERE", 0)

    def clean(limit: int | None = None) -> Outcome:
        return run(
            manifest,
            str(tmp_path / "out"),
            Recipe.load("telea"),
            Console(file=io.StringIO()),
            address=ray_address,
            limit=limit,
            rows_per_shard=10,
            pools={"cpu": PoolSize(1, 1)},
        )

    manifest = boxed_catalog(tmp_path, _PHOTOS)
    assert clean(limit=45).tally.ok == 45
    first = set(pd.read_parquet(tmp_path / "out" / "lineage").id)
    outcome = clean()
    assert (outcome.exit_code, outcome.tally.ok) == (0, _PHOTOS)
    rows = pd.read_parquet(tmp_path / "out" / "lineage")
    assert rows.id.is_unique
    assert len(rows) == _PHOTOS
    assert set(rows[rows.run_id.str.startswith("000001")].id) == first, "none was done again"
    plan = load_plan(str(tmp_path / "out"))
    assert plan
    assert plan.shards == 9
