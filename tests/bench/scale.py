"""What the DAG costs beside its steps, and how near to linear it grows with its model actors.

First the same photos are cleaned by the steps alone, in a plain process for each core, then by the
DAG in one pool, then in three pools whose models take no time. Efficiency is the seconds of the
steps alone over those of the DAG; 1 at best.

Then a model that sleeps for as long as a GPU would work runs in more and more actors. What is left
of the photos' work is small, but real: Ray, the DAG, its blocks, storage and lineage are those of
every run. Linux only; takes minutes.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from rich.console import Console

from cluster.pools import PoolSize
from jobs.estimate.seconds import defaults
from jobs.run import run
from stages.pipeline import steps as steps_of
from stages.recipe import Recipe
from stages.steps.base import Step
from tests.bench.catalog import make_catalog
from tests.bench.common import Figures, lineage_of, options_of, peak_mib
from tests.bench.pool_loop import clean_one, make_steps, rows_of
from tests.support.models.sleeping_models import SleepingModels, read_traces

if TYPE_CHECKING:
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

_LOOK_EVERY_S = 0.25
_CORES = os.cpu_count() or 1

#: The steps alone clean one photo in so many, before and after the DAG.
_SAMPLE = 8

#: For all sleepers together, which take few CPUs; and their photos, which are next to nothing.
_SLEEPERS_CPUS, _SLEEPERS_MEGAPIXELS = 0.5, 0.006

_MANY = 1000


@dataclass(slots=True)
class Watched:
    """A run's processes: by kind and id the CPU seconds so far and the most MiB; and its blocks.

    ``looks`` are times, in s since the epoch, and what the driver and Ray's control had taken.
    """

    cpu_s: dict[tuple[str, int], float] = field(default_factory=dict)
    mib: dict[tuple[str, int], float] = field(default_factory=dict)
    looks: list[tuple[float, float]] = field(default_factory=list)
    block_bytes: int = 0

    def look(self, own: psutil.Process) -> None:
        for process in (own, *own.children(recursive=True)):
            with suppress(psutil.Error, OSError, ValueError):  # it has ended
                # Ray's workers set their title, not the name of their program.
                title = " ".join(process.cmdline()) or process.name()
                names = ("ray::", "gcs_server")
                kind = next((name for name in names if name in title.split(" ")[0]), "others")
                key = ("driver" if process == own else kind, process.pid)
                times = process.cpu_times()
                self.cpu_s[key] = times.user + times.system
                self.mib[key] = peak_mib(process.pid)
        heads = (s for (kind, _), s in self.cpu_s.items() if kind in ("driver", "gcs_server"))
        self.looks.append((time.time(), sum(heads)))

    def peak(self, kind: str) -> float:
        return max(mib for (each, _), mib in self.mib.items() if each == kind)

    def head_cores(self, begin: float, end: float) -> float:
        """CPUs that the driver and Ray's control took between two times, about."""
        times, taken = zip(*self.looks, strict=True)
        seconds = np.interp(end, times, taken) - np.interp(begin, times, taken)
        return float(seconds / (end - begin))


@contextmanager
def watched() -> Iterator[Watched]:
    """Watch this process, its descendants, and what goes through Ray's object store."""
    # Not at the top: the processes of the steps alone load this module, too.
    from ray.data import DataContext
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    found, ended, own = Watched(), threading.Event(), psutil.Process()

    class Count(ExecutionCallback):
        def after_execution_succeeds(self, executor: StreamingExecutor) -> None:
            for operator in executor._topology or ():
                made: Any = operator.metrics
                found.block_bytes += made.bytes_task_outputs_generated

    def keep_looking() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            found.look(own)

    context, thread = DataContext.get_current(), threading.Thread(target=keep_looking)
    kept = list(context.custom_execution_callback_classes)
    context.custom_execution_callback_classes = [*kept, Count]
    found.look(own)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        found.look(own)
        context.custom_execution_callback_classes = kept


def _run(
    manifest: Path,
    output: Path,
    recipe: Recipe,
    pools: Mapping[str, PoolSize] | None,
    steps: Callable[[Recipe, str], Sequence[Step]],
    rows_per_shard: int | None = None,
) -> Watched:
    with watched() as found:
        outcome = run(
            str(manifest), str(output), recipe, Console(quiet=True), address="local",
            pools=pools, steps=steps, rows_per_shard=rows_per_shard,
        )  # fmt: skip
    if outcome.exit_code:
        raise RuntimeError(f"The run ended with {outcome.exit_code}: {outcome.tally}")
    return found


