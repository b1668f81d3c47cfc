"""Our steps under a ``multiprocessing.Pool``: what the DAG would cost without Ray, and lack.

``python -m tests.bench.pool_loop MANIFEST RESULTS WORKERS RECIPE [OVERRIDE...]``: nothing is
recorded, nothing can be resumed, and a photo that kills its worker ends all of it.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import sys
from pathlib import Path

import cv2

from manifests.schema import LineageRow
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.recipe import Recipe

_made: list[Pipeline] = []


def rows_of(manifest: Path) -> list[tuple[str, str, str]]:
    """``(id, image, mask)`` of each row."""
    with manifest.open(newline="", encoding="utf-8") as file:
        return [(row["id"], row["image"], row["mask"]) for row in csv.DictReader(file)]


def make_steps(results: str, recipe: Recipe) -> None:
    """Make this process ready for :func:`clean_one`."""
    cv2.setNumThreads(1)
    _made.append(Pipeline.of(recipe, results).load())


def clean_one(row: tuple[str, str, str]) -> str | None:
    """Take a photo through the steps; returns what went wrong."""
    name, image, mask = row
    photo = Photo(LineageRow(id=name, image_uri=image, mask_uri=mask))
    _made[-1].run(photo)
    return photo.lineage.error


if __name__ == "__main__":
    manifest, results, workers, recipe, *overrides = sys.argv[1:]
    # Each with as many threads as an actor has: Ray tells OpenMP of the actor's one CPU.
    os.environ["OMP_NUM_THREADS"] = "1"
    options = (results, Recipe.load(recipe, overrides))
    with multiprocessing.Pool(int(workers), make_steps, options) as pool:
        for problem in pool.imap_unordered(clean_one, rows_of(Path(manifest))):
            if problem:
                sys.exit(problem)
