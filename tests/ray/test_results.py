"""What is asked of an output folder: how it stands, what failed, what is done again; no secrets."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from jobs.cli.results import EXIT_UNCHECKED, show_status, show_verdicts
from jobs.report.write import write_report
from jobs.results.failures import write_failures
from jobs.results.status import as_json
from jobs.results.verify import verify
from jobs.run import run
from manifests.errors import OutputError
from manifests.planning.plan import load_plan, make_plan
from manifests.runs import claim
from stages.recipe import Recipe
from tests.conftest import Run
from tests.support import DEMO, last_run
from tests.support.files.catalog import BAD_ROWS, make_catalog
from tests.support.output_folders import clean_here
from tests.support.s3_server import SECRET_KEY

TELEA = Recipe.load("telea")


@pytest.fixture(scope="module")
def results(on_ray: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos that are done, and ten that failed, in three shards."""
    folder = tmp_path_factory.mktemp("results")
    catalog = make_catalog(folder, good=3, least_mp=0.2, most_mp=0.3)
    on_ray(catalog.manifest, folder / "out", rows_per_shard=5)
    return folder / "out"


def told(output: Path, *, by_shard: bool) -> str:
    console = Console(width=100, file=io.StringIO())
    show_status(console, str(output), by_shard=by_shard)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_status_tells_how_a_folder_stands(results: Path) -> None:
    text = told(results, by_shard=True)
    assert f"recipe telea ({TELEA.hash}), run 000001-" in text
    assert ": finished" in text
    assert re.search(r"all +13 +3 +10 +0 +0", text)
    assert [f"0000{n}" in text for n in range(4)] == [True, True, True, False]
    assert all(re.search(rf" 1  {code} \(e\.g\. .+\): ", text) for code in BAD_ROWS)


def test_status_of_a_run_at_work_tells_its_pace(results: Path) -> None:
    running = claim(str(results), last_run(results))
    running.beat(rows_per_s=2.5)
    lost = next((results / "lineage").glob("*/shard=00001/*"))
    lost.rename(results / "lost")
    try:
        text = told(results, by_shard=False)
        assert f"run {running.run_id}: running" in text
        assert re.search(r"all +13 +\d+ +\d+ +0 +5", text)
        assert "2.5 photos/s, 0:00:02 left" in text
        (standing,) = json.loads(as_json(str(results)))
        assert (standing["is_running"], standing["seconds_left"]) == (True, 2.0)
        assert standing["shards"]["1"]["remaining"] == standing["all"]["remaining"] == 5
    finally:
        (results / "lost").rename(lost)
        running.write(status="refused")


def test_what_failed_is_a_manifest(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.jsonl"
    assert write_failures(str(results), str(path)) == 10
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["failure"]["error_code"] for row in rows} == set(BAD_ROWS)
    assert all(row["failure"]["error"] and "sku" in row for row in rows)
    clean_here(path, tmp_path / "out", TELEA)
    again = pd.read_parquet(tmp_path / "out" / "lineage")
    assert sorted(again.error_code) == sorted(BAD_ROWS)
    before = [json.loads(each)["error_code"] for each in again.failure]
    assert set(before) == set(BAD_ROWS), "why it failed before is passed on"
    plan = load_plan(str(tmp_path / "out"))
    assert plan
    assert "is called" not in " ".join(plan.notes)
    write_failures(str(tmp_path / "out"), str(path))
    assert [set(json.loads(line)) for line in path.read_text().splitlines()] == [set(rows[0])] * 10


def test_a_folder_that_was_moved_is_read_where_it_is(on_ray: Run, tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, good=3, least_mp=0.1, most_mp=0.2)
    moved = tmp_path / "archive" / "moved"
    clean_here(catalog.manifest, tmp_path / "out", TELEA)
    moved.parent.mkdir()
    (tmp_path / "out").rename(moved)
    verdicts = list(verify(str(moved)))
    assert [each.problem or each.unchecked_reason for each in verdicts] == [""] * 3
    page = Path(write_report(str(moved), Console(quiet=True)))
    details = (page.parent / "data" / "details-0000.js").read_text()
    assert details.count('"shown":["before","after"]') == 3
    assert str(tmp_path / "out") not in details.replace(str(moved), "")
    assert re.search(r"all +13 +3 +10 +0 +0", told(moved, by_shard=False))
    assert write_failures(str(moved), str(tmp_path / "again.jsonl")) == 10
    stored = {path: path.stat().st_mtime_ns for path in (moved / "images").rglob("*.*")}
    again = on_ray(catalog.manifest, moved)
    assert (again.tally.ok, again.tally.failed_count) == (3, 10)
    assert stored == {path: path.stat().st_mtime_ns for path in (moved / "images").rglob("*.*")}
    (tmp_path / "in").rename(tmp_path / "archive" / "in")
    assert {each.unchecked_reason for each in verify(str(moved))} == {
        "the source or its mask cannot be read"
    }
    assert show_verdicts(Console(quiet=True), str(moved)) == EXIT_UNCHECKED


