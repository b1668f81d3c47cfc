"""Our steps under a ``multiprocessing.Pool``: what the DAG would cost without Ray, and lack.

``python -m jobs.bench.pool_loop MANIFEST RESULTS WORKERS RECIPE [OVERRIDE...]``: nothing is
recorded, nothing can be resumed, and a photo that kills its worker ends all of it.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from jobs.clean import steps
from manifests.schema import LineageRow
from stages.photo import Photo
from stages.recipe import Recipe
from stages.step import Together, Work, run_steps

_made: list[tuple[str, Work | Together]] = []


def clean(
    manifest: Path, results: Path, workers: int, recipe: str, overrides: Sequence[str]
) -> None:
    """Clean the photos of a manifest of ``id``, ``image`` and ``mask``, both absolute paths."""
    with manifest.open(newline="", encoding="utf-8") as file:
        photos = [(row["id"], row["image"], row["mask"]) for row in csv.DictReader(file)]
    # Each with as many threads as an actor has: Ray tells OpenMP of the actor's one CPU.
    os.environ["OMP_NUM_THREADS"] = "1"
    options = (str(results), recipe, overrides)
    with multiprocessing.Pool(workers, _start, options) as pool:
        for problem in pool.imap_unordered(_clean_one, photos):
            if problem:
                raise SystemExit(problem)


def _start(results: str, recipe: str, overrides: Sequence[str]) -> None:
    cv2.setNumThreads(1)
    made = steps(Recipe.load(recipe, overrides), results)
    _made.extend((step.name, step.make()) for step in made)


def _clean_one(row: tuple[str, str, str]) -> str | None:
    name, image, mask = row
    photo = Photo(LineageRow(id=name, image_uri=image, mask_uri=mask))
    run_steps([photo], _made)
    return photo.lineage.error


if __name__ == "__main__":
    clean(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
