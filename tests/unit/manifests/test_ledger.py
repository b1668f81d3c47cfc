"""The lineage as a ledger: which rows count, what remains, and what a kill may leave."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from jobs.results.status import fidelity_lines
from manifests.ledger import Ledger, RetryPolicy, reconcile, set_aside
from manifests.planning.plan import Plan, load_plan, make_plan
from manifests.schema import LineageRow, lineage_dict, lineage_schema
from stages.recipe import Recipe
from tests.support import write
from tests.support.output_folders import clean_here

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIRST, SECOND = "000001-aaaaaa", "000002-000000"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    lines = "".join(f"{n},{n}.jpg,{n}.png\n" for n in range(10))
    manifest = write(tmp_path / "m.csv", f"id,image,mask\n{lines}")
    return make_plan(manifest, str(tmp_path / "out"), rows_per_shard=5)


@pytest.fixture
def ledger(plan: Plan) -> Ledger:
    return Ledger(plan.output, "r")


def rows(
    plan: Plan, ids: Sequence[int], run_id: str = FIRST, status: str = "ok", **more: Any
) -> list[dict[str, Any]]:
    folder = Path(plan.manifest).parent
    return [
        lineage_dict(
            LineageRow(
                id=str(n),
                image_uri=f"{folder}/{n}.jpg",
                mask_uri=f"{folder}/{n}.png",
                status=status,
                run_id=run_id,
                **({"finished_at": NOON} | more),
            )
        )
        for n in ids
    ]


def add(ledger: Ledger, shard: int, *batches: list[dict[str, Any]]) -> None:
    for batch in batches:
        ledger.add(shard, batch, lineage_schema())


def test_columns_that_files_lack_are_left_out(ledger: Ledger, plan: Plan) -> None:
    wanted = ["id", "note"]
    assert ledger.latest(0, wanted).column_names == ["id"], "no file, no columns of a manifest's"
    add(ledger, 0, rows(plan, [1, 2]))
    assert ledger.latest(0, wanted).to_pylist() == [{"id": "1"}, {"id": "2"}]


def files(ledger: Ledger, shard: int) -> list[Path]:
    folder = Path(ledger.output) / "lineage" / f"recipe={ledger.recipe_hash}" / f"shard={shard:05d}"
    return sorted(folder.glob("*.parquet"))


def test_what_remains_is_the_plan_less_the_lineage(plan: Plan, ledger: Ledger) -> None:
    add(ledger, 0, rows(plan, [0, 1]), rows(plan, [2], status="failed", error_code="image.corrupt"))
    add(ledger, 1, rows(plan, [5], status="crashed", error_code="row.crashed"))
    add(Ledger(plan.output, "another"), 1, rows(plan, [6, 7]))
    tally = reconcile(plan, ledger, RetryPolicy(SECOND), range(2))
    assert (tally.rows, tally.ok, tally.failed, tally.crashed) == (10, 2, {"image.corrupt": 1}, 1)
    assert tally.pending == [(0, "3"), (0, "4"), (1, "6"), (1, "7"), (1, "8"), (1, "9")]
    assert (tally.pending_count, tally.pending_by_shard) == (6, {0: 2, 1: 4})
    again = reconcile(plan, ledger, RetryPolicy(SECOND, frozenset({"failed", "crashed"})), [0])
    assert again.pending == [(0, "2"), (0, "3"), (0, "4")]


def test_a_row_of_a_later_run_counts_whatever_the_clocks_said(plan: Plan, ledger: Ledger) -> None:
    a_day_ahead = NOON + timedelta(days=1)
    add(ledger, 0, rows(plan, [0], FIRST, "failed", finished_at=a_day_ahead))
    add(ledger, 0, rows(plan, [0], SECOND, "ok"))
    assert ledger.latest(0)["status"].to_pylist() == ["ok"]
    ledger.compact(0)
    (left,) = files(ledger, 0)
    assert pq.read_table(left)["run_id"].to_pylist() == [SECOND]


def test_a_row_that_calls_for_work_gives_way_to_its_result(plan: Plan, ledger: Ledger) -> None:
    add(ledger, 0, rows(plan, [0, 1], FIRST))
    add(ledger, 0, rows(plan, [0], SECOND, "stale", finished_at=NOON + timedelta(hours=1)))
    assert (0, "0") in reconcile(plan, ledger, RetryPolicy(SECOND), [0]).pending
    add(ledger, 0, rows(plan, [0], SECOND, "ok"))
    tally = reconcile(plan, ledger, RetryPolicy(SECOND), [0])
    assert (0, "0") not in tally.pending
    assert tally.superseded_by_shard == {0: 2}
    ledger.compact(0)
    assert reconcile(plan, ledger, RetryPolicy(SECOND), [0]).superseded_by_shard == {}


@pytest.mark.parametrize("as_text", [False, True])
def test_columns_called_like_ours_or_our_folders_are_read_by_anyone(
    tmp_path: Path, as_text: bool
) -> None:
    """By pandas, pyarrow and DuckDB, which takes upper and lower case for the same."""
    names = ["recipe", "Shard", "STATUS", "ID", "Image_URI", "_ends", "_shard", "_original", "side"]
    theirs: dict[str, Any] = {name: [f"{name} of {row}" for row in "12"] for name in names}
    table = pa.table({"id": ["1", "2"], "image": ["a"] * 2, "mask": ["b"] * 2} | theirs)
    path = tmp_path / ("m.csv" if as_text else "m.parquet")
    pacsv.write_csv(table, path) if as_text else pq.write_table(table, path)
    clean_here(path, tmp_path / "out", Recipe.load("telea"))
    lineage = tmp_path / "out" / "lineage"
    wanted = {
        name: name if name.startswith("_") or name == "side" else f"manifest_{name}"
        for name in names
    }
    in_pandas = pd.read_parquet(lineage).sort_values("id")
    in_arrow = pads.dataset(lineage, partitioning="hive").to_table().sort_by("id")
    query = f"FROM read_parquet('{lineage}/*/*/*.parquet', hive_partitioning = true) ORDER BY id"
    in_duckdb = duckdb.sql(query)
    assert in_duckdb is not None
    assert not [name for name in in_duckdb.columns if re.search(r"_\d+$", name)], "none is renamed"
    for name, ours in wanted.items():
        assert list(in_pandas[ours]) == theirs[name]
        assert in_arrow[ours].to_pylist() == theirs[name]
        assert in_duckdb.select(f'"{ours}"').fetchall() == [(cell,) for cell in theirs[name]]
    assert set(in_pandas["recipe"]) == {Recipe.load("telea").hash}
    assert in_duckdb.select("id, status").fetchall() == [("1", "failed"), ("2", "failed")]
    notes = load_plan(str(tmp_path / "out"))
    assert notes is not None
    assert "column Shard is called manifest_Shard" in " ".join(notes.notes)


def test_a_half_written_file_costs_its_rows_and_no_others(plan: Plan, ledger: Ledger) -> None:
    add(ledger, 0, rows(plan, [0, 1, 2]))
    (whole,) = files(ledger, 0)
    add(ledger, 0, rows(plan, [3, 4]))
    (torn,) = set(files(ledger, 0)) - {whole}
    torn.write_bytes(torn.read_bytes()[:-100])
    tally = reconcile(plan, ledger, RetryPolicy(SECOND), [0])
    assert tally.pending == [(0, "3"), (0, "4")]
    assert [file.uri for file in tally.damaged] == [str(torn)]
    ledger.compact(0)
    assert set(files(ledger, 0)) == {whole, torn}, "nothing is merged beside a damaged file"
    set_aside(tally.damaged[0])
    assert reconcile(plan, ledger, RetryPolicy(SECOND), [0]).damaged == []
    assert files(ledger, 0) == [whole]
    assert len(list(whole.parent.glob(".damaged-*"))) == 1, "nothing is deleted"


def test_files_are_merged_while_others_read_and_write(plan: Plan, ledger: Ledger) -> None:
    def add_one(n: int) -> None:
        add(ledger, 0, rows(plan, [n % 5], f"{n:06d}-aaaaaa"))

    def read(_: int) -> None:
        ids = ledger.latest(0)["id"].to_pylist()
        assert len(ids) == len(set(ids))

    with ThreadPoolExecutor(6) as pool:
        doing = [
            *pool.map(add_one, range(40)),
            *pool.map(lambda _: ledger.compact(0), range(40)),
            *pool.map(read, range(40)),
        ]
    assert len(doing) == 120
    ledger.compact(0)
    assert sorted(ledger.latest(0)["run_id"].to_pylist()) == [
        f"{n:06d}-aaaaaa" for n in range(35, 40)
    ]
    assert reconcile(plan, ledger, RetryPolicy(SECOND), [0]).pending_count == 0
    assert len(files(ledger, 0)) == 1


def test_what_was_kept_is_counted_by_kind_and_reason(ledger: Ledger, plan: Plan) -> None:
    def kept(ids: Sequence[int], fidelity: str, note: str | None = None) -> list[dict[str, Any]]:
        return rows(plan, ids, fidelity=fidelity, fidelity_note=note)

    add(ledger, 0, kept([0, 1], "coefficients"), kept([2], "lossless"), kept([3], "identical"))
    add(ledger, 0, rows(plan, [4], status="failed", error_code="image.corrupt"))
    add(ledger, 1, kept([5], "reencoded", "lossy WebP, quality 80 (as it was)"))
    add(ledger, 1, kept([6], "reencoded", "lossy WebP, quality 75 (the recipe's)"))
    note = "palette expanded to RGB; converted from png to jpeg, quality 9"
    add(ledger, 1, kept([7], "reencoded", note))
    add(ledger, 1, kept([8], "reencoded"), kept([9], "lossless"))
    tally = reconcile(plan, ledger, RetryPolicy(FIRST), range(2))
    assert tally.by_fidelity == {"coefficients": 2, "lossless": 2, "identical": 1, "reencoded": 4}
    assert tally.reencoded_reasons == {
        "lossy WebP": 2,
        "palette expanded to RGB; converted from png to jpeg": 1,
        "no reason recorded": 1,
    }
    assert fidelity_lines(tally.by_fidelity, tally.reencoded_reasons) == [
        "kept outside the masks: all JPEG coefficients 2, every sample 2",
        "re-encoded, which changes every pixel slightly: 4 (lossy WebP 2; "
        "no reason recorded 1; palette expanded to RGB; converted from png to jpeg 1)",
        "unchanged, because their masks are empty: 1",
    ]


@pytest.mark.parametrize("id_", ["1", "shoes/1", "sku/images/front/1", "masks/r-1/1.v2"])
@pytest.mark.parametrize("column", ["output_uri", "detected_uri"])
def test_results_are_found_below_the_folder_that_holds_the_lineage(
    ledger: Ledger, plan: Plan, id_: str, column: str
) -> None:
    folder = {"output_uri": "images", "detected_uri": "masks"}[column]
    below = f"{folder}/r-1/{id_}.png"
    for output in (f"/elsewhere/{folder}/r-1", "s3://bucket/out", plan.output):
        (row,) = rows(plan, [1])
        ledger.add(0, [row | {"id": id_, column: f"{output}/{below}"}], lineage_schema())
        assert ledger.latest(0, [column])[column].to_pylist() == [f"{plan.output}/{below}"]
        ledger.compact(0)
        (kept,) = (Path(plan.output) / "lineage").rglob("*.parquet")
        assert pq.read_table(kept)[column][0].as_py() == f"{output}/{below}", "as recorded"
        kept.unlink()


@pytest.mark.parametrize("uri", [None, "/a/b.jpg", "/out/images/r-1/12.jpg", "/out/images/2.jpg"])
def test_what_is_no_result_of_the_row_stays(ledger: Ledger, plan: Plan, uri: str | None) -> None:
    add(ledger, 0, rows(plan, [2], output_uri=uri))
    assert ledger.latest(0, ["output_uri"])["output_uri"].to_pylist() == [uri]
