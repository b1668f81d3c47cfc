"""Output folders to look at, made without Ray, and the browser that looks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from selenium import webdriver

from jobs.pipeline.pending import extra_schema, photos_of, read_pending
from jobs.pipeline.recorder import Recorder
from jobs.pipeline.spec import RunSpec
from jobs.report.write import write_report
from manifests import runs
from manifests.ledger import RetryPolicy
from manifests.planning.plan import Plan, make_plan, shard_name
from manifests.schema import lineage_schema
from stages.pipeline import Pipeline, steps
from stages.recipe import Recipe


def clean_here(manifest: Path | str, output: Path | str, recipe: Recipe) -> RunSpec:
    """Clean a manifest's photos in this process, as a run leaves them."""
    plan = make_plan(str(manifest), str(output), unmarked="detect" if recipe.detect else "fail")
    facts = {"recipe": recipe.model_dump(mode="json"), "recipe_hash": recipe.hash}
    record = runs.claim(str(output), facts)
    extra = extra_schema(plan.shard(0).read_table().schema)
    job = RunSpec(plan, extra, recipe, RetryPolicy(record.run_id), steps)
    pipeline = Pipeline.of(recipe, str(output))
    recorder = Recorder(job)
    for shard in range(plan.shards):
        for photo in photos_of(job, read_pending(job, shard)):
            pipeline.run(photo)
            recorder.add(photo)
    recorder.record()
    record.write(status="finished", seconds=2.5)
    runs.release(record)
    return job


def record(
    manifest: Path | str,
    output: Path | str,
    recipe: Recipe,
    tell: Callable[[pa.Table], dict[str, Any]],
) -> Plan:
    """Leave the lineage of a run that never was, shard by shard, by columns: of many rows, soon.

    Args:
        tell: columns of the lineage, given a shard's rows; those left out are null.
    """
    plan = make_plan(str(manifest), str(output))
    facts = {"recipe": recipe.model_dump(mode="json"), "recipe_hash": recipe.hash}
    run = runs.claim(str(output), facts)
    for shard in range(plan.shards):
        rows = plan.shard(shard).read_table()
        usual = {"status": ["ok"] * rows.num_rows, "run_id": [run.run_id] * rows.num_rows}
        theirs = {
            name: rows[name] for name in rows.column_names if name not in ("error", "error_code")
        }
        told = theirs | usual | tell(rows)
        for field in lineage_schema():
            told.setdefault(field.name, pa.nulls(rows.num_rows, field.type))
        folder = Path(output) / "lineage" / f"recipe={recipe.hash}" / shard_name(shard)
        folder.mkdir(parents=True)
        pq.write_table(pa.table(told), folder / "rows.parquet")
    run.write(status="finished", seconds=50.0)
    runs.release(run)
    return plan


def write_page(output: Path | str, **options: Any) -> Path:
    """Write a report in silence."""
    return Path(write_report(str(output), Console(quiet=True), **options))


def told(page: Path, name: str) -> Any:
    """The last value that a script of a report's data hands to the page."""
    text = (page.parent / "data" / f"{name}.js").read_text("utf-8")
    values = json.loads(f"[{text.partition('(')[2].rpartition(')')[0]}]")
    return values[-1]


@contextmanager
def chromium(downloads: Path) -> Iterator[webdriver.Chrome]:
    """A real browser, which logs what it asks for."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert program, "install chromium and chromedriver (Debian: chromium chromium-driver)"
    assert driver, "install chromedriver (Debian: chromium-driver)"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as browser:
        browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
        )
        browser.set_window_size(1280, 900)
        yield browser
