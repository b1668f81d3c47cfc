"""Writes a manifest of what a run detected, to look at, correct and clean by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs.results.failures import as_json, manifest_row, own_masks
from jobs.results.recipe_runs import RecipeRun, recipe_runs
from manifests.schema import OK
from manifests.storage.place import Place

_COLUMNS = ["id", "image_uri", "mask_uri", "marks", "status", "detections", "detected_uri"]


@dataclass(slots=True)
class Detected:
    """What a manifest of detections has.

    Attributes:
        path: of the manifest.
        rows: number of its photos.
        removed: photos in which something is to be removed.
        kept: photos in which something was found, but nothing is to be removed.
        failed: photos that could not be searched.
    """

    path: str
    rows: int = 0
    removed: int = 0
    kept: int = 0
    failed: int = 0


def write_detected(output: str) -> Detected:
    """Write ``<output>/detected.jsonl``: the manifest's rows, with masks of what was detected.

    Photos in which nothing was found have an empty list of masks, so that they are passed on
    unchanged. Those that failed keep what they had. Shards are written one by one, so that memory
    does not grow with the number of rows.

    Args:
        output: path or URI of a run whose most recent recipe detects.

    Raises:
        OutputError: ``output.not_found``, or ``output.not_writable``.
    """
    run = recipe_runs(output)[-1]
    place = Place.of(output) / "detected.jsonl"
    found = Detected(place.uri)
    with place.open_output() as file:
        for shard in range(run.plan.shards):
            for row in _rows(run, shard):
                _count(row, found)
                file.write(f"{as_json(detected_row(row, run.extra))}\n".encode())
    return found


def _rows(run: RecipeRun, shard: int) -> Iterator[dict[str, Any]]:
    rows = run.ledger.latest(shard, [*_COLUMNS, *run.extra])
    yield from rows.to_pylist(maps_as_pydicts="strict")


def detected_row(row: dict[str, Any], extra: list[str]) -> dict[str, Any]:
    """Convert a lineage row to a manifest row that is marked by what was detected."""
    return manifest_row(row, extra) | {"mask": masks_of(row)}


def masks_of(row: dict[str, Any]) -> list[str] | None:
    """The mask files of a row and of what was detected in it; None: it is still to be searched."""
    own = own_masks(row)
    if row["status"] != OK:
        return own
    return [*(own or []), *filter(None, [row["detected_uri"]])]


def _count(row: dict[str, Any], found: Detected) -> None:
    found.rows += 1
    found.failed += row["status"] != OK
    found.removed += row["detected_uri"] is not None
    found.kept += bool(row["detections"]) and row["detected_uri"] is None
