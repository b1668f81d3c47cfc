"""The steps of a recipe, in order, and running photos through them in one process.

``jobs/clean.py`` runs the same steps on Ray Data, each in the pool named here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Self

from stages.method_options import Pool
from stages.photo import Photo
from stages.recipe import Recipe
from stages.steps.base import BatchFunction, PhotoFunction, Step, run_steps
from stages.steps.cut import build_cut
from stages.steps.decode import build_decode
from stages.steps.detect import build_detect, build_keep_mask
from stages.steps.encode import build_encode
from stages.steps.fetch import build_fetch
from stages.steps.focus import build_focus
from stages.steps.grow import build_grow
from stages.steps.mask import build_mask
from stages.steps.prompt import build_prompt
from stages.steps.publish import build_publish
from stages.steps.refine import build_refine
from stages.steps.remove import build_remove
from stages.steps.snapshots import build_snapshots
from stages.steps.stitch import build_stitch
from stages.steps.upscale import build_upscale


def steps(recipe: Recipe, output: str = "") -> list[Step]:
    """List the steps of a recipe, in order, each with the pool it runs in.

    Args:
        recipe: the recipe to apply.
        output: path or URI of the folder for ``images/``; for ``masks/`` if the recipe detects; and
            for ``steps/`` if it has ``output.keep_steps``. Empty: no ``publish`` step; the result's
            file stays in :attr:`Photo.result`.
    """
    return [*_marking(recipe, output), *(_filling(recipe, output) if recipe.fills else ())]


def _first_pool(recipe: Recipe) -> Pool:
    return recipe.detect.step_pool if recipe.detect else "cpu"


def _marking(recipe: Recipe, output: str) -> Iterator[Step]:
    """List the steps up to the hole, all in one pool: decoded photos are not sent."""
    found, pool = recipe.detect, _first_pool(recipe)
    yield Step("fetch", pool, lambda: build_fetch(recipe), is_io=True)
    yield Step("decode", pool, lambda: build_decode(recipe))
    if found:
        yield Step("detect", pool, lambda: build_detect(recipe))
    yield Step("mask", pool, lambda: build_mask(recipe))
    if found and output:
        yield Step("keep_mask", pool, lambda: build_keep_mask(output, recipe), is_io=True)


def _filling(recipe: Recipe, output: str) -> list[Step]:
    """List the steps from the hole to the result."""
    pool = _first_pool(recipe)
    return [
        *(
            [Step("grow", pool, lambda: build_grow(recipe))]
            if recipe.mask.effects == "grow"
            else []
        ),
        Step("cut", pool, lambda: build_cut(recipe)),
        *_fill_and_refine_steps(recipe, output),
        Step("stitch", "cpu", lambda: build_stitch(recipe)),
        Step("encode", "cpu", lambda: build_encode(recipe)),
        *(
            [Step("publish", "cpu", lambda: build_publish(output, recipe), is_io=True)]
            if output
            else []
        ),
    ]


def _fill_and_refine_steps(recipe: Recipe, output: str) -> Iterator[Step]:
    """List the steps that fill and refine, each in its model's pool."""
    remove, refiner = recipe.remove, recipe.refiner
    if remove:
        yield Step("remove", remove.pool, lambda: build_remove(recipe), remove.photos_per_call)
    if refiner:
        saves_snapshots = bool(output) and recipe.output.keep_steps
        yield Step("focus", "small_gpu", lambda: build_focus(recipe))
        if saves_snapshots:
            yield Step(
                "keep_removal", "small_gpu", lambda: build_snapshots(output, recipe, "removal")
            )
        yield Step("prompt", "small_gpu", lambda: build_prompt(recipe))
        yield Step("upscale", refiner.pool, lambda: build_upscale(recipe))
        yield Step("refine", refiner.pool, lambda: build_refine(recipe), refiner.photos_per_call)
        if saves_snapshots:
            yield Step(
                "keep_refined", refiner.pool, lambda: build_snapshots(output, recipe, "refined")
            )


class Pipeline:
    """Runs photos through steps in this process. Models load once, with the first photos.

    Threads may share one: networks then compute one batch after the other, and the rest of the
    steps runs concurrently.

    Args:
        steps: the steps to run, in order.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self.steps = tuple(steps)
        self._loading = Lock()
        self._functions: list[PhotoFunction | BatchFunction] | None = None

    @classmethod
    def of(cls, recipe: Recipe, output: str = "") -> Self:
        """Build the pipeline of all steps of a recipe; arguments: see :func:`steps`."""
        return cls(steps(recipe, output))

    def until(self, name: str) -> Self:
        """Return the steps up to and including this one; they load their own models."""
        return type(self)(self.steps[: self._index(name) + 1])

    def after(self, name: str) -> Self:
        """Return the steps after this one; they load their own models."""
        return type(self)(self.steps[self._index(name) + 1 :])

    def _index(self, name: str) -> int:
        return [step.name for step in self.steps].index(name)

    def load(self) -> Self:
        """Load models and create clients, if not yet done.

        Raises:
            WeightsError: a model is unavailable or cannot be loaded.
        """
        self._loaded()
        return self

    def _loaded(self) -> list[PhotoFunction | BatchFunction]:
        with self._loading:
            if self._functions is None:
                self._functions = [step.build() for step in self.steps]
            return self._functions

    def run(self, *photos: Photo) -> None:
        """Run photos through all steps; one that fails skips the rest.

        Raises:
            CatalogCleanupError: as :meth:`load` and :func:`stages.steps.base.run_steps`. Errors of
                a single photo are not raised but recorded in its lineage.
        """
        for step, function in zip(self.steps, self._loaded(), strict=True):
            run_steps(photos, [(step.name, function)])
