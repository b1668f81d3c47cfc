"""Actor seconds per photo and step, from a pilot run's lineage or from defaults."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import pyarrow as pa
import pyarrow.compute as pc

from jobs.pipeline.actor import PREFETCH_PHOTOS
from jobs.pipeline.spec import group_steps
from jobs.results.recipe_results import results_by_recipe
from manifests.errors import ClusterError, OutputError
from manifests.schema import CRASHED, FAILED, OK
from stages.recipe import Recipe
from stages.steps.base import Step

#: Max number of rows of a pilot run to read; more would hardly change the mean.
_MAX_PILOT_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One entry of ``defaults.toml``.

    Attributes:
        kind: ``measured``, ``published``, ``calculated`` or ``assumed``.
        source: where it comes from.
        value: the number, unless it is a step's.
        per_photo, per_megapixel, max_megapixels, per_step: terms of a step's seconds; see the file.
    """

    kind: str
    source: str
    value: float = 0.0
    per_photo: float = 0.0
    per_megapixel: float = 0.0
    max_megapixels: float = math.inf
    per_step: float = 0.0


@cache
def defaults() -> Mapping[str, Mapping[str, Figure]]:
    """Section -> name -> figure, of ``defaults.toml``."""
    table = tomllib.loads((resources.files("jobs.estimate") / "defaults.toml").read_text("utf-8"))
    return {
        section: {name: Figure(**figure) for name, figure in figures.items()}
        for section, figures in table.items()
    }


def default(section: str, name: str) -> float:
    """The value of a figure that is not a step's."""
    return defaults()[section][name].value


@dataclass(frozen=True, slots=True)
class Basis:
    """What the seconds of an estimate come from: a pilot run, or only the defaults.

    Attributes:
        recipe: the recipe of the pilot run, or else of the estimate.
        megapixels: mean size of the photos.
        rows: number of photos of the pilot run that are ok; 0: no pilot run.
        seconds: step -> their mean seconds; those of photos that a step was not needed for are 0.
        failed: number of further rows that were read. They do not count: once they are corrected,
            or in another manifest, their photos will take as long as the others.
        planned: number of ids of the pilot run's whole manifest.
        stamp: of that manifest, see :class:`manifests.planning.plan.Plan`.
    """

    recipe: Recipe
    megapixels: float
    rows: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    failed: int = 0
    planned: int = 0
    stamp: str = ""

    @classmethod
    def read(cls, output: str, megapixels: float) -> Basis:
        """Read the lineage of the most recent recipe of a pilot run's output folder.

        ``megapixels`` are assumed if it recorded no sizes.

        Raises:
            OutputError: ``output.not_found``: there is no run, or no photo is ok.
        """
        results = results_by_recipe(output)[-1]
        total, rows, failed, pixels, decoded = Counter[str](), 0, 0, 0, 0
        ended_badly = pa.array([FAILED, CRASHED])
        for shard in range(results.plan.shards):
            table = results.ledger.latest(shard, ("id", "status", "seconds", "width", "height"))
            ok = table.filter(pc.equal(table["status"], OK))
            for row in ok.to_pylist(maps_as_pydicts="strict"):
                total.update(row["seconds"] or {})
                if row["width"]:
                    pixels, decoded = pixels + row["width"] * row["height"], decoded + 1
            rows += len(ok)
            failed += pc.sum(pc.is_in(table["status"], ended_badly)).as_py() or 0
            if rows + failed >= _MAX_PILOT_ROWS:
                break
        if not rows:
            text = f"The run at {output} has no photo that is ok, of {failed:,} that ended."
            raise OutputError("output.not_found", text)
        means = {name: seconds / rows for name, seconds in total.items()}
        size = pixels / decoded / 1e6 if decoded else megapixels
        return cls(results.recipe, size, rows, means, failed, results.plan.rows, results.plan.stamp)

    def time(self, step: str, recipe: Recipe, *, has_gpus: bool) -> tuple[float, str]:
        """Mean seconds of a step per row, and their kind, see :class:`Figure`.

        The seconds of a pilot run with other options scale like the defaults.
        """
        measured = self.seconds.get(step)
        if measured is not None and recipe == self.recipe:
            return measured, "measured"
        seconds, kind = _default(step, recipe, self.megapixels, has_gpus=has_gpus)
        if measured is None:
            return seconds, kind
        before, _ = _default(step, self.recipe, self.megapixels, has_gpus=has_gpus)
        return measured * seconds / before, "measured"


