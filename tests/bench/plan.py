"""What planning a manifest costs, and finding what an interrupted run has left; Linux only.

Each is measured in a process of its own, on a local disk: seconds, CPU seconds of all cores, and
the most memory that the process held, the interpreter's included. One id in 100,000 is used twice;
the lineage that is resumed lacks one row in a hundred, and two failed.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from cluster.session import ray_session
from jobs.pipeline.spec import RunSpec
from jobs.pipeline.units import pending_units
from manifests.ledger import Ledger, RetryPolicy, reconcile
from manifests.planning.plan import Plan, choose_rows_per_shard, load_plan, make_plan, shard_name
from manifests.runs import RunRecord
from manifests.schema import FAILED, OK, lineage_schema
from manifests.storage.path import StoragePath
from stages.pipeline import steps
from stages.recipe import Recipe
from tests.bench.common import Figures, options_of, peak_mib

#: Manifests to plan, with two boxes a row if so named; or a plan (of Parquet) to resume.
#: Or how long the driver takes to hand out the rows of a new run.
KINDS = ("csv", "jsonl", "parquet", "csv+boxes", "jsonl+boxes", "parquet+boxes", "resume", "units")

_ROWS_PER_BATCH = 100_000
_RECIPE_HASH = "0123456789abcdef"
_DONE, _FAILED = 97, 2  # of a hundred rows

#: That read photos, beside 200 small GPUs.
_WORKERS = 800


def write_manifest(path: Path, rows: int, *, with_boxes: bool) -> None:
    """In the format of its suffix."""
    starts = range(0, rows, _ROWS_PER_BATCH)
    tables = (_rows(i, min(i + _ROWS_PER_BATCH, rows), with_boxes=with_boxes) for i in starts)
    with path.open("wb") as file:
        if path.suffix == ".parquet":
            with pq.ParquetWriter(file, _rows(0, 0, with_boxes=with_boxes).schema) as writer:
                for table in tables:
                    writer.write_table(table)
            return
        for number, table in enumerate(tables):
            if path.suffix == ".jsonl":
                file.writelines(json.dumps(row).encode() + b"\n" for row in table.to_pylist())
            else:
                pacsv.write_csv(table, file, pacsv.WriteOptions(include_header=not number))


def _rows(start: int, stop: int, *, with_boxes: bool) -> pa.Table:
    """Rows as a shop has them: article, photo, mask, title, price, and what more is marked."""
    numbers = np.arange(start, stop)
    articles = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), 9, "0")

    def text(before: str, behind: str) -> pa.Array:
        return pc.binary_join_element_wise(before, articles, behind, "")

    again = pa.array(numbers % 100_000 == 99_999)
    columns = {
        "id": pc.if_else(again, "000000000-front", text("", "-front")),
        "image": text("photos/2026/", "-front.jpg"),
        "mask": text("masks/2026/", "-front.png"),
        "title": text("Bowl, stoneware, ", ""),
        "price": pa.array(numbers % 10_000 / 100),
    }
    if with_boxes:
        columns["boxes"] = pa.array([f"[[40,30,200,80],[7,8,9,{n}]]" for n in numbers], pa.string())
    return pa.table(columns)


def _write_lineage(plan: Plan) -> None:
    folder = StoragePath.of(plan.output) / "lineage" / f"recipe={_RECIPE_HASH}"
    before = 0
    for shard in range(plan.shards):
        planned = plan.shard_file(shard).read_table()
        part = np.arange(before, before + planned.num_rows) % 100
        before += planned.num_rows
        rows = planned.filter(pa.array(part < _DONE + _FAILED))
        failed = part[part < _DONE + _FAILED] >= _DONE
        texts = {
            "status": np.where(failed, FAILED, OK),
            "error_code": np.where(failed, "image.truncated", ""),
            "recipe_hash": np.full(len(failed), _RECIPE_HASH),
            "run_id": np.full(len(failed), "000001-abcdef"),
            "image_sha256": np.full(len(failed), "0" * 64),
        }
        columns = {name: pa.array(values, pa.string()) for name, values in texts.items()}
        columns |= {name: rows[name] for name in ("id", "image_uri", "mask_uri", "marks")}
        columns["finished_at"] = pa.array([datetime.now(UTC)] * len(failed))
        columns["masked_px"] = pa.array(np.full(len(failed), 1000))
        missing = [field for field in lineage_schema() if field.name not in columns]
        columns |= {field.name: pa.nulls(len(failed), field.type) for field in missing}
        table = pa.table({name: columns[name] for name in lineage_schema().names})
        (folder / shard_name(shard) / "rows.parquet").write_table(table)


def plan(manifest: str, output: str) -> dict[str, int]:
    made = make_plan(manifest, output)
    return {"shards": made.shards, "rejected": sum(made.rejected.values())}


def resume(_: str, output: str) -> dict[str, int]:
    made = load_plan(output)
    assert made
    tally = reconcile(
        made, Ledger(output, _RECIPE_HASH), RetryPolicy("000002-abcdef"), range(made.shards)
    )
    return {"remaining": tally.pending_count}


def hand_out(rows: int) -> float:
    """Seconds in the driver until the source of a new run's units is built; files are not read."""
    size = choose_rows_per_shard(rows)
    made = Plan("/nowhere", "manifest.csv", "", "", rows, size, -(-rows // size))
    record, recipe = RunRecord(made.output, "000001-abcdef"), Recipe.load("lama")
    spec = RunSpec(made, pa.schema([]), recipe, RetryPolicy(record.run_id), steps)
    with ray_session("local"):
        started = time.monotonic()
        pending_units(spec, dict.fromkeys(range(made.shards), size), _WORKERS)
        return time.monotonic() - started


def _measured(
    work: Callable[[str, str], dict[str, int]], manifest: str, output: str
) -> dict[str, float]:
    started, cpu_before = time.monotonic(), time.process_time()
    facts = work(manifest, output)
    seconds = {"seconds": time.monotonic() - started, "cpu_s": time.process_time() - cpu_before}
    return seconds | {"peak_mib": peak_mib()} | facts


def measure(kind: str, rows: int, figures: Figures) -> None:
    if kind == "units":
        figures.add(kind=kind, rows=rows, seconds=hand_out(rows))
        return
    work = resume if kind == "resume" else plan
    with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as folder:
        suffix, _, boxes = kind.replace("resume", "parquet").partition("+")
        manifest, output = Path(folder) / f"manifest.{suffix}", Path(folder) / "out"
        write_manifest(manifest, rows, with_boxes=bool(boxes))
        if work is resume:
            _write_lineage(make_plan(str(manifest), str(output)))
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            found = process.submit(_measured, work, str(manifest), str(output)).result()
        megabytes = manifest.stat().st_size / 1e6
        figures.add(kind=kind, rows=rows, megabytes=megabytes, **found)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=["csv", "parquet", "resume"])
    given = parser.parse_args()
    figures = Figures(given.out)
    for kind in given.kind:
        for rows in given.rows:
            measure(kind, rows, figures)


if __name__ == "__main__":
    main()
