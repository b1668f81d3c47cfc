"""The main job as a pipeline: the one file in which the DAG is built, top to bottom.

::

    shards ─▶ fetch ▸ decode ▸ mask ▸ cut ▸ remove ▸ stitch ▸ encode ▸ publish ─▶ lineage
              └───────────────────────── cpu pool ─────────────────────────┘

    with LaMa and a refiner, on a cluster with GPUs:

    shards ─▶ fetch ▸ decode ▸ mask ▸ cut ─▶ remove ▸ focus ▸ upscale ▸ prompt ─▶ refine ─▶ …
              └──────── cpu pool ───────┘    └────────── small GPUs ─────────┘    large GPUs

                                           … ─▶ stitch ▸ encode ▸ publish ─▶ lineage
                                                └────── cpu pool ───────┘

Neighbouring steps of one pool run in one actor. A recipe without models, or any on a cluster
without GPUs, is one pool, and nothing is copied between its steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from cluster.pools import PoolSize
from jobs.pipeline.actor import StageActor
from jobs.pipeline.spec import Job
from stages.recipe import Recipe
from stages.steps.base import Step
from stages.steps.cut import cut_patches
from stages.steps.decode import decode
from stages.steps.encode import encode
from stages.steps.fetch import fetch
from stages.steps.focus import focus
from stages.steps.mask import mask
from stages.steps.prompt import encode_prompt
from stages.steps.publish import publish
from stages.steps.refine import refine
from stages.steps.remove import fill_patches
from stages.steps.snapshots import keep
from stages.steps.stitch import stitch_patches
from stages.steps.upscale import upscale

if TYPE_CHECKING:
    from ray.data import Dataset


class WorkUnit(TypedDict):
    """A unit of scheduling: the pending rows of a shard, or one of them."""

    shard: int
    id: str | None


def steps(recipe: Recipe, output: str) -> list[Step]:
    """The steps of a recipe, in order, each with the pool it runs in.

    Args:
        recipe: how.
        output: folder, path or URI, that receives ``images/``, and ``steps/`` if the recipe keeps
            them; empty: the caller stores the picture, and nothing else is kept.
    """
    return [
        Step("fetch", "cpu", lambda: fetch(recipe), waits=True),
        Step("decode", "cpu", lambda: decode(recipe)),
        Step("mask", "cpu", lambda: mask(recipe)),
        Step("cut", "cpu", lambda: cut_patches(recipe)),
        *_models(recipe, output),
        Step("stitch", "cpu", lambda: stitch_patches(recipe)),
        Step("encode", "cpu", lambda: encode(recipe)),
        Step("publish", "cpu", lambda: publish(output, recipe), waits=True),
    ]


def _models(recipe: Recipe, output: str) -> Iterator[Step]:
    """The steps that paint, each where its model belongs."""
    remove, refiner = recipe.remove, recipe.refiner
    if remove:
        yield Step("remove", remove.pool, lambda: fill_patches(recipe), remove.max_photos)
    if refiner:
        keeps = bool(output) and recipe.output.keep_steps
        yield Step("focus", "small_gpu", lambda: focus(recipe))
        if keeps:
            yield Step("keep_removal", "small_gpu", lambda: keep(output, recipe, "removal"))
        yield Step("upscale", "small_gpu", lambda: upscale(recipe))
        yield Step("prompt", "small_gpu", lambda: encode_prompt(recipe))
        yield Step("refine", refiner.pool, lambda: refine(recipe), refiner.max_photos)
        if keeps:
            yield Step("keep_refined", refiner.pool, lambda: keep(output, recipe, "refined"))


def build(job: Job, pools: Mapping[str, PoolSize], work: Sequence[WorkUnit]) -> Dataset:
    """Build the DAG; nothing runs until its rows are asked for.

    Args:
        job: the run.
        pools: actors by pool.
        work: what to do, a block each.

    Returns:
        Rows as ``jobs/pipeline/recorder.py`` makes them, for the driver.
    """
    import ray  # takes seconds, which `try` and a refused manifest need not spend
    from ray.util.annotations import RayDeprecationWarning

    data: Dataset = ray.data.from_items(list(work), override_num_blocks=len(work))
    for group, (pool, steps_of_group) in enumerate(job.groups()):
        size = pools[pool]
        photos = max(step.photos for step in steps_of_group) if group else 1
        with warnings.catch_warnings():
            # Bounded retries have no named argument yet, but the way to give them is deprecated.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            data = data.map_batches(
                StageActor,
                fn_constructor_args=(job, group),
                # A block as it comes, or for a model small ones together; actors cut them to size.
                # With GPUs Ray Data asks for a number.
                batch_size=photos if photos > 1 or size.gpus else None,
                batch_format="pyarrow",
                compute=size.strategy(),
                **size.actor_options(),
            )
    return data