def test_what_was_kept_is_told(results: Path) -> None:
    text = " ".join(told(results, by_shard=False).split())
    assert "kept outside the masks: all JPEG coefficients 2, every sample 1" in text
    (standing,) = json.loads(as_json(str(results)))
    assert standing["all"]["kept"] == {"coefficients": 2, "lossless": 1}
    assert last_run(results)["tally"]["kept"] == {"coefficients": 2, "lossless": 1}


def test_without_a_run_there_is_nothing_to_tell(tmp_path: Path) -> None:
    for ask in (lambda: as_json(str(tmp_path)), lambda: write_failures(str(tmp_path), "x.jsonl")):
        with pytest.raises(OutputError) as caught:
            ask()
        assert caught.value.code == "output.not_found"


def test_of_a_folder_that_is_only_planned_there_is_nothing_to_tell(tmp_path: Path) -> None:
    make_plan(str(DEMO / "manifest.csv"), str(tmp_path))
    for ask in (as_json, lambda out: write_failures(out, "x.jsonl"), lambda out: [*verify(out)]):
        with pytest.raises(OutputError, match="There is no run") as caught:
            ask(str(tmp_path))
        assert caught.value.code == "output.not_found"


def test_a_part_of_the_shards_is_a_run_of_its_own(
    on_ray: Run, small_demo: str, tmp_path: Path
) -> None:
    part = on_ray(small_demo, tmp_path, rows_per_shard=2, shards="1-2")
    assert (part.exit_code, part.tally.rows, part.tally.ok) == (0, 4, 4)
    rest = on_ray(small_demo, tmp_path, shards="0,3")
    assert (rest.tally.rows, rest.tally.ok) == (4, 4)
    done = on_ray(small_demo, tmp_path)
    assert (done.tally.rows, done.tally.ok) == (8, 8)
    assert pd.read_parquet(tmp_path / "lineage").id.is_unique


def test_photos_whose_files_changed_are_done_again(on_ray: Run, tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, good=3, least_mp=0.2, most_mp=0.3)
    out = tmp_path / "out"
    clean_here(catalog.manifest, out, TELEA)
    before = pd.read_parquet(out / "lineage").set_index("id")
    changed = tmp_path / "in" / "photo-001.jpg"
    changed.write_bytes((tmp_path / "in" / "photo-002.jpg").read_bytes())
    (tmp_path / "in" / "photo-001-mask.png").write_bytes(
        (tmp_path / "in" / "photo-002-mask.png").read_bytes()
    )
    (tmp_path / "in" / "photo-000.png").unlink()
    unseen = on_ray(catalog.manifest, out, check_inputs=False)
    assert unseen.tally.ok == 3
    assert (pd.read_parquet(out / "lineage").run_id == before.run_id.iloc[0]).all()
    seen = on_ray(catalog.manifest, out)
    after = pd.read_parquet(out / "lineage").set_index("id")
    assert after.index.is_unique
    assert (seen.tally.ok, seen.tally.failed_count) == (3, 10), "what is gone has not changed"
    assert set(after.index[after.run_id != before.run_id.iloc[0]]) == {"photo-001"}
    assert after.output_sha256["photo-001"] == after.output_sha256["photo-002"]


def test_no_secret_is_ever_told(ray_address: str, s3: str, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    signed = "https://user:hunter2@shop.example/a.jpg?X-Amz-Signature=cafe1234&token=tok-5678"
    manifest.write_text(f"id,image,mask\n1,{s3}/none.jpg,{s3}/none.png\n2,{signed},{s3}/a.png\n")
    shown = io.StringIO()
    console = Console(width=200, file=shown)
    outcome = run(str(manifest), str(tmp_path / "out"), TELEA, console, address=ray_address)
    assert outcome.tally.failed == {"image.not_found": 1, "image.unknown_scheme": 1}
    rows = pd.read_parquet(tmp_path / "out" / "lineage")
    records = [path.read_text() for path in (tmp_path / "out" / "runs").rglob("*.json")]
    all_told = [shown.getvalue(), *rows.error, *records]
    for secret in (SECRET_KEY, os.environ["RAY_AUTH_TOKEN"], "hunter2", "cafe1234", "tok-5678"):
        assert not [text for text in all_told if secret in text]
    stored = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert stored
    assert not [path for path in stored if SECRET_KEY.encode() in path.read_bytes()]
