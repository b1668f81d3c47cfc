"""A manifest of the rows that failed, to be mended and run again."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.results.recipe_runs import RecipeRun, recipe_runs
from manifests.errors import OutputError
from manifests.planning.marks import Marks
from manifests.schema import CRASHED, FAILED
from manifests.storage.place import Place

#: Written of each row behind the manifest's own columns.
_REASONS = ["status", "error_code", "error", "error_stage"]


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
        OutputError: ``output.not_found``, or ``output.not_writable``.
    """
    run = recipe_runs(output)[-1]
    if not path.endswith(".jsonl"):
        raise OutputError("output.not_writable", f"{path} does not end in .jsonl.")
    count = 0
    try:
        with Place.of(path).open_output() as file:
            for shard in range(run.plan.shards):
                for row in _failed(run, shard):
                    file.write(f"{as_json(row)}\n".encode())
                    count += 1
    except OSError as error:
        raise OutputError("output.not_writable", f"Cannot store {path}: {error}.") from error
    return count


def _failed(run: RecipeRun, shard: int) -> Iterator[dict[str, Any]]:
    further = [*run.extra, *_REASONS]
    rows = run.ledger.latest(shard, ["id", "image_uri", "mask_uri", "marks", *further])
    ended_badly = pc.is_in(rows["status"], value_set=pa.array([FAILED, CRASHED]))
    for row in rows.filter(ended_badly).to_pylist(maps_as_pydicts="strict"):
        yield manifest_row(row, further)


def as_json(value: Any) -> str:
    """A manifest's row, or cell, as one line of JSON, which every parser of JSON reads.

    Dates, times and decimals become text, bytes become Base64, and what is no number becomes null.
    """
    return json.dumps(_finite(value), default=_for_json, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """The value with null for each NaN and infinity in it, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


def _for_json(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def manifest_row(row: Mapping[str, Any], further: Iterable[str]) -> dict[str, Any]:
    """A lineage row as a manifest's, with absolute URIs, and further columns behind them."""
    marks = Marks.unpack(row["mask_uri"], row["marks"])
    ours = {"id": row["id"], "image": row["image_uri"], "mask": marks.files}
    return ours | marks.shapes | {name: row[name] for name in further}
