"""Seconds of an actor for each photo and step: from a pilot run's lineage, or from defaults."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from jobs.pipeline.spec import grouped
from jobs.results.recipe_runs import recipe_runs
from manifests.errors import ClusterError, OutputError
from stages.pixels.windows import plan_crops, refined_size, window_of, working_size
from stages.recipe import Recipe
from stages.steps.base import Step

#: A photo that nobody has looked at: a square mask of this share in the middle of 4:3.
_MASKED_SHARE, _ASPECT = 0.03, 4 / 3

#: Threads of the steps that wait for storage (``jobs/pipeline/actor.py``).
_IO_THREADS = 8

#: Rows of a pilot run that are read; more would not change their mean by much.
_MAX_PILOT_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One entry of ``defaults.toml``, or what a pilot run measured.

    Attributes:
        kind: ``measured``, ``published``, ``calculated``, ``assumed``, or ``pilot``.
        source: where it comes from.
        value: the number, where it is one.
        photo, mp, patch, patch_mp, step, step_mp: terms of a step's seconds; see the file.
    """

    kind: str
    source: str
    value: float = 0.0
    photo: float = 0.0
    mp: float = 0.0
    patch: float = 0.0
    patch_mp: float = 0.0
    step: float = 0.0
    step_mp: float = 0.0


@cache
def defaults() -> Mapping[str, Mapping[str, Figure]]:
    """Section -> name -> figure."""
    table = tomllib.loads((resources.files("jobs.estimate") / "defaults.toml").read_text("utf-8"))
    return {
        section: {name: Figure(**figure) for name, figure in figures.items()}
        for section, figures in table.items()
    }


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a run of some of the catalog's photos recorded.

    Attributes:
        recipe: that it ran.
        rows: of its lineage, failed ones included.
        seconds: step -> mean seconds of these rows; a row that failed before a step adds 0.
        megapixels: of its photos, on average.
    """

    recipe: Recipe
    rows: int
    seconds: Mapping[str, float]
    megapixels: float

    @classmethod
    def read(cls, output: str) -> Pilot:
        """Read the lineage of the recipe that ran last in an output folder.

        Raises:
            OutputError: ``output.not_found``: there is no run, or it recorded no row.
        """
        run = recipe_runs(output)[-1]
        total, rows, pixels, measured = Counter[str](), 0, 0, 0
        for shard in range(run.plan.shards):
            table = run.ledger.latest(shard, ("id", "seconds", "width", "height"))
            for row in table.to_pylist(maps_as_pydicts="strict"):
                total.update(row["seconds"] or {})
                rows += 1
                if row["width"]:
                    pixels, measured = pixels + row["width"] * row["height"], measured + 1
            if rows >= _MAX_PILOT_ROWS:
                break
        if not rows:
            raise OutputError("output.not_found", f"The run at {output} recorded no row yet.")
        means = {name: seconds / rows for name, seconds in total.items()}
        return cls(run.recipe, rows, means, pixels / measured / 1e6 if measured else 0.0)


@dataclass(frozen=True, slots=True)
class Catalog:
    """The photos to clean.

    Attributes:
        rows: of the manifest.
        megapixels: of each photo; assumed, unless a pilot run measured them.
        pilot: a run of some of them; None: all figures are defaults.
    """

    rows: int
    megapixels: float
    pilot: Pilot | None = None


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step, its mean seconds of an actor for a row, where that is from, and whether it waits for
    storage beside computing.
    """

    name: str
    seconds: float
    figures: Mapping[str, Figure]
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Steps that run in one actor of a pool."""

    pool: str
    steps: Sequence[StepTime]

    @property
    def seconds(self) -> float:
        """An actor is busy with a photo for this long, on average."""
        computing = sum(step.seconds for step in self.steps if not step.waits)
        waiting = sum(step.seconds for step in self.steps if step.waits)
        return max(computing, waiting / _IO_THREADS)

    @property
    def slowest(self) -> StepTime:
        """The step that takes most of it."""
        return max(self.steps, key=lambda step: step.seconds / (_IO_THREADS if step.waits else 1))


def parts_of(
    steps: Sequence[Step], recipe: Recipe, catalog: Catalog, *, has_gpus: bool
) -> list[Part]:
    """The parts of a job, as a run groups its steps, with the seconds of each step.

    Raises:
        ClusterError: ``cluster.no_figure``: neither a pilot run nor the defaults know a step.
    """
    groups = grouped(steps, has_gpus=has_gpus)
    hop = defaults()["run"]["transport_s"]
    parts = []
    for index, (pool, group) in enumerate(groups):
        times = [_time(step, recipe, catalog, has_gpus=has_gpus) for step in group]
        ends = (index > 0) + (index < len(groups) - 1)
        if ends:  # a hop is packed on one side and unpacked on the other
            times.append(StepTime("transport", hop.value * ends / 2, {"run.transport_s": hop}))
        parts.append(Part(pool, times))
    return parts


def _time(step: Step, recipe: Recipe, catalog: Catalog, *, has_gpus: bool) -> StepTime:
    pilot = catalog.pilot
    if pilot is None or step.name not in pilot.seconds:
        figures, seconds = _default(step.name, recipe, catalog.megapixels, has_gpus=has_gpus)
        return StepTime(step.name, seconds, figures, step.is_io)
    seconds = pilot.seconds[step.name]
    if recipe != pilot.recipe:  # other options than the pilot's: scaled as the defaults say
        _, before = _default(step.name, pilot.recipe, catalog.megapixels, has_gpus=has_gpus)
        _, after = _default(step.name, recipe, catalog.megapixels, has_gpus=has_gpus)
        seconds *= after / before
    figure = Figure("pilot", f"{pilot.rows:,} rows of the pilot run", seconds)
    return StepTime(step.name, seconds, {f"steps.{step.name}": figure}, step.is_io)


def _figure_name(step: str, recipe: Recipe, *, has_gpus: bool) -> str:
    """``refine`` -> ``refine.flux-fill.compile``: method and switches change a step's seconds."""
    cpu = "" if has_gpus else ".cpu"
    if step == "remove" and recipe.remove:
        return f"remove.{recipe.remove.method}{'' if recipe.remove.pool == 'cpu' else cpu}"
    if step == "upscale":
        return f"upscale.{recipe.upscale.method if recipe.upscale else 'lanczos'}"
    options = recipe.refiner
    if step == "refine" and options:
        switches = [f".{name}" for name in ("compile", "fp8") if getattr(options, name, False)]
        return f"refine.{options.method}{''.join(switches)}{cpu}"
    return step


