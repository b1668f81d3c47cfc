"""Which nodes a Ray cluster has, and which its autoscaler may add."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.pools import NodeType, PoolSize
from cluster.sizing import NodeGroup

#: The label by which Ray tells which of the autoscaler's node types a node is of.
_NODE_TYPE = "ray.io/node-group"

#: Differs from node to node, and tells nothing of use here.
_NODE_ID = "ray.io/node-id"

_GIB = 2**30

#: In place of no limit.
_MANY = 10_000


def node_groups(types: Mapping[str, NodeType]) -> list[NodeGroup]:
    """The nodes of the cluster that this process is connected to, by shape, and those to come.

    Args:
        types: what its autoscaler may add, by name. Some clusters tell it themselves, but for the
            labels.
    """
    import ray  # noqa: PLC0415 - slow to load

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    config = ray._private.state.state.get_cluster_config()
    told = {each.name: each for each in config.node_group_configs} if config else {}
    groups = [
        *(_of_type(name, node_type) for name, node_type in types.items()),
        *(
            _told(name, each.resources, each.max_count)
            for name, each in told.items()
            if name not in types
        ),
    ]
    return with_those_up([(node["Resources"], node["Labels"]) for node in alive], groups)


def _of_type(name: str, node_type: NodeType) -> NodeGroup:
    labels = {_NODE_TYPE: name, **node_type.labels}
    shape = (node_type.cpus, node_type.gpus, node_type.memory_gib)
    return NodeGroup(name, *shape, labels, up=0, possible=node_type.max_nodes)


def _told(name: str, resources: Mapping[str, float], most: int) -> NodeGroup:
    shape = _shape(resources)
    return NodeGroup(name, *shape, None, up=0, possible=_MANY if most < 0 else most)


def with_those_up(
    alive: Sequence[tuple[Mapping[str, float], Mapping[str, str]]], types: Sequence[NodeGroup]
) -> list[NodeGroup]:
    """Put nodes of one shape together, and beside them those that may be added.

    Args:
        alive: resources and labels of each node that is up.
        types: of which none is counted as up.
    """
    shapes = Counter((*_shape(resources), _kept(labels)) for resources, labels in alive)
    up_of_type: Counter[str] = Counter()
    for (*_, labels), count in shapes.items():
        up_of_type[dict(labels).get(_NODE_TYPE, "")] += count
    more = {each.name: each.possible - up_of_type[each.name] for each in types}
    groups = []
    for (cpus, gpus, memory_gib, labels), up in shapes.items():
        name = dict(labels).get(_NODE_TYPE, "")
        added = max(more.pop(name, 0), 0)
        groups.append(NodeGroup(name, cpus, gpus, memory_gib, dict(labels), up, up + added))
    groups += [
        replace(each, possible=more[each.name]) for each in types if more.get(each.name, 0) > 0
    ]
    return groups


def await_room(sizes: Mapping[str, PoolSize], parts: Sequence[str], wait_s: float) -> bool:
    """Have the autoscaler bring up nodes for the first actors of all pools at once, and wait.

    Ray Data starts one pool after the other, and would wait for one kind of node after the other.

    Args:
        sizes: by pool.
        parts: of the job; one pool can have several.
        wait_s: for how long.

    Returns:
        Whether there is room now.
    """
    from ray.util import placement_group, remove_placement_group  # noqa: PLC0415 - as above

    first = [sizes[name] for name in parts for _ in range(sizes[name].min_actors)]
    held = placement_group(
        [size.bundle() for size in first],
        bundle_label_selector=[dict(size.label_selector) for size in first],
    )
    try:
        return bool(held.wait(wait_s))
    finally:
        remove_placement_group(held)


def taken_cpus() -> float:
    """How many CPUs of the nodes that are up are in use."""
    import ray  # noqa: PLC0415 - as above

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return max(total.get("CPU", 0.0) - free.get("CPU", 0.0), 0.0)


def _shape(resources: Mapping[str, float]) -> tuple[float, float, float]:
    """CPUs, GPUs and GiB of memory."""
    memory_gib = round(resources.get("memory", 0) / _GIB, 1)
    return float(resources.get("CPU", 0)), float(resources.get("GPU", 0)), memory_gib


def _kept(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in labels.items() if name != _NODE_ID)