def efficiency(recipe: Recipe, photos: int, megapixels: float, figures: Figures) -> None:
    """Clean photos of 1 to ``megapixels`` in each way."""
    with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as name:
        folder, sample = Path(name), max(1, photos // _SAMPLE)
        manifest = make_catalog(folder / "catalog", photos, megapixels).manifest
        before = _alone(manifest, recipe, sample)
        one = _by_dag(manifest, recipe, folder / "one", None, steps_of)
        alone = (before["seconds"] + _alone(manifest, recipe, sample)["seconds"]) / (2 * sample)
        # Steps form four groups in three pools: the first and the last ones both run on CPUs.
        share = PoolSize(_CORES, _CORES, cpus=1 / 4)
        pools = dict.fromkeys(("cpu", "small_gpu", "large_gpu"), share)
        three = _by_dag(manifest, recipe, folder / "three", pools, SleepingModels(0, 0))
    figures.add(way="steps alone", photos=sample, **before)
    for way, found in (("one pool", one), ("three pools", three)):
        ratio = alone * photos / found["seconds"]
        per_photo = found.pop("block_bytes") / photos
        figures.add(way=way, photos=photos, efficiency=ratio, bytes_a_photo=per_photo, **found)


def _by_dag(
    manifest: Path,
    recipe: Recipe,
    output: Path,
    pools: Mapping[str, PoolSize] | None,
    steps: Callable[[Recipe, str], Sequence[Step]],
) -> dict[str, float]:
    started = time.time()
    found = _run(manifest, output, recipe, pools, steps)
    ended, rows = time.time(), lineage_of(output)
    last = max(row["finished_at"].timestamp() for row in rows)
    first = min(row["finished_at"].timestamp() - sum(dict(row["seconds"]).values()) for row in rows)
    return {
        "seconds": last - first,
        "cpu_s": sum(found.cpu_s.values()),
        "start_s": first - started,
        "end_s": ended - last,
        "actor_mib": found.peak("ray::"),
        "driver_mib": found.peak("driver"),
        "block_bytes": found.block_bytes,
    }


def _alone(manifest: Path, recipe: Recipe, photos: int) -> dict[str, float]:
    """Clean the first photos with the steps alone, spread over a process for each core."""
    rows = rows_of(manifest)[:photos]
    parts = [rows[part::_CORES] for part in range(_CORES)]
    with tempfile.TemporaryDirectory(dir=manifest.parent) as output:
        work, context = [(output, recipe, part) for part in parts], get_context("spawn")
        with context.Pool(_CORES, _share, (context.Barrier(_CORES),)) as pool:
            found = pool.starmap(_clean_part, work, chunksize=1)
    seconds, cpu_s, mib = zip(*found, strict=True)
    return {"seconds": sum(seconds) / _CORES, "cpu_s": sum(cpu_s), "actor_mib": max(mib)}


_together: list[Barrier] = []


def _share(barrier: Barrier) -> None:
    _together.append(barrier)


def _clean_part(
    output: str, recipe: Recipe, rows: Sequence[tuple[str, str, str]]
) -> tuple[float, float, float]:
    """Clean rows at the same time as the other processes, one part in each."""
    make_steps(output, recipe)
    _together[-1].wait()
    started, cpu_before = time.perf_counter(), time.process_time()
    for row in rows:
        if problem := clean_one(row):
            raise RuntimeError(problem)
    return time.perf_counter() - started, time.process_time() - cpu_before, peak_mib()


def documented_seconds() -> float:
    """How long the recipe ``clean`` has its refiner work on a crop of a megapixel, one attempt.

    By the published figure for an H100, not compiled, that ``estimate`` counts with.
    """
    options = Recipe.load("clean").refiner
    assert options
    known = defaults()["steps"][f"refine.{options.method}"]
    return (
        known.per_photo + options.steps * known.per_step
    ) / 1.024**2  # the figures are for 1024 px


def sleepers(actors: int, seconds: float, photos: int) -> dict[str, float]:
    """Run the DAG with a number of actors that sleep for each photo.

    Returns:
        ``ramp_s`` until all were at work, ``steady_s`` from then until the first had no more to do;
        meanwhile ``busy``, the share of its time that an actor slept (1: linear), photos a second,
        and the cores of driver and Ray's control.
    """
    with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as name:
        folder, log = Path(name), Path(name, "log")
        log.mkdir()
        manifest = make_catalog(folder / "catalog", photos, _SLEEPERS_MEGAPIXELS).manifest
        small = PoolSize(2, 2, cpus=0.2)  # a single one sends 40 photos/s at most
        large = PoolSize(actors, actors, cpus=_SLEEPERS_CPUS / actors)
        pools = {"cpu": small, "small_gpu": small, "large_gpu": large}
        started, recipe = time.time(), Recipe.load("telea")
        usage = _run(manifest, folder / "out", recipe, pools, SleepingModels(0, seconds, log), 4)
        slept = read_traces(log)
    ramp, end = max(each[0, 0] for each in slept), min(each[-1, 1] for each in slept)
    steady = end - ramp
    overlaps = [np.clip(each[:, 1], ramp, end) - np.clip(each[:, 0], ramp, end) for each in slept]
    done = sum(((each[:, 1] > ramp) & (each[:, 1] <= end)).sum() for each in slept)
    return {
        "ramp_s": float(ramp - started),
        "steady_s": float(steady),
        "busy": float(sum(each.sum() for each in overlaps) / (actors * steady)),
        "photos_a_second": float(done / steady),
        "head_cores": usage.head_cores(ramp, end),
    }


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--photos", type=int, default=2000, help="for the DAG's cost; 0: skip it")
    parser.add_argument("--megapixels", type=float, default=4.0, help="of the largest of them")
    parser.add_argument("--recipe", default="telea")
    parser.add_argument("--actors", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=documented_seconds(), help="of sleep")
    parser.add_argument("--each", type=int, default=24, help="photos for each actor")
    given = parser.parse_args()
    figures = Figures(given.out, seconds=given.seconds)
    if given.photos:
        efficiency(Recipe.load(given.recipe), given.photos, given.megapixels, figures)
    first: dict[str, float] = {}
    for actors in given.actors:
        found = sleepers(actors, given.seconds, actors * given.each)
        if first:  # what 1,000 would take: as much more as each photo a second more took so far
            more = found["photos_a_second"] - first["photos_a_second"]
            slope = (found["head_cores"] - first["head_cores"]) / more
            photos = _MANY / given.seconds - first["photos_a_second"]
            found["head_cores_of_1000"] = first["head_cores"] + slope * photos
        first = first or found
        figures.add(actors=actors, photos=actors * given.each, **found)


if __name__ == "__main__":
    main()
