"""The units of work: sizes, and those of many rows, which are read on the cluster."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from cluster.pools import PoolSize
from jobs.pipeline import units
from jobs.pipeline.pending import photos_of, read_pending
from jobs.pipeline.spec import RunSpec
from jobs.run import Outcome
from manifests.errors import CatalogCleanupError, StorageError
from manifests.ledger import RetryPolicy
from manifests.planning.plan import load_plan, make_plan
from manifests.runs import RunRecord
from stages.pipeline import steps
from stages.recipe import Recipe
from tests.conftest import Run
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
    on_ray: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a catalog of millions: the driver holds none of them. A second run goes on."""
    monkeypatch.setattr(units, "_MAX_READ_HERE", 0)

    def clean(limit: int | None = None) -> Outcome:
        one = {"cpu": PoolSize(1, 1)}
        return on_ray(manifest, tmp_path / "out", limit=limit, rows_per_shard=10, pools=one)

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


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorageError("storage.credentials", "They have expired."), "storage.credentials"),
        (OSError("no route to host"), "storage.unreachable"),
        (pa.ArrowInvalid("not a Parquet file"), "storage.unreachable"),
    ],
)
def test_rows_that_cannot_be_read_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    """Ray Data alone would go on without them."""
    plan = make_plan(boxed_catalog(tmp_path, 2), str(tmp_path / "out"), rows_per_shard=1)
    recipe, run_record = Recipe.load("telea"), RunRecord(plan.output, "000001-aaaaaa")
    policy = RetryPolicy(run_record.run_id)
    spec = RunSpec(plan, pa.schema([]), recipe, policy, run_record, steps)

    def read(spec: RunSpec, shard: int) -> pa.Table:
        if shard:
            raise error
        return read_pending(spec, shard)

    monkeypatch.setattr(units, "read_pending", read)
    tables = list(units._read_shards(spec, [0, 1]))
    photos = photos_of(spec, pa.concat_tables(tables, promote_options="default"))
    assert next(photos).shard == 0
    with pytest.raises(CatalogCleanupError) as caught:
        next(photos)
    assert caught.value.code == code
