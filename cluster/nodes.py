"""The nodes that a Ray cluster has, and those that its autoscaler can add."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.pools import NodeType, PoolSize
from cluster.sizing import NODE_TYPE, NodeGroup

#: A label that is unique to each node, so it is ignored when equal nodes are grouped.
_NODE_ID = "ray.io/node-id"

_GIB = 2**30

#: Node count that stands for no limit.
_UNLIMITED_NODES = 10_000


def node_groups(types: Mapping[str, NodeType]) -> list[NodeGroup]:
    """List the groups of equal nodes of the connected cluster, and of nodes that can be added.

    Args:
        types: node types that its autoscaler can add, by name. Some clusters also report them, but
            without labels.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    config = ray._private.state.state.get_cluster_config()
    reported = config.node_group_configs if config else ()
    potential = [NodeGroup.potential(name, node_type) for name, node_type in types.items()]
    for each in reported:
        if each.name not in types:
            max_nodes = _UNLIMITED_NODES if each.max_count < 0 else each.max_count
            sizes = _sizes(each.resources)
            potential.append(NodeGroup(each.name, *sizes, labels=None, up=0, max_nodes=max_nodes))
    groups = [(node["Resources"], node["Labels"]) for node in alive]
    return merge_node_groups(groups, potential)


def merge_node_groups(
    alive: Sequence[tuple[Mapping[str, float], Mapping[str, str]]], types: Sequence[NodeGroup]
) -> list[NodeGroup]:
    """Group running nodes that are equal, and append the groups of nodes that can be added.

    Args:
        alive: resources and labels of each node that is up.
        types: groups of nodes that can be added, each with ``up`` 0.
    """
    counts = Counter((_sizes(resources), _shared_labels(labels)) for resources, labels in alive)
    up_of_type = Counter(labels.get(NODE_TYPE, "") for _, labels in alive)
    more = {each.name: max(each.max_nodes - up_of_type[each.name], 0) for each in types}
    groups = []
    for (sizes, common), up in counts.items():
        labels = dict(common)
        name = labels.get(NODE_TYPE, "")
        groups.append(NodeGroup(name, *sizes, labels, up, up + more.pop(name, 0)))
    return groups + [
        replace(each, max_nodes=more[each.name]) for each in types if more.get(each.name)
    ]


def wait_for_room(sizes: Mapping[str, PoolSize], step_groups: Sequence[str], wait_s: float) -> bool:
    """Request nodes for the first actors of all pools at once, and wait for them.

    Ray Data starts the pools one after the other, so it would wait for each type of node in turn.

    Args:
        sizes: size of each pool, by its name.
        step_groups: the pool of each step group of the job; a pool can have several.
        wait_s: max time to wait, in seconds.

    Returns:
        Whether there is room for these actors now.
    """
    from ray.util import placement_group, remove_placement_group

    first = [sizes[name] for name in step_groups for _ in range(sizes[name].min_actors)]
    group = placement_group(
        [size.bundle() for size in first],
        bundle_label_selector=[dict(size.label_selector) for size in first],
    )
    try:
        return bool(group.wait(wait_s))
    finally:
        remove_placement_group(group)


def used_cpus() -> float:
    """The number of CPUs in use, on the nodes that are up."""
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return max(total.get("CPU", 0.0) - free.get("CPU", 0.0), 0.0)


def _sizes(resources: Mapping[str, float]) -> tuple[float, float, float]:
    """CPUs, GPUs and GiB of memory."""
    memory_gib = round(resources.get("memory", 0) / _GIB, 1)
    return float(resources.get("CPU", 0)), float(resources.get("GPU", 0)), memory_gib


def _shared_labels(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in labels.items() if name != _NODE_ID)
