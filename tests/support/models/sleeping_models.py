"""The DAG with models that sleep: the same steps and pools, without GPUs or weights.

Instead of LaMa a quick fill paints, and each photo waits for as long as the models would take.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.device_lock import DEVICE_LOCK
from stages.photo import Photo
from stages.pipeline import steps
from stages.recipe import Recipe
from stages.steps.base import BatchFunction, PhotoFunction, Step

#: When each photo of an actor was begun, and when it was done, in s: shape (photos, 2).
Times = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SleepingModels:
    """Makes the steps of a recipe that fills without models, as a run's ``steps=``.

    Attributes:
        remove_s: that each photo takes on a small GPU.
        refine_s: that each photo takes on a large one.
        trace: a folder that all nodes share, in which each actor of the large GPUs keeps a file
            with a line for each photo: when it was begun and when it was done, in s of the wall
            clock. None: none is kept.
    """

    remove_s: float
    refine_s: float
    trace: Path | None = None

    def __call__(self, recipe: Recipe, output: str) -> Sequence[Step]:
        """As :func:`stages.pipeline.steps`; the fill is on small GPUs, a wait on large ones."""
        made = []
        for step in steps(recipe, output):
            if step.name != "remove":
                made.append(step)
                continue
            made.append(replace(step, pool="small_gpu", build=_slowed(step.build, self.remove_s)))
            made.append(Step("refine", "large_gpu", _waiting(self.refine_s, self.trace)))
        return made


def read_traces(folder: Path) -> list[Times]:
    """What actors of the large GPUs left in :attr:`SleepingModels.trace`, one entry for each."""
    return [
        np.array([json.loads(line) for line in file.read_text().splitlines()])
        for file in folder.glob("*.jsonl")
    ]


def _slowed(
    build: Callable[[], PhotoFunction | BatchFunction], seconds: float
) -> Callable[[], BatchFunction]:
    def built() -> BatchFunction:
        fill = build()
        assert isinstance(fill, BatchFunction), "the step `remove` takes photos together"

        def slowed(photos: Sequence[Photo]) -> None:
            fill.process(photos)
            with DEVICE_LOCK:
                time.sleep(seconds * len(photos))

        return BatchFunction(slowed)

    return built


def _waiting(seconds: float, trace: Path | None) -> Callable[[], PhotoFunction]:
    def made() -> PhotoFunction:
        file = trace / f"{os.getpid()}-{time.time_ns()}.jsonl" if trace else None

        def wait(_: Photo) -> None:
            with DEVICE_LOCK:
                began = time.time()
                time.sleep(seconds)
                ended = time.time()
            if file:
                with file.open("a") as lines:
                    lines.write(json.dumps([began, ended]) + "\n")

        return wait

    return made