def _default(
    step: str, recipe: Recipe, megapixels: float, *, has_gpus: bool
) -> tuple[dict[str, Figure], float]:
    """Figures and seconds of a step for the assumed photo."""
    name = _figure_name(step, recipe, has_gpus=has_gpus)
    known, run = defaults()["steps"], defaults()["run"]
    if name not in known:
        raise ClusterError("cluster.no_figure", f"Nothing is known of the seconds of {name}.")
    figures, options = {f"steps.{name}": known[name]}, recipe.refiner
    if step != "refine" or options is None:
        return figures, _seconds(known[name], step, recipe, megapixels)
    seconds = _seconds(known[name], step, recipe, megapixels, options.steps)
    if recipe.judge:
        figures["steps.judge"] = known["judge"]
        seconds += _seconds(known["judge"], step, recipe, megapixels)
    attempts = recipe.judge.attempts if recipe.judge else 1
    if attempts > 1:
        figures["run.retry_share"] = run["retry_share"]
        seconds *= sum(run["retry_share"].value ** attempt for attempt in range(attempts))
    if options.when == "auto":
        figures["run.smooth_share"] = run["smooth_share"]
        seconds *= 1 - run["smooth_share"].value
    return figures, seconds


def _seconds(figure: Figure, step: str, recipe: Recipe, megapixels: float, steps: int = 0) -> float:
    patches = [math.prod(size) / 1e6 for size in _patches(step, recipe, megapixels)]
    per_patch = figure.patch + steps * figure.step
    per_patch_mp = figure.patch_mp + steps * figure.step_mp
    once = figure.photo + figure.mp * megapixels
    return once + per_patch * len(patches) + per_patch_mp * sum(patches)


def _patches(step: str, recipe: Recipe, megapixels: float) -> list[tuple[int, int]]:
    """Width and height at which a step works on each patch of the assumed photo."""
    height = max(round(math.sqrt(megapixels * 1e6 / _ASPECT)), 1)
    width = max(round(height * _ASPECT), 1)
    mask = np.zeros((height, width), np.bool_)
    half = max(round(math.sqrt(_MASKED_SHARE * mask.size) / 2), 1)
    mask[height // 2 - half : height // 2 + half, width // 2 - half : width // 2 + half] = True
    plans = plan_crops(mask, recipe)
    if step in ("refine", "upscale") and recipe.refiner:
        sizes = [(plan.crop, refined_size(plan.crop, recipe.refiner.size_px)) for plan in plans]
        if step == "refine":
            return [size for _, size in sizes]
        return [(crop.width, crop.height) for crop, size in sizes if size[0] > crop.width]
    windows = [window_of(plan, recipe, width, height) for plan in plans]
    return [working_size(recipe, each.width, each.height) for each in windows]
