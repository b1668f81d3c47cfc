"""Builds the DAG of a run on Ray Data; the only file that does.

::

    units ─▶ fetch ▸ decode ▸ mask ▸ cut ▸ remove ▸ stitch ▸ encode ▸ publish ─▶ lineage
             └───────────────────────── cpu pool ─────────────────────────┘

    with LaMa and a refiner, on a cluster with GPUs:

    units ─▶ fetch ▸ decode ▸ mask ▸ cut ─▶ remove ▸ focus ▸ prompt ─▶ upscale ▸ refine ─▶ …
             └──────── cpu pool ───────┘    └───── small GPUs ─────┘    └─ large GPUs ─┘

                              … ─▶ fetch again ▸ stitch ▸ encode ▸ publish ─▶ lineage
                                   └──────────────── cpu pool ───────────┘

A recipe that detects looks at decoded photos: ``detect`` comes after ``decode``, and if it wants a
GPU, the first group is in the pool of small GPUs.

A unit is up to 64 planned rows, see ``jobs/pipeline/units.py``.

Neighbouring steps of one pool run in one actor. A recipe without models, or any on a cluster
without GPUs, is one pool, and nothing is copied between its steps. Elsewhere:

- ``stages/pipeline.py``: the steps of a recipe, in order, and the pool of each;
- ``jobs/pipeline/spec.py``: groups the steps by pool, and adds ``fetch again``;
- ``jobs/pipeline/units.py`` and ``pending.py``: the units, and their pending rows;
- ``jobs/pipeline/actor.py``: runs a step group, and ``recorder.py`` writes the lineage;
- ``jobs/driver/passes.py``: runs the DAG again for the rows of workers that died.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster.pools import PoolSize
from jobs.pipeline.actor import PREFETCH_PHOTOS, StageActor
from jobs.pipeline.recorder import ROWS_PER_RECORD
from jobs.pipeline.spec import RunSpec

if TYPE_CHECKING:
    from ray.data import Dataset


def build(spec: RunSpec, pools: Mapping[str, PoolSize], units: Dataset) -> Dataset:
    """Build the DAG; nothing runs until its rows are consumed.

    Args:
        spec: the run.
        pools: number and resources of the actors, by pool.
        units: the units of work.

    Returns:
        Progress rows for the driver, see ``jobs/pipeline/recorder.py``.
    """
    from ray.util.annotations import RayDeprecationWarning  # takes seconds

    data, groups = units, spec.step_groups()
    for group, (pool, steps_of_group) in enumerate(groups):
        size = pools[pool]
        is_first, is_last = group == 0, group == len(groups) - 1
        if spec.one_by_one or (is_first and not size.gpus):
            batch_size = 1
        elif is_first:
            batch_size = PREFETCH_PHOTOS  # the detector's pool reads photos, too
        elif is_last:
            batch_size = ROWS_PER_RECORD  # one lineage file for each call
        else:
            batch_size = max(step.photos_per_call for step in steps_of_group)
        with warnings.catch_warnings():
            # Bounded retries can only be passed in a deprecated way so far.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            data = data.map_batches(
                StageActor,
                fn_constructor_args=(spec, group),
                # Blocks as they come; for a model, small ones are combined, and actors split them.
                # With GPUs, Ray Data requires a number.
                batch_size=batch_size if batch_size > 1 or size.gpus else None,
                batch_format="pyarrow",
                compute=size.strategy(),
                **size.actor_options(),
            )
    return data
