"""Writes a manifest of what a run detected, to look at, correct and clean by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs.results.failures import manifest_row, own_masks, store_rows
from jobs.results.recipe_results import RecipeResults, results_by_recipe
from manifests.schema import OK
from manifests.storage.path import StoragePath

_COLUMNS = ["id", "image_uri", "mask_uri", "marks", "status", "detections", "detected_uri"]


@dataclass(slots=True)
class DetectionCounts:
    """Counts of the photos in a manifest of detections.

    Attributes:
        path: of the manifest.
        rows: number of its photos.
        to_remove: photos in which something is to be removed.
        kept_only: photos in which something was found, but nothing is to be removed.
        failed: photos that could not be searched.
    """

    path: str
    rows: int = 0
    to_remove: int = 0
    kept_only: int = 0
    failed: int = 0


def write_detected(output: str) -> DetectionCounts:
    """Write ``<output>/detected.jsonl``: the manifest's rows, with masks of what was detected.

    Photos in which nothing was found have an empty list of masks, so that they are passed on
    unchanged. Those that failed keep what they had. Shards are written one by one, so that memory
    does not grow with the number of rows.

    Args:
        output: path or URI of a run whose most recent recipe detects.

    Raises:
        OutputError: ``output.not_found``, or ``output.not_writable``.
    """
    results = results_by_recipe(output)[-1]
    counts = DetectionCounts((StoragePath.of(output) / "detected.jsonl").uri)
    store_rows(counts.path, _rows(results, counts))
    return counts


def _rows(results: RecipeResults, counts: DetectionCounts) -> Iterator[dict[str, Any]]:
    """Yield the manifest's rows, and count them."""
    for shard in range(results.plan.shards):
        rows = results.ledger.latest(shard, [*_COLUMNS, *results.extra])
        for row in rows.to_pylist(maps_as_pydicts="strict"):
            _count(row, counts)
            yield manifest_row(row, results.extra) | {"mask": masks_of(row)}


def masks_of(row: dict[str, Any]) -> list[str] | None:
    """The mask files of a row and of what was detected in it; None: it is still to be searched."""
    own = own_masks(row)
    if row["status"] != OK:
        return own
    return [*(own or []), *filter(None, [row["detected_uri"]])]


def _count(row: dict[str, Any], counts: DetectionCounts) -> None:
    counts.rows += 1
    counts.failed += row["status"] != OK
    counts.to_remove += row["detected_uri"] is not None
    counts.kept_only += bool(row["detections"]) and row["detected_uri"] is None
