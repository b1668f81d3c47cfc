"""What it costs to know how a run stands: time and memory, each size in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.bench.plan import write_manifest
from jobs.bench.processes import peak_mib
from manifests.files import Place
from manifests.ledger import Goal, Ledger, reconcile
from manifests.plan import Plan, load_plan, make_plan, shard_name
from manifests.schema import FAILED, OK, lineage_schema

_RECIPE_HASH = "0123456789abcdef"

#: Of a hundred rows so many are done, and so many failed; the others remain.
_DONE, _FAILED = 97, 2


@dataclass(frozen=True, slots=True)
class ResumeCost:
    """One output folder.

    Attributes:
        rows: planned.
        shards: that hold them.
        seconds: to find which rows are done, failed and left, on a local disk.
        cpu_seconds: of all cores.
        peak_mib: the most memory that the process held, the interpreter's included.
        remaining: rows found to be left.
    """

    rows: int
    shards: int
    seconds: float
    cpu_seconds: float
    peak_mib: float
    remaining: int


def measure(sizes: Sequence[int]) -> Iterator[ResumeCost]:
    """Reconcile a plan of each size with a lineage that lacks one row in a hundred."""
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as folder:
            manifest, output = Path(folder) / "planned.parquet", Path(folder) / "out"
            write_manifest(manifest, rows, with_boxes=False)
            plan = make_plan(str(manifest), str(output))
            _write_lineage(plan)
            done = subprocess.run(
                [sys.executable, "-m", "jobs.bench.resume", output],
                stdout=subprocess.PIPE,
                check=True,
            )
            yield ResumeCost(plan.rows, plan.shards, **json.loads(done.stdout))


def _write_lineage(plan: Plan) -> None:
    folder = Place.of(plan.output) / "lineage" / f"recipe={_RECIPE_HASH}"
    before = 0
    for shard in range(plan.shards):
        planned = plan.shard(shard).read_table()
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


def _reconcile_and_tell(output: str) -> None:
    started = time.monotonic()
    plan = load_plan(output)
    assert plan
    tally = reconcile(plan, Ledger(output, _RECIPE_HASH), Goal("000002-abcdef"), range(plan.shards))
    facts = {
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time(),
        "peak_mib": peak_mib(),
        "remaining": tally.missing_count,
    }
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    _reconcile_and_tell(*sys.argv[1:])