@dataclass(frozen=True, slots=True)
class Part:
    """A step group, which runs in the actors of a pool, with its seconds.

    Attributes:
        pool: the pool.
        steps: step -> its mean actor seconds per row.
        assumed: steps whose seconds nobody measured.
        seconds: mean time for which an actor is busy with a photo.
        slowest: the step that takes longest.
    """

    pool: str
    steps: Mapping[str, float]
    assumed: Sequence[str]
    seconds: float
    slowest: str


def parts_of(steps: Sequence[Step], recipe: Recipe, basis: Basis, *, has_gpus: bool) -> list[Part]:
    """The step groups of a job, as a run forms them, with the seconds of each step.

    Raises:
        ClusterError: ``cluster.no_figure``: neither the pilot run nor the defaults have a step.
    """
    groups = group_steps(steps, has_gpus=has_gpus)
    hop = defaults()["run"]["transport_s"]
    parts = []
    for index, (pool, group) in enumerate(groups):
        times = {step.name: basis.time(step.name, recipe, has_gpus=has_gpus) for step in group}
        ends = (index > 0) + (index < len(groups) - 1)
        if ends:  # one side of a hop packs, the other unpacks
            times["transport"] = hop.value * ends / 2, hop.kind
        seconds = {name: time for name, (time, _) in times.items()}
        assumed = [name for name, (_, kind) in times.items() if kind == "assumed"]
        waiting = {step.name: seconds[step.name] / PREFETCH_PHOTOS for step in group if step.is_io}
        busy = seconds | waiting  # steps that wait for storage do so in threads
        waiting_s = sum(waiting.values())
        busy_s = max(sum(busy.values()) - waiting_s, waiting_s)
        parts.append(Part(pool, seconds, assumed, busy_s, max(busy, key=busy.__getitem__)))
    return parts


def _figure_name(step: str, recipe: Recipe, *, has_gpus: bool) -> str:
    """``refine`` -> ``refine.flux-fill.compile``: method and switches matter."""
    if step == "upscale":
        return f"upscale.{recipe.upscale.method if recipe.upscale else 'lanczos'}"
    sections = {"detect": recipe.detect, "remove": recipe.remove, "refine": recipe.refiner}
    options = sections.get(step)
    if not options:
        return step
    name = f"{step}.{options.cost_name}"
    if options.pool != "cpu" and not has_gpus:
        return f"{name}.cpu"
    switches = [f".{each}" for each in ("compile", "fp8") if getattr(options, each, False)]
    return name + "".join(switches)


def _default(step: str, recipe: Recipe, megapixels: float, *, has_gpus: bool) -> tuple[float, str]:
    """Seconds of a step by the defaults, and their kind."""
    name, options = _figure_name(step, recipe, has_gpus=has_gpus), recipe.refiner
    known, run = defaults()["steps"], defaults()["run"]
    if name not in known:
        raise ClusterError("cluster.no_figure", f"There is no default for the seconds of {name}.")
    figure = known[name]
    steps = getattr(recipe.remove, "steps", 0) if step == "remove" else 0
    per_megapixel = figure.per_megapixel + figure.per_step * steps
    seconds = figure.per_photo + per_megapixel * min(megapixels, figure.max_megapixels)
    if step == "refine" and options:
        seconds += figure.per_step * options.steps
        if recipe.judge:
            retry_share = run["retry_share"].value
            attempts = sum(retry_share**attempt for attempt in range(recipe.judge.attempts))
            judging = known["judge"].per_photo + recipe.judge.text * known["judge.text"].per_photo
            seconds = attempts * (seconds + judging)
        seconds *= (options.size_px / 1024) ** 2
        seconds *= 1 - run["smooth_share"].value * (options.when == "auto")
    return seconds, figure.kind
