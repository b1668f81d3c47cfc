"""A manifest of the rows that failed, to be mended and run again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.pending import extra_schema
from manifests.errors import DestinationError
from manifests.files import Place
from manifests.ledger import Ledger
from manifests.marks import Marks
from manifests.plan import load_plan
from manifests.runs import latest_by_recipe
from manifests.schema import CRASHED, FAILED

#: What is told of each row beside the manifest's own columns.
_TOLD = ["status", "error_code", "error", "error_stage"]


def write_failures(output: str, path: str) -> int:
    """Write a manifest of the rows that failed or crashed with the recipe that ran last.

    As JSON Lines, which keep types and are no spreadsheet's: a cell that looks like a formula stays
    text. Shard by shard, so that there may be any number.

    Args:
        output: path or URI of a run's results.
        path: of the manifest, ``….jsonl``; a path or URI.

    Returns:
        How many rows there are.

    Raises:
        DestinationError: ``output.not_found``, or ``output.not_writable``.
    """
    plan = load_plan(Place.of(output).uri)
    runs = latest_by_recipe(plan.output) if plan else {}
    if plan is None or not runs:
        raise DestinationError("output.not_found", f"There is no run at {output}.")
    if not path.endswith(".jsonl"):
        raise DestinationError("output.not_writable", f"{path} does not end in .jsonl.")
    ledger = Ledger(plan.output, list(runs)[-1])
    extra = extra_schema(plan.shard(0).read_table().schema).names
    count = 0
    try:
        with Place.of(path).open_output() as file:
            for shard in range(plan.shards):
                for row in _failed(ledger, shard, extra):
                    file.write(f"{json.dumps(row, default=str)}\n".encode())
                    count += 1
    except OSError as error:
        raise DestinationError("output.not_writable", f"Cannot store {path}: {error}.") from error
    return count


def _failed(ledger: Ledger, shard: int, extra: list[str]) -> Iterator[dict[str, Any]]:
    columns = ["id", "image_uri", "mask_uri", "marks", *_TOLD, *extra]
    rows = ledger.latest(shard, columns)
    ended_badly = pc.is_in(rows["status"], value_set=pa.array([FAILED, CRASHED]))
    for row in rows.filter(ended_badly).to_pylist(maps_as_pydicts="strict"):
        marks = Marks.unpack(row["mask_uri"], row["marks"])
        yield (
            {"id": row["id"], "image": row["image_uri"], "mask": marks.files}
            | marks.shapes
            | {name: row[name] for name in [*extra, *_TOLD]}
        )
