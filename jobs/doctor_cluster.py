"""Checks a cluster, and shows where a recipe's pools would run. Starts nothing there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from cluster.nodes import node_shapes, used_cpus
from cluster.pools import Pools, PoolSize
from cluster.sizing import ACCELERATOR, NodeShape, describe_labels, has_gpus, size_pools
from jobs.doctor import Finding
from jobs.pipeline.placement import connected
from jobs.pipeline.progress import format_count
from jobs.pipeline.spec import grouped
from manifests.errors import ClusterError
from stages.pipeline import steps
from stages.recipe import Recipe

#: Number of shards to size the pools for: enough for the max number of actors.
_SHARDS = 1_000_000


def examine_cluster(address: str, recipe: Recipe, pools: Pools) -> Iterator[Finding]:
    """Check a cluster; yields one finding after the other.

    Args:
        address: of the cluster; ``local`` for the private one that a run would start here.
        recipe: the recipe whose pools are placed.
        pools: the requested pools.
    """
    try:
        with connected(address):
            yield from _placed(node_shapes(pools.nodes), used_cpus(), recipe, pools)
    except ClusterError as error:
        yield Finding("Cluster", "bad", error.message, error.remedy)


def _placed(
    nodes: Sequence[NodeShape], taken: float, recipe: Recipe, pools: Pools
) -> Iterator[Finding]:
    for node in nodes:
        yield Finding("Nodes", "ok", _of_node(node))
    groups = grouped(steps(recipe, "output"), has_gpus=has_gpus(nodes))
    sizing = size_pools(pools, nodes, [pool for pool, _ in groups], _SHARDS, taken)
    unplaced = {problem.partition(":")[0] for problem in sizing.problems}
    for pool, of_group in groups:
        state: Literal["ok", "bad"] = "bad" if pool in unplaced else "ok"
        names = " ▸ ".join(step.name for step in of_group)
        yield Finding("Pool", state, f"{pool}: {names}: {_of_pool(sizing.sizes[pool])}")
    for note in sizing.notes:
        yield Finding("Pool", "note", note)
    for problem in sizing.problems:
        yield Finding(
            "Pool", "bad", problem, "Add the missing resources, or request less with --pools."
        )


def _of_node(node: NodeShape) -> str:
    shape = _resources(node.cpus, node.gpus, node.memory_gib)
    labels = {
        name: value
        for name, value in (node.labels or {}).items()
        if name == ACCELERATOR or not name.startswith("ray.io/")
    }
    parts = [f"{node.name}: " if node.name else "", shape]
    parts += [f"; {describe_labels(labels)}"] if labels else []
    parts += [f"; {node.up} up"]
    parts += [f", max {node.possible}"] if node.possible > node.up else []
    return "".join(parts)


def _of_pool(size: PoolSize) -> str:
    count = format_count(size.max_actors, "actor")
    if size.min_actors != size.max_actors:
        count = f"{size.min_actors} to {count}"
    where = f" on {describe_labels(size.label_selector)}" if size.label_selector else ""
    return f"{count}{where}, each {_resources(size.cpus, size.gpus, size.memory_gib)}"


def _resources(cpus: float, gpus: float, memory_gib: float) -> str:
    """E.g. ``8 CPUs, 1 GPU, 20 GiB``."""
    parts = [format_count(cpus, "CPU")]
    parts += [format_count(gpus, "GPU")] if gpus else []
    parts += [f"{memory_gib:g} GiB"] if memory_gib else []
    return ", ".join(parts)
