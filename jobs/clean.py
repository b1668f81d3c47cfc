"""The main spec as a pipeline: the one file in which the DAG is built, top to bottom.

::

    shards ─▶ fetch ▸ decode ▸ mask ▸ cut ▸ remove ▸ stitch ▸ encode ▸ publish ─▶ lineage
              └───────────────────────── cpu pool ─────────────────────────┘

    with LaMa and a refiner, on a cluster with GPUs:

    shards ─▶ fetch ▸ decode ▸ mask ▸ cut ─▶ remove ▸ focus ▸ upscale ▸ prompt ─▶ refine ─▶ …
              └──────── cpu pool ───────┘    └────────── small GPUs ─────────┘    large GPUs

                                           … ─▶ stitch ▸ encode ▸ publish ─▶ lineage
                                                └────── cpu pool ───────┘

``stages/pipeline.py`` lists the steps of a recipe and the pool of each. Neighbouring steps of one
pool run in one actor. A recipe without models, or any on a cluster without GPUs, is one pool, and
nothing is copied between its steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from cluster.pools import PoolSize
from jobs.pipeline.actor import StageActor
from jobs.pipeline.spec import RunSpec

if TYPE_CHECKING:
    from ray.data import Dataset


class WorkUnit(TypedDict):
    """A unit of scheduling: the pending rows of a shard, or one of them."""

    shard: int
    id: str | None


def build(spec: RunSpec, pools: Mapping[str, PoolSize], work: Sequence[WorkUnit]) -> Dataset:
    """Build the DAG; nothing runs until its rows are consumed.

    Args:
        spec: the run.
        pools: number and resources of the actors, by pool.
        work: the units of work; each becomes a block.

    Returns:
        Progress rows for the driver, see ``jobs/pipeline/recorder.py``.
    """
    import ray  # takes seconds; `try` and a rejected manifest need not load it
    from ray.util.annotations import RayDeprecationWarning

    data: Dataset = ray.data.from_items(list(work), override_num_blocks=len(work))
    for group, (pool, steps_of_group) in enumerate(spec.groups()):
        size = pools[pool]
        photos = max(step.batch_size for step in steps_of_group) if group else 1
        with warnings.catch_warnings():
            # Bounded retries can only be passed in a deprecated way so far.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            data = data.map_batches(
                StageActor,
                fn_constructor_args=(spec, group),
                # Blocks as they come; for a model, small ones are combined, and actors split them.
                # With GPUs, Ray Data requires a number.
                batch_size=photos if photos > 1 or size.gpus else None,
                batch_format="pyarrow",
                compute=size.strategy(),
                **size.actor_options(),
            )
    return data
