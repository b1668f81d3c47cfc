"""Writes a manifest of the rows that failed, to repair and run again."""

from __future__ import annotations

import base64
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.results.recipe_runs import RecipeResults, recipe_runs
from manifests.errors import OutputError
from manifests.planning.marks import Marks, is_unmarked
from manifests.schema import CRASHED, FAILED
from manifests.storage.place import Place, storing

#: Lineage columns that are written after the manifest's own.
_REASONS = ["status", "error_code", "error", "error_stage"]


def write_failures(output: str, path: str) -> int:
    """Write a manifest of the rows that failed or crashed with the most recent recipe.

    The format is JSON Lines, which keeps types; a cell that looks like a formula stays text. The
    shards are written one by one, so that memory does not grow with the number of rows.

    Args:
        output: path or URI of a run's results.
        path: path or URI of the manifest, ``….jsonl``.

    Returns:
        Number of rows.

    Raises:
        OutputError: ``output.not_found``, or ``output.not_writable``.
    """
    run = recipe_runs(output)[-1]
    if not path.endswith(".jsonl"):
        raise OutputError("output.not_writable", f"{path} does not end in .jsonl.")
    shards = range(run.plan.shards)
    return store_rows(path, (row for shard in shards for row in _failed(run, shard)))


def store_rows(path: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Store rows as JSON Lines, one in memory at a time; returns their number.

    Raises:
        OutputError: ``output.not_writable``.
    """
    count = 0
    try:
        place = Place.of(path)
    except ValueError as error:
        raise OutputError("output.not_writable", f"{error}.") from None
    with storing(path), tempfile.NamedTemporaryFile() as file:
        for count, row in enumerate(rows, 1):  # noqa: B007 - the last one is their number
            file.write(f"{as_json(row)}\n".encode())
        file.flush()
        place.upload(Path(file.name))
    return count


def _failed(run: RecipeResults, shard: int) -> Iterator[dict[str, Any]]:
    extra = [*run.extra, *_REASONS]
    rows = run.ledger.latest(shard, ["id", "image_uri", "mask_uri", "marks", *extra])
    ended_badly = pc.is_in(rows["status"], value_set=pa.array([FAILED, CRASHED]))
    for row in rows.filter(ended_badly).to_pylist(maps_as_pydicts="strict"):
        yield manifest_row(row, extra)


def as_json(value: Any) -> str:
    """Format a manifest's row, or cell, as one line of standard JSON.

    Dates, times and decimals become text, bytes become Base64, NaN and infinity become null.
    """
    return json.dumps(_finite(value), default=_for_json, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by null, since JSON does not support them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


def _for_json(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def manifest_row(row: Mapping[str, Any], extra: Iterable[str]) -> dict[str, Any]:
    """Convert a lineage row to a manifest row, with absolute URIs and extra columns.

    The mask of a row without marks is null: an empty list would mark nothing, as intended.
    """
    shapes = Marks.unpack(row["mask_uri"], row["marks"]).shapes
    columns = {"id": row["id"], "image": row["image_uri"], "mask": own_masks(row)}
    return columns | shapes | {name: row[name] for name in extra}


def own_masks(row: Mapping[str, Any]) -> list[str] | None:
    """The mask files of a lineage row, empty if it marks nothing; None: it has no marks."""
    if is_unmarked(row["mask_uri"], row["marks"]):
        return None
    return Marks.unpack(row["mask_uri"], row["marks"]).files
