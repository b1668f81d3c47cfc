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
from stages.steps.base import BatchWork, Step, Work, run_steps
from stages.steps.cut import cut_patches
from stages.steps.decode import decode
from stages.steps.detect import detect, keep_mask
from stages.steps.encode import encode
from stages.steps.fetch import fetch
from stages.steps.focus import focus
from stages.steps.grow import grow
from stages.steps.mask import mask
from stages.steps.prompt import encode_prompt
from stages.steps.publish import publish
from stages.steps.refine import refine
from stages.steps.remove import fill_patches
from stages.steps.snapshots import save_snapshots
from stages.steps.stitch import stitch_patches
from stages.steps.upscale import upscale


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
    yield Step("fetch", pool, lambda: fetch(recipe), is_io=True)
    yield Step("decode", pool, lambda: decode(recipe))
    if found:
        yield Step("detect", pool, lambda: detect(recipe))
    yield Step("mask", pool, lambda: mask(recipe))
    if found and output:
        yield Step("keep_mask", pool, lambda: keep_mask(output, recipe), is_io=True)


def _filling(recipe: Recipe, output: str) -> list[Step]:
    """List the steps from the hole to the result."""
    pool = _first_pool(recipe)
    return [
        *([Step("grow", pool, lambda: grow(recipe))] if recipe.mask.effects == "grow" else []),
        Step("cut", pool, lambda: cut_patches(recipe)),
        *_fill_and_refine_steps(recipe, output),
        Step("stitch", "cpu", lambda: stitch_patches(recipe)),
        Step("encode", "cpu", lambda: encode(recipe)),
        *([Step("publish", "cpu", lambda: publish(output, recipe), is_io=True)] if output else []),
    ]


def _fill_and_refine_steps(recipe: Recipe, output: str) -> Iterator[Step]:
    """List the steps that fill and refine, each in its model's pool."""
    remove, refiner = recipe.remove, recipe.refiner
    if remove:
        yield Step("remove", remove.pool, lambda: fill_patches(recipe), remove.max_photos)
    if refiner:
        saves_snapshots = bool(output) and recipe.output.keep_steps
        yield Step("focus", "small_gpu", lambda: focus(recipe))
        if saves_snapshots:
            yield Step(
                "keep_removal", "small_gpu", lambda: save_snapshots(output, recipe, "removal")
            )
        yield Step("prompt", "small_gpu", lambda: encode_prompt(recipe))
        yield Step("upscale", refiner.pool, lambda: upscale(recipe))
        yield Step("refine", refiner.pool, lambda: refine(recipe), refiner.max_photos)
        if saves_snapshots:
            yield Step(
                "keep_refined", refiner.pool, lambda: save_snapshots(output, recipe, "refined")
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
        self._loaded_works: list[Work | BatchWork] | None = None

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

    def _loaded(self) -> list[Work | BatchWork]:
        with self._loading:
            if self._loaded_works is None:
                self._loaded_works = [step.build() for step in self.steps]
            return self._loaded_works

    def run(self, *photos: Photo) -> None:
        """Run photos through all steps; one that fails skips the rest.

        Raises:
            CatalogCleanupError: as :meth:`load` and :func:`stages.steps.base.run_steps`. Errors of
                a single photo are not raised but recorded in its lineage.
        """
        for step, work in zip(self.steps, self._loaded(), strict=True):
            run_steps(photos, [(step.name, work)])
