"""Output folders as a run leaves them, made in this process, without Ray; and their pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

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


def clean_here(
    manifest: Path | str,
    output: Path | str,
    recipe: Recipe,
    *,
    rows_per_shard: int | None = None,
) -> RunSpec:
    """Clean a manifest's photos in this process, as a run leaves them.

    Planner, steps and recorder are those of a run; ``ray/test_same_result.py`` proves that a run's
    bytes equal those made in one process.
    """
    plan = make_plan(
        str(manifest),
        str(output),
        unmarked="detect" if recipe.detect else "fail",
        rows_per_shard=rows_per_shard,
    )
    content = {"recipe": recipe.model_dump(mode="json"), "recipe_hash": recipe.hash}
    record = runs.claim(str(output), content)
    extra = extra_schema(plan.shard_file(0).read_table().schema)
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
    outcomes: Callable[[pa.Table], dict[str, Any]],
    *,
    rows_per_shard: int | None = None,
) -> Plan:
    """Leave the lineage of a run that never was, shard by shard, by columns: of many rows, soon.

    Args:
        outcomes: columns of the lineage, given a shard's rows; those left out are null.
    """
    plan = make_plan(str(manifest), str(output), rows_per_shard=rows_per_shard)
    content = {"recipe": recipe.model_dump(mode="json"), "recipe_hash": recipe.hash}
    run = runs.claim(str(output), content)
    for shard in range(plan.shards):
        rows = plan.shard_file(shard).read_table()
        usual = {"status": ["ok"] * rows.num_rows, "run_id": [run.run_id] * rows.num_rows}
        theirs = {
            name: rows[name] for name in rows.column_names if name not in ("error", "error_code")
        }
        columns = theirs | usual | outcomes(rows)
        for field in lineage_schema():
            columns.setdefault(field.name, pa.nulls(rows.num_rows, field.type))
        folder = Path(output) / "lineage" / f"recipe={recipe.hash}" / shard_name(shard)
        folder.mkdir(parents=True)
        pq.write_table(pa.table(columns), folder / "rows.parquet")
    run.write(status="finished", seconds=50.0)
    runs.release(run)
    return plan


def write_page(output: Path | str, **options: Any) -> Path:
    """Write a report in silence."""
    return Path(write_report(str(output), Console(quiet=True), **options))


def page_data(page: Path, name: str) -> Any:
    """The last value that a script of a report's data hands to the page."""
    text = (page.parent / "data" / f"{name}.js").read_text("utf-8")
    values = json.loads(f"[{text.partition('(')[2].rpartition(')')[0]}]")
    return values[-1]
