"""How near to linear the DAG grows with its model actors; Linux only.

The models are stand-ins that sleep for as long as a GPU would work, so that one machine can hold
many actors. What is left of the photos' work is small, but real: Ray, the DAG, its blocks, the
storage and the lineage are those of every run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from cluster.pools import PoolSize
from jobs.bench.catalog import make_catalog
from jobs.bench.processes import Usage, watched
from jobs.estimate.seconds import defaults
from jobs.run import run
from stages.recipe import Recipe
from tests.support.sleeping_models import SleepingModels, Times, read_traces

#: Of each photo: next to nothing beside a sleep.
_MEGAPIXELS = 0.006
_ROWS_PER_SHARD = 4

#: For all pools together there are as many CPUs as the machine has, of which sleepers take few.
_SLEEPERS_CPUS = 0.5

_MANY = 1000


@dataclass(frozen=True, slots=True)
class Scale:
    """One number of actors.

    Attributes:
        actors: that sleep.
        photos: cleaned.
        ramp_seconds: from the start of the run until all actors were at work.
        steady_seconds: from then until the first one had no more to do.
        busy: share of its time that an actor slept, meanwhile; 1 at best, with which it is linear.
        photos_a_second: meanwhile.
        driver_cores: that the driver and Ray's control took meanwhile.
        driver_cores_of_many: that they would take with 1,000 actors: what the first number took,
            and what each photo a second more took more. None for the first number.
    """

    actors: int
    photos: int
    ramp_seconds: float
    steady_seconds: float
    busy: float
    photos_a_second: float
    driver_cores: float
    driver_cores_of_many: float | None = None


def documented_seconds() -> float:
    """How long the recipe ``clean`` has its refiner work on a crop of a megapixel, one attempt.

    By the published figure for an H100, not compiled, that ``estimate`` counts with.
    """
    options = Recipe.load("clean").refiner
    assert options
    known = defaults()["steps"][f"refine.{options.method}"]
    return known.patch_mp + options.steps * (known.step + known.step_mp)


def measure(actors: Sequence[int], seconds: float, photos_each: int) -> Iterator[Scale]:
    """Run the DAG with each number of actors, so many photos for each of them."""
    first: Scale | None = None
    for count in actors:
        with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as name:
            scale = _measure(Path(name), count, seconds, count * photos_each)
        if first and count > first.actors:
            scale = replace(scale, driver_cores_of_many=_with_many(first, scale, seconds))
        first = first or scale
        yield scale


def _with_many(first: Scale, scale: Scale, seconds: float) -> float:
    more = scale.photos_a_second - first.photos_a_second
    slope = (scale.driver_cores - first.driver_cores) / more
    return first.driver_cores + slope * (_MANY / seconds - first.photos_a_second)


def _measure(folder: Path, actors: int, seconds: float, photos: int) -> Scale:
    catalog, log = make_catalog(folder / "catalog", photos, _MEGAPIXELS), folder / "log"
    log.mkdir()
    pools = {
        "cpu": PoolSize(1, 1, cpus=0.25),
        "small_gpu": PoolSize(1, 1, cpus=0.25),
        "large_gpu": PoolSize(actors, actors, cpus=_SLEEPERS_CPUS / actors),
    }
    started = time.time()
    with watched() as usage:
        outcome = run(
            str(catalog.manifest),
            str(folder / "out"),
            Recipe.load("telea"),
            Console(quiet=True),
            address="local",
            pools=pools,
            steps=SleepingModels(0, seconds, log),
            rows_per_shard=_ROWS_PER_SHARD,
        )
    if outcome.exit_code:
        raise RuntimeError(f"The run ended with {outcome.exit_code}: {outcome.tally}")
    return _scale(actors, photos, started, read_traces(log), usage)


def _scale(
    actors: int,
    photos: int,
    started: float,
    slept: Sequence[Times],
    usage: dict[str, Usage],
) -> Scale:
    """What the notes of all actors tell, each of rows (began, ended)."""
    ramp, end = max(each[0, 0] for each in slept), min(each[-1, 1] for each in slept)
    steady = end - ramp
    overlaps = [np.clip(each[:, 1], ramp, end) - np.clip(each[:, 0], ramp, end) for each in slept]
    busy = sum(each.sum() for each in overlaps) / (actors * steady)
    rate = sum(((each[:, 1] > ramp) & (each[:, 1] <= end)).sum() for each in slept) / steady
    cores = sum(usage[kind].cpu_between(ramp, end) for kind in ("driver", "gcs")) / steady
    return Scale(
        actors,
        photos,
        float(ramp - started),
        float(steady),
        float(busy),
        float(rate),
        float(cores),
    )
