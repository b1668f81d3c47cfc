"""What the DAG costs beside its steps: time, memory, and bytes between actors; Linux only.

The same photos are cleaned by the steps alone, in as many plain processes as there are cores, then
by the DAG in one pool, then by the DAG in three pools. The steps alone are the ceiling.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from cluster.pools import PoolSize
from jobs import clean
from jobs.bench.blocks import counted_blocks
from jobs.bench.catalog import make_catalog
from jobs.bench.pool_loop import clean_one, make_steps, rows_of
from jobs.bench.processes import peak_mib, watched
from jobs.run import Outcome, run
from manifests.files import Place
from stages.recipe import Recipe
from stages.step import Step
from tests.support.sleeping_models import SleepingModels

#: The steps alone clean one photo in so many, before and after the DAG.
_SAMPLE = 8

_POOLS = ("cpu", "small_gpu", "large_gpu")


@dataclass(frozen=True, slots=True)
class Efficiency:
    """One way to clean the photos.

    Attributes:
        way: ``steps alone``, ``one pool`` or ``three pools``.
        photos: cleaned.
        seconds: from when the first photo was begun until the last one had ended.
        cpu_seconds: of all processes, from start to end.
        actor_mib: the most that an actor held.
        start_seconds: until the first photo was begun.
        end_seconds: after the last one: lineage, and the end of Ray.
        bytes_a_photo: that went through Ray's object store.
        driver_mib: the most that the driver held.
        efficiency: seconds that the steps alone would take over ``seconds``; 1 at best.
    """

    way: str
    photos: int
    seconds: float
    cpu_seconds: float
    actor_mib: float
    start_seconds: float = 0.0
    end_seconds: float = 0.0
    bytes_a_photo: float = 0.0
    driver_mib: float = 0.0
    efficiency: float = 1.0

    def against(self, alone: float) -> Efficiency:
        """The same, with its efficiency, given the seconds of a photo by the steps alone."""
        return replace(self, efficiency=alone * self.photos / self.seconds)


def measure(recipe: Recipe, photos: int, megapixels: float) -> Iterator[Efficiency]:
    """Clean so many photos of 1 to ``megapixels`` in each way."""
    with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as name:
        folder = Path(name)
        manifest = make_catalog(folder / "catalog", photos, megapixels).manifest
        sample = max(1, photos // _SAMPLE)
        before = _alone(manifest, recipe, sample)
        one = _by_dag("one pool", manifest, recipe, folder / "one", pools=None, steps=clean.steps)
        after = _alone(manifest, recipe, sample)
        alone = (before.seconds + after.seconds) / (2 * sample)
        yield before.against(alone)
        yield one.against(alone)
        cores = os.cpu_count() or 1
        groups = 1 + len(_POOLS)  # of steps: the first and the last ones both run on CPUs
        pools = dict.fromkeys(_POOLS, PoolSize(cores, cores, cpus=1 / groups))
        three = _by_dag(
            "three pools",
            manifest,
            recipe,
            folder / "three",
            pools=pools,
            steps=SleepingModels(0, 0),
        )
        yield three.against(alone)


def _by_dag(
    way: str,
    manifest: Path,
    recipe: Recipe,
    output: Path,
    *,
    pools: Mapping[str, PoolSize] | None,
    steps: Callable[[Recipe, str], Sequence[Step]],
) -> Efficiency:
    started = time.time()
    with watched() as usage, counted_blocks() as blocks:
        outcome = run(
            str(manifest),
            str(output),
            recipe,
            Console(quiet=True),
            address="local",
            pools=pools,
            steps=steps,
        )
    ended = time.time()
    first, last = _span(outcome, output)
    return Efficiency(
        way,
        photos=outcome.tally.ok,
        start_seconds=first - started,
        seconds=last - first,
        end_seconds=ended - last,
        cpu_seconds=sum(each.all_cpu_seconds for each in usage.values()),
        actor_mib=usage["actors"].most_mib,
        driver_mib=usage["driver"].most_mib,
        bytes_a_photo=blocks.bytes / outcome.tally.ok,
    )


def _span(outcome: Outcome, output: Path) -> tuple[float, float]:
    """When the first photo was begun and the last one had ended, in s since the epoch."""
    if outcome.exit_code:
        raise RuntimeError(f"The run ended with {outcome.exit_code}: {outcome.tally}")
    ends, begins = [], []
    for file in Path(output, "lineage").rglob("*.parquet"):
        for row in Place.of(str(file)).read_table().to_pylist(maps_as_pydicts="strict"):
            ends.append(row["finished_at"])
            begins.append(row["finished_at"] - timedelta(seconds=sum(row["seconds"].values())))
    return min(begins).timestamp(), max(ends).timestamp()


def _alone(manifest: Path, recipe: Recipe, photos: int) -> Efficiency:
    """Clean the first photos with the steps alone, spread over a process for each core."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(dir=manifest.parent) as output:
        given = [str(manifest), output, recipe.model_dump_json(), str(photos), str(cores)]
        command = [sys.executable, "-m", "jobs.bench.efficiency", *given]
        children = [
            subprocess.Popen([*command, str(part)], stdout=subprocess.PIPE) for part in range(cores)
        ]
        told = [json.loads(child.communicate()[0]) for child in children]
    return Efficiency(
        "steps alone",
        photos=photos,
        seconds=sum(each["seconds"] for each in told) / cores,
        cpu_seconds=sum(each["cpu_seconds"] for each in told),
        actor_mib=max(each["peak_mib"] for each in told),
    )


def _clean_part(manifest: str, output: str, recipe_json: str, *numbers: str) -> None:
    photos, parts, part = map(int, numbers)
    make_steps(output, Recipe.model_validate_json(recipe_json))
    rows = rows_of(Path(manifest))[:photos][part::parts]
    started, cpu_before = time.perf_counter(), time.process_time()
    for row in rows:
        if problem := clean_one(row):
            raise RuntimeError(problem)
    facts = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_before,
        "peak_mib": peak_mib(),
    }
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    _clean_part(*sys.argv[1:])
