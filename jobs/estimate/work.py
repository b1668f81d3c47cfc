"""What each step of a recipe takes for a photo of the catalog, by the calibration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs import clean
from jobs.estimate.calibration import Calibration
from jobs.estimate.catalog import Catalog, PatchShape, Size
from jobs.job import grouped
from stages.geometry import Box
from stages.options import FluxFillOptions, LamaOptions
from stages.recipe import Recipe
from stages.step import Step
from stages.windows import refined_size, working_size

#: So many photos wait for storage at once, in an actor, beside one that is computed; see
#: ``jobs/adapt.py``.
_WAITING = 8

#: Between two pools Ray Data makes blocks of this size, as ``cluster/local.py`` has it.
_BLOCK_BYTES = 32 << 20

#: A patch travels with its window (pixels and mask) and, for a refiner, the crop and its masks.
_BYTES_PER_WINDOW_PX, _BYTES_PER_CROP_PX = 4, 5


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step, and how long it takes.

    Attributes:
        name: of the step.
        figures: names of the calibration's figures that it is made of.
        seconds: a photo, on average, of one actor.
        waits: it waits for storage, beside computing.
    """

    name: str
    figures: Sequence[str]
    seconds: float
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Steps that run in one actor.

    Attributes:
        pool: of the actor.
        steps: in order.
    """

    pool: str
    steps: Sequence[StepTime]

    @property
    def seconds(self) -> float:
        """That an actor is busy with a photo, on average; waiting counts where it takes longer."""
        computing = sum(step.seconds for step in self.steps if not step.waits)
        waiting = sum(step.seconds for step in self.steps if step.waits)
        return max(computing, waiting / _WAITING)

    @property
    def longest(self) -> StepTime:
        """The step that takes most of it."""
        return max(self.steps, key=lambda step: step.seconds / (_WAITING if step.waits else 1))


def parts_of(
    recipe: Recipe, catalog: Catalog, calibration: Calibration, *, has_gpus: bool
) -> list[Part]:
    """The parts of a job, as a run groups them, with their times.

    Raises:
        ClusterError: ``cluster.bad_calibration``: there is no figure for a step.
    """
    groups = grouped(clean.steps(recipe, "output"), has_gpus=has_gpus)
    work = _Work(recipe, catalog, calibration, has_gpus)
    return [Part(pool, [work.time(step) for step in steps]) for pool, steps in groups]


def photos_per_block(recipe: Recipe, catalog: Catalog) -> int:
    """How many photos travel together from one pool to the next."""
    volume = 0.0
    for photo in catalog.photos:
        volume += photo.megabytes * 1e6
        for patch in photo.patches:
            volume += _BYTES_PER_WINDOW_PX * math.prod(working_px(patch, recipe))
            volume += _BYTES_PER_CROP_PX * math.prod(patch.crop)
    return max(int(_BLOCK_BYTES * len(catalog.photos) / volume), 1) if volume else 1


@dataclass(frozen=True, slots=True)
class _Work:
    """Adds up the work of the photos that were looked at, and takes the mean of all rows."""

    recipe: Recipe
    catalog: Catalog
    calibration: Calibration
    has_gpus: bool

    def time(self, step: Step) -> StepTime:
        if step.name == "refine":
            return self._refining()
        names = {"remove": self._removing, "upscale": self._upscaling}
        name = names[step.name]() if step.name in names else step.name
        sizes = {"remove": working_px, "focus": working_px, "upscale": _to_enlarge}
        size = sizes.get(step.name, working_px)
        seconds = self._mean(name, [size(patch, self.recipe) for patch in self._patches()])
        return StepTime(step.name, [name], seconds, step.waits)

    def _patches(self) -> Iterable[PatchShape]:
        return [patch for photo in self.catalog.photos for patch in photo.patches]

    def _removing(self) -> str:
        assert self.recipe.remove
        on_cpu = isinstance(self.recipe.remove, LamaOptions) and not self.has_gpus
        return f"remove.{self.recipe.remove.method}{'.cpu' if on_cpu else ''}"

    def _upscaling(self) -> str:
        return f"upscale.{self.recipe.upscale.method if self.recipe.upscale else 'lanczos'}"

    def _refining(self) -> StepTime:
        """The refiner and the judge, on the patches that are refined, tried again or not."""
        recipe, options = self.recipe, self.recipe.refiner
        assert options
        name = f"refine.{options.method}"
        if options.compile:
            name += ".compile"
        if isinstance(options, FluxFillOptions) and options.fp8:
            name += ".fp8"
        if not self.has_gpus:
            name += ".cpu"
        sizes = [refined_px(patch, recipe) for patch in self._patches()]
        again = self.calibration.run["tried_again"].value
        attempts = recipe.judge.attempts if recipe.judge else 1
        tries = sum(again**number for number in range(attempts)) * self._refined_share()
        seconds = tries * self._mean(name, sizes, steps=options.steps)
        figures = [name]
        if recipe.judge:
            figures.append("judge")
            seconds += tries * self._mean("judge", sizes)
        return StepTime("refine", figures, seconds)

    def _refined_share(self) -> float:
        """Of the patches, those that are refined."""
        options = self.recipe.refiner
        if options is None or options.when != "auto":
            return 1.0
        smooth = self.catalog.smooth_share
        return 1 - (self.calibration.run["smooth"].value if smooth is None else smooth)

    def _mean(self, name: str, sizes: Sequence[Size], steps: int = 0) -> float:
        """Seconds for a row of the manifest: the sum of the sample's, over all of it."""
        figure = self.calibration.seconds(name)
        photos, count = self.catalog.photos, self.catalog.looked_at
        total = sum(figure.of_photo(photo.megapixels) for photo in photos)
        total += sum(figure.of_patch(math.prod(size) / 1e6, steps) for size in sizes)
        return total / count if count else 0.0


def working_px(patch: PatchShape, recipe: Recipe) -> Size:
    """Width and height at which the removal fills a patch."""
    return working_size(recipe, *patch.window)


def refined_px(patch: PatchShape, recipe: Recipe) -> Size:
    """Width and height at which a refiner works on a patch."""
    assert recipe.refiner
    width, height = patch.crop
    return refined_size(Box(0, 0, width, height), recipe.refiner.size_px)


def _to_enlarge(patch: PatchShape, recipe: Recipe) -> Size:
    """The crop, if a network has to enlarge it; else nothing."""
    width, height = refined_px(patch, recipe)
    return patch.crop if width > patch.crop[0] or height > patch.crop[1] else (0, 0)
