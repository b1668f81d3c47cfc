"""What a cluster has, and what a recipe's pools would make of it; nothing is started there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from cluster.nodes import node_shapes, used_cpus
from cluster.pools import Pools, PoolSize
from cluster.sizing import ACCELERATOR, NodeShape, describe_labels, has_gpus, size_pools
from jobs.doctor import Finding
from jobs.pipeline.placement import connected
from jobs.pipeline.spec import grouped
from manifests.errors import ClusterError
from stages.pipeline import steps
from stages.recipe import Recipe

#: Of shards; a run on fewer starts fewer actors.
_MANY = 1_000_000


def examine_cluster(address: str, recipe: Recipe, pools: Pools) -> Iterator[Finding]:
    """Look at a cluster, one finding after the other.

    Args:
        address: of the cluster; ``local`` for the private one that a run would start here.
        recipe: whose pools are placed.
        pools: what is asked for.
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
    sizing = size_pools(pools, nodes, [pool for pool, _ in groups], _MANY, taken)
    unplaced = {problem.partition(":")[0] for problem in sizing.problems}
    for pool, of_group in groups:
        state: Literal["ok", "bad"] = "bad" if pool in unplaced else "ok"
        names = " ▸ ".join(step.name for step in of_group)
        yield Finding("Pool", state, f"{pool}: {names}: {_of_pool(sizing.sizes[pool])}")
    for note in sizing.notes:
        yield Finding("Pool", "note", note)
    for problem in sizing.problems:
        yield Finding("Pool", "bad", problem, "Add what is named, or ask for less with --pools.")


def _of_node(node: NodeShape) -> str:
    shape = _resources(node.cpus, node.gpus, node.memory_gib)
    labels = {
        name: value
        for name, value in (node.labels or {}).items()
        if name == ACCELERATOR or not name.startswith("ray.io/")
    }
    told = [f"{node.name}: " if node.name else "", shape]
    told += [f"; {describe_labels(labels)}"] if labels else []
    told += [f"; {node.up} up"]
    told += [f", {node.possible} at most"] if node.possible > node.up else []
    return "".join(told)


def _of_pool(size: PoolSize) -> str:
    count = f"{size.min_actors} to {size.max_actors} actors"
    if size.min_actors == size.max_actors:
        count = "1 actor" if size.max_actors == 1 else f"{size.max_actors} actors"
    where = f" on {describe_labels(size.label_selector)}" if size.label_selector else ""
    return f"{count}{where}, each {_resources(size.cpus, size.gpus, size.memory_gib)}"


def _resources(cpus: float, gpus: float, memory_gib: float) -> str:
    """E.g. ``8 CPUs, 1 GPU, 20 GiB``."""
    told = [_counted(cpus, "CPU")]
    told += [_counted(gpus, "GPU")] if gpus else []
    told += [f"{memory_gib:g} GiB"] if memory_gib else []
    return ", ".join(told)


def _counted(count: float, what: str) -> str:
    return f"{count:g} {what}" if count <= 1 else f"{count:g} {what}s"
