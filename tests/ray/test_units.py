"""The units of work: sizes, and those of many rows, which are read on the cluster."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from rich.console import Console

from cluster.pools import PoolSize
from jobs.driver import passes
from jobs.driver.heartbeat import Heartbeat
from jobs.pipeline import units
from jobs.pipeline.pending import photos_of, read_pending
from jobs.pipeline.spec import RunSpec
from jobs.run import Outcome
from manifests.errors import CatalogCleanupError, StorageError
from manifests.ledger import RetryPolicy, Tally
from manifests.planning.plan import load_plan, make_plan
from manifests.runs import RunRecord
from stages.pipeline import steps
from stages.recipe import Recipe
from tests.conftest import Run
from tests.support import boxed_catalog

_PHOTOS = 90


@pytest.mark.parametrize("actors", [1, 4, 200])
@pytest.mark.parametrize("rows", [0, 1, 63, 64, 1000])
def test_units_hold_each_row_once_and_get_smaller(rows: int, actors: int) -> None:
    table = pa.table({"id": range(rows)})
    parts = list(units._units(table, actors))
    assert pa.concat_tables([table.slice(0, 0), *parts]).equals(table)
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert all(0 < size <= units.UNIT_ROWS for size in sizes)
    assert len(sizes) >= min(rows, actors), "each actor has one"


def spec_of(folder: Path, photos: int) -> RunSpec:
    plan = make_plan(boxed_catalog(folder, photos), str(folder / "out"), rows_per_shard=1)
    policy = RetryPolicy("000001-aaaaaa")
    return RunSpec(plan, pa.schema([]), Recipe.load("telea"), policy, steps)


@pytest.mark.parametrize(
    ("left", "check_inputs", "expected"),
    [(0, True, 64), (100, True, 64), (8000, False, 20), (10**6, False, 64)],
)
def test_units_of_a_catalog_whose_files_may_have_changed_are_full(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    left: int,
    check_inputs: bool,
    expected: int,
) -> None:
    spec = replace(spec_of(tmp_path, 1), check_inputs=check_inputs)
    monkeypatch.setattr(units, "_read_lazily", lambda _spec, _left, unit_rows: unit_rows)
    size: object = units.pending_units(spec, {0: left}, actors=100)
    assert size == expected


def test_units_are_made_for_the_actors_that_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, told = spec_of(tmp_path, 1), list[int]()
    monkeypatch.setattr(passes, "pending_units", lambda *each: told.append(each[2]))
    size = PoolSize(min_actors=1, max_actors=1000, actors_that_fit=3)
    passes._run_pass(
        spec,
        [0],
        Tally(rows=1, pending_count=1, pending_by_shard={0: 1}),
        size_pools=lambda *_: {"cpu": size},
        heartbeat=Heartbeat(RunRecord(spec.plan.output, spec.retry_policy.run_id)),
        console=Console(file=io.StringIO()),
    )
    assert told == [3], "not those that an autoscaler might add"


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
        (OSError("stale file handle"), "output.not_readable"),
        (pa.ArrowInvalid("not a Parquet file"), "output.not_readable"),
    ],
)
def test_rows_that_cannot_be_read_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    """Ray Data alone would go on without them."""
    spec = spec_of(tmp_path, 2)

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
