"""Actor seconds per photo and step, from a pilot run's lineage or from defaults."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from jobs.pipeline.actor import PREFETCH_PHOTOS
from jobs.pipeline.spec import grouped
from jobs.results.recipe_runs import recipe_runs
from manifests.errors import ClusterError, OutputError
from stages.pixels.windows import plan_crops, refined_size, window_of, working_size
from stages.recipe import Recipe
from stages.steps.base import Step

#: The assumed photo: aspect ratio 4:3, with a centred square mask of this share.
_MASKED_SHARE, _ASPECT = 0.03, 4 / 3

#: Max number of rows of a pilot run to read; more would hardly change the mean.
_MAX_PILOT_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One entry of ``defaults.toml``.

    Attributes:
        kind: ``measured``, ``published``, ``calculated`` or ``assumed``.
        source: where it comes from.
        value: the number, unless it is a step's.
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
    """The measurements of a pilot run.

    Attributes:
        recipe: the recipe that was run.
        rows: number of lineage rows, including failed ones.
        seconds: step -> mean seconds per row; a row that failed before a step adds 0.
        megapixels: mean size of its photos.
    """

    recipe: Recipe
    rows: int
    seconds: Mapping[str, float]
    megapixels: float

    @classmethod
    def read(cls, output: str) -> Pilot:
        """Read the lineage of the most recent recipe of an output folder.

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
        rows: number of rows of the manifest.
        megapixels: of each photo; assumed, unless a pilot run measured them.
        pilot: a pilot run; None: all seconds are defaults.
    """

    rows: int
    megapixels: float
    pilot: Pilot | None = None


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step, its mean actor seconds per row, and whether it waits for storage in threads."""

    name: str
    seconds: float
    is_io: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Steps that run in one actor of a pool."""

    pool: str
    steps: Sequence[StepTime]

    @property
    def seconds(self) -> float:
        """Mean seconds for which an actor is busy with a photo."""
        computing = sum(step.seconds for step in self.steps if not step.is_io)
        waiting = sum(step.seconds for step in self.steps if step.is_io)
        return max(computing, waiting / PREFETCH_PHOTOS)

    @property
    def slowest(self) -> StepTime:
        """The step that takes longest."""
        return max(
            self.steps, key=lambda step: step.seconds / (PREFETCH_PHOTOS if step.is_io else 1)
        )


def parts_of(
    steps: Sequence[Step], recipe: Recipe, catalog: Catalog, *, has_gpus: bool
) -> list[Part]:
    """The parts of a job, as a run groups its steps, with the seconds of each step.

    Raises:
        ClusterError: ``cluster.no_figure``: neither the pilot run nor the defaults have a step.
    """
    groups = grouped(steps, has_gpus=has_gpus)
    hop_s = defaults()["run"]["transport_s"].value
    parts = []
    for index, (pool, group) in enumerate(groups):
        times = [_time(step, recipe, catalog, has_gpus=has_gpus) for step in group]
        ends = (index > 0) + (index < len(groups) - 1)
        if ends:  # one side of a hop packs, the other unpacks
            times.append(StepTime("transport", hop_s * ends / 2))
        parts.append(Part(pool, times))
    return parts


def _time(step: Step, recipe: Recipe, catalog: Catalog, *, has_gpus: bool) -> StepTime:
    pilot = catalog.pilot
    if pilot is None or step.name not in pilot.seconds:
        seconds = _default(step.name, recipe, catalog.megapixels, has_gpus=has_gpus)
        return StepTime(step.name, seconds, step.is_io)
    seconds = pilot.seconds[step.name]
    if recipe != pilot.recipe:  # other options than the pilot's: scale like the defaults
        before = _default(step.name, pilot.recipe, catalog.megapixels, has_gpus=has_gpus)
        after = _default(step.name, recipe, catalog.megapixels, has_gpus=has_gpus)
        seconds *= after / before
    return StepTime(step.name, seconds, step.is_io)


def _figure_name(step: str, recipe: Recipe, *, has_gpus: bool) -> str:
    """``refine`` -> ``refine.flux-fill.compile``: method and switches matter."""
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


def _default(step: str, recipe: Recipe, megapixels: float, *, has_gpus: bool) -> float:
    """Seconds of a step for the assumed photo, by the defaults."""
    name = _figure_name(step, recipe, has_gpus=has_gpus)
    known, run, options = defaults()["steps"], defaults()["run"], recipe.refiner
    if name not in known:
        raise ClusterError("cluster.no_figure", f"There is no default for the seconds of {name}.")
    if step != "refine" or options is None:
        return _seconds(known[name], step, recipe, megapixels)
    seconds = _seconds(known[name], step, recipe, megapixels, options.steps)
    if recipe.judge:
        seconds += _seconds(known["judge"], step, recipe, megapixels)
        retry_share = run["retry_share"].value
        seconds *= sum(retry_share**attempt for attempt in range(recipe.judge.attempts))
    if options.when == "auto":
        seconds *= 1 - run["smooth_share"].value
    return seconds


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
