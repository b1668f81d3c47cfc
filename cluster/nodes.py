"""Which nodes a Ray cluster has, and which its autoscaler may add."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from cluster.sizing import NodeGroup

#: The label by which Ray tells which of the autoscaler's node types a node is of.
_NODE_TYPE = "ray.io/node-group"

#: Differs from node to node, and tells nothing of use here.
_NODE_ID = "ray.io/node-id"

_GIB = 2**30

#: In place of no limit.
_MANY = 10_000


def node_groups() -> list[NodeGroup]:
    """The nodes of the cluster that this process is connected to, by shape.

    The autoscaler's node types are what Ray keeps of its configuration for Ray Data, too. It holds
    their resources and how many there may be, but not their labels.
    """
    import ray  # noqa: PLC0415 - slow to load

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    config = ray._private.state.state.get_cluster_config()
    types = {each.name: each for each in config.node_group_configs} if config else {}
    return groups_of(
        [(node["Resources"], node["Labels"]) for node in alive],
        {name: (dict(each.resources), each.max_count) for name, each in types.items()},
    )


def groups_of(
    alive: Sequence[tuple[Mapping[str, float], Mapping[str, str]]],
    types: Mapping[str, tuple[Mapping[str, float], int]],
) -> list[NodeGroup]:
    """Put nodes of one shape together.

    Args:
        alive: resources and labels of each node that is up.
        types: resources of each node type, and how many such nodes there may be; -1: any number.
    """
    shapes = Counter(_shape(resources, labels) for resources, labels in alive)
    up_of_type: Counter[str] = Counter()
    for (name, *_), count in shapes.items():
        up_of_type[name] += count
    more = {
        name: (_MANY if most < 0 else most) - up_of_type[name] for name, (_, most) in types.items()
    }
    groups = []
    for (name, cpus, gpus, memory_gib, labels), up in shapes.items():
        added = max(more.pop(name, 0), 0)
        groups.append(NodeGroup(name, cpus, gpus, memory_gib, dict(labels), up, up + added))
    for name, count in more.items():
        if count > 0:
            _, cpus, gpus, memory_gib, _ = _shape(types[name][0], {})
            groups.append(NodeGroup(name, cpus, gpus, memory_gib, None, up=0, possible=count))
    return groups


def taken_cpus() -> float:
    """How many CPUs of the nodes that are up are in use."""
    import ray  # noqa: PLC0415 - as above

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return max(total.get("CPU", 0.0) - free.get("CPU", 0.0), 0.0)


def _shape(
    resources: Mapping[str, float], labels: Mapping[str, str]
) -> tuple[str, float, float, float, frozenset[tuple[str, str]]]:
    kept = {name: value for name, value in labels.items() if name != _NODE_ID}
    return (
        kept.get(_NODE_TYPE, ""),
        float(resources.get("CPU", 0)),
        float(resources.get("GPU", 0)),
        round(resources.get("memory", 0) / _GIB, 1),
        frozenset(kept.items()),
    )
