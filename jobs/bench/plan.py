"""What planning a manifest costs: time and memory, each size in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from jobs.bench.processes import peak_mib
from manifests.plan import make_plan

#: The formats that are measured; with boxes, each row has two.
KINDS = ("csv", "jsonl", "parquet", "csv+boxes", "jsonl+boxes", "parquet+boxes")

#: So many rows of the manifest are made at a time.
_ROWS_AT_A_TIME = 100_000


@dataclass(frozen=True, slots=True)
class PlanCost:
    """One manifest.

    Attributes:
        kind: one of :data:`KINDS`.
        rows: in it.
        megabytes: its size.
        seconds: from the call until the plan is stored, on a local disk.
        cpu_seconds: of all cores; what ``seconds`` is on a busy machine says little.
        peak_mib: the most memory that the process held, the interpreter's included.
        shards: that were stored.
        rejected: ids found unusable.
    """

    kind: str
    rows: int
    megabytes: float
    seconds: float
    cpu_seconds: float
    peak_mib: float
    shards: int
    rejected: int


def measure(kinds: Sequence[str], sizes: Sequence[int]) -> Iterator[PlanCost]:
    """Plan a manifest of each kind and size, in which one id in 100,000 is used again."""
    for kind in kinds:
        for rows in sizes:
            with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as folder:
                suffix, _, boxes = kind.partition("+")
                manifest = Path(folder) / f"manifest.{suffix}"
                write_manifest(manifest, rows, with_boxes=bool(boxes))
                done = subprocess.run(
                    [sys.executable, "-m", "jobs.bench.plan", manifest, Path(folder) / "out"],
                    stdout=subprocess.PIPE,
                    check=True,
                )
                size = manifest.stat().st_size / 1e6
                yield PlanCost(kind, rows, size, **json.loads(done.stdout))


def write_manifest(path: Path, rows: int, *, with_boxes: bool) -> None:
    """Write a manifest in the format of its suffix, with two boxes a row if asked for."""
    starts = range(0, rows, _ROWS_AT_A_TIME)
    tables = (_rows(i, min(i + _ROWS_AT_A_TIME, rows), with_boxes=with_boxes) for i in starts)
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


def _plan_and_tell(manifest: str, output: str) -> None:
    started = time.monotonic()
    plan = make_plan(manifest, output)
    facts = {
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time(),
        "peak_mib": peak_mib(),
        "shards": plan.shards,
        "rejected": sum(plan.rejected.values()),
    }
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    _plan_and_tell(*sys.argv[1:])
