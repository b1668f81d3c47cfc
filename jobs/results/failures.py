"""Writes a manifest of the rows that failed, to repair and run again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import to_json

from jobs.results.recipe_results import RecipeResults, results_by_recipe
from manifests.errors import OutputError
from manifests.planning.marks import Marks, is_unmarked
from manifests.schema import CRASHED, FAILED
from manifests.storage.path import StoragePath, storing

#: Why the row failed: an object of some lineage columns. One column of a name that the lineage does
#: not have, so that the manifest's next failures replace it.
FAILURE = "failure"
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
    results = results_by_recipe(output)[-1]
    shards = range(results.plan.shards)
    return store_rows(path, (row for shard in shards for row in _failed(results, shard)))


def store_rows(path: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Store rows as JSON Lines, one in memory at a time; returns their number.

    Raises:
        OutputError: ``output.not_writable``.
    """
    count = 0
    try:
        target = StoragePath.of(path)
    except ValueError as error:
        raise OutputError("output.not_writable", f"{error}.") from None
    with storing(path), tempfile.NamedTemporaryFile() as file:
        for count, row in enumerate(rows, 1):  # noqa: B007 - the last one is their number
            file.write(f"{as_json(row)}\n".encode())
        file.flush()
        target.upload(Path(file.name))
    return count


def _failed(results: RecipeResults, shard: int) -> Iterator[dict[str, Any]]:
    columns = ["id", "image_uri", "mask_uri", "marks", *results.extra, *_REASONS]
    rows = results.ledger.latest(shard, columns)
    ended_badly = pc.is_in(rows["status"], value_set=pa.array([FAILED, CRASHED]))
    for row in rows.filter(ended_badly).to_pylist(maps_as_pydicts="strict"):
        reasons = {name: row[name] for name in _REASONS}
        yield manifest_row(row, results.extra) | {FAILURE: reasons}


def as_json(value: Any) -> str:
    """Format a manifest's row, or cell, as one line of standard JSON.

    Dates, times and decimals become text, bytes URL-safe Base64, NaN and infinity null.
    """
    return to_json(value, inf_nan_mode="null", bytes_mode="base64").decode()


def manifest_row(row: Mapping[str, Any], extra: Iterable[str]) -> dict[str, Any]:
    """Convert a lineage row to a manifest row, with absolute URIs and extra columns.

    The mask of a row without mask files is null: an empty list would mark nothing, as intended. So
    a row whose shapes were removed by hand is not taken for one that marks nothing.
    """
    shapes = Marks.unpack(row["mask_uri"], row["marks"]).shapes
    columns = {"id": row["id"], "image": row["image_uri"], "mask": own_masks(row)}
    return columns | shapes | {name: row[name] for name in extra}


def own_masks(row: Mapping[str, Any]) -> list[str] | None:
    """The mask files of a lineage row, empty if it marks nothing; None: shapes, or no marks."""
    marks = Marks.unpack(row["mask_uri"], row["marks"])
    has_none = marks.shapes or is_unmarked(row["mask_uri"], row["marks"])
    return marks.files or (None if has_none else [])
