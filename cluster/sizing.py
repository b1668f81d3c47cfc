"""Computes the sizes of a run's pools from their options and from the nodes of the cluster.

All functions are pure; :mod:`cluster.nodes` queries Ray for the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cluster.pools import (
    CALLS_PER_GPU_ACTOR,
    CpuPoolOptions,
    GpuPoolOptions,
    NodeType,
    PoolSize,
    PoolsOptions,
    selects,
)

#: Ray's label for the model of a node's GPUs.
ACCELERATOR = "ray.io/accelerator-type"

#: Ray's label for a node's type in the autoscaler's configuration.
NODE_TYPE = "ray.io/node-group"

#: Ray's names of accelerators with at least 40 GB, which a refiner needs without offloading.
LARGE_ACCELERATORS = (
    *("A100", "A100-40G", "A100-80G", "H20", "H100", "H200", "B200", "B300", "GB200", "GB300"),
    *("L40S", "RTX-PRO-6000", "AMD-Instinct-MI300X-OAM", "AMD-Instinct-MI325X-OAM"),
)

#: Max CPU actors in each step group, per GPU actor of the smaller GPU pool. Ray Data grows a
#: pool by the work that waits for it, which for the first group is the whole catalog. Without a
#: limit that pool takes every CPU, and nodes are started for it to no benefit. A photo of 24 MP
#: takes about 1 s of a CPU before LaMa and 0.5 s after it, LaMa takes 0.34 s of an L4.
_CPU_ACTORS_PER_GPU_ACTOR = 4

#: Of the GPUs that both GPU pools can use, one in this many removes; refining takes far longer.
_GPUS_PER_REMOVING_GPU = 5

#: Tolerance, so that three thirds of a CPU make one.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Equal nodes: those that are up, and those that an autoscaler can add.

    Attributes:
        name: name of the autoscaler's node type; empty if there is none.
        cpus: of each node.
        gpus: of each node.
        memory_gib: of each node; what Ray makes available to actors.
        labels: of each node. None where no node is up yet: Ray does not report node types' labels.
        up: number of nodes that are up.
        max_nodes: max number of nodes, including those that are up.
    """

    name: str
    cpus: float
    gpus: float = 0.0
    memory_gib: float = 0.0
    labels: Mapping[str, str] | None = field(default_factory=dict)
    up: int = 1
    max_nodes: int = 1

    @classmethod
    def potential(cls, name: str, node_type: NodeType) -> NodeGroup:
        """Nodes of a type that an autoscaler can add, none of which is up."""
        labels = {NODE_TYPE: name, **node_type.labels}
        sizes = (node_type.cpus, node_type.gpus, node_type.memory_gib)
        return cls(name, *sizes, labels, up=0, max_nodes=node_type.max_nodes)

    def can_host(self, pool: str, selector: Mapping[str, str]) -> bool:
        """Whether a pool's actors can run here, as far as is known."""
        if self.labels is not None:
            return selects(selector, self.labels)
        return not selector or self.is_named_for(pool)

    def is_named_for(self, pool: str) -> bool:
        """Whether its name contains the pool's, as ``spot-large-gpu`` does."""
        return pool in self.name.lower().replace("-", "_")

    def room_for(self, size: PoolSize) -> int:
        """The number of a pool's actors that fit on one node."""
        rooms = [self.cpus / size.cpus]
        if size.gpus >= 1:
            rooms.append(self.gpus / size.gpus)
        elif size.gpus:  # a fraction must come from a single GPU
            whole, rest = divmod(self.gpus + _ROUNDING, 1)
            rooms.append(whole * _floor(1 / size.gpus) + _floor(rest / size.gpus))
        if size.memory_gib:
            rooms.append(self.memory_gib / size.memory_gib)
        return _floor(min(rooms))

    def without_actor(self, size: PoolSize) -> NodeGroup:
        """The resources that one actor leaves free on a node."""
        return replace(
            self,
            cpus=self.cpus - size.cpus,
            gpus=self.gpus - size.gpus,
            memory_gib=self.memory_gib - size.memory_gib,
        )


def _floor(number: float) -> int:
    return math.floor(number + _ROUNDING)


@dataclass(frozen=True, slots=True)
class Sizing:
    """The sizes of a run's pools.

    Attributes:
        sizes: size of each pool, by its name.
        notes: remarks for the user; the run works.
        problems: what is missing; the run would wait forever.
    """

    sizes: Mapping[str, PoolSize]
    notes: Sequence[str] = ()
    problems: Sequence[str] = ()


def has_gpus(nodes: Sequence[NodeGroup]) -> bool:
    """Whether any node has a GPU, or can have one."""
    return any(node.gpus and node.max_nodes for node in nodes)


def size_pools(
    pools: PoolsOptions,
    nodes: Sequence[NodeGroup],
    step_groups: Sequence[str],
    rows: int,
    used_cpus: float = 0.0,
) -> Sizing:
    """Compute the sizes of the pools that a job uses.

    Args:
        pools: the options of the pools.
        nodes: the nodes of the cluster.
        step_groups: the pool of each step group, in order; a pool can have several.
        rows: number of rows to process; at least one.
        used_cpus: number of CPUs, of nodes that are up, that other jobs use.
    """
    wanted = {name: _actor_resources(name, pools, nodes) for name in dict.fromkeys(step_groups)}
    notes = [note for name, size in wanted.items() for note in _ignored_defaults(name, size, pools)]
    wanted = _share_scarce(wanted, pools, nodes, len(step_groups))
    up = [replace(node, max_nodes=node.up) for node in nodes]
    room, ready = _max_actors(wanted, nodes, step_groups), _max_actors(wanted, up, step_groups)
    sizes: dict[str, PoolSize] = {}
    for name, size in wanted.items():
        options = _options(pools, name)
        limit = options.max_actors or max(room[name], options.min_actors)
        if options.max_actors and options.max_actors > room[name]:
            notes.append(
                f"{name} has max_actors = {options.max_actors}, but only {room[name]} fit."
            )
        first = min(options.min_actors, rows)  # Ray Data warns about more actors than blocks
        now = min(ready[name], limit, rows)
        if len(wanted) == 1 and name == "cpu":
            limit = max(min(limit, rows), first)
            now = min(max(now - math.ceil(used_cpus / size.cpus), 1), limit)
            first = max(first, now)
        sizes[name] = replace(size, min_actors=first, max_actors=limit, actors_that_fit=now)
    notes += [
        note for name, size in sizes.items() for note in _unusable_node_notes(name, size, nodes)
    ]
    return Sizing(sizes, notes, unplaced(sizes, nodes, step_groups))


def _options(pools: PoolsOptions, name: str) -> CpuPoolOptions:
    options: CpuPoolOptions = getattr(pools, name)
    return options


def _eligible_nodes(
    name: str, selector: Mapping[str, str], nodes: Sequence[NodeGroup]
) -> list[NodeGroup]:
    """The nodes that a pool's actors can run on."""
    return [node for node in nodes if node.max_nodes and node.can_host(name, selector)]


def _actor_resources(name: str, pools: PoolsOptions, nodes: Sequence[NodeGroup]) -> PoolSize:
    """The resources of each actor: as set, or the defaults as far as the nodes allow them."""
    options = _options(pools, name)
    chosen = options.model_fields_set
    selector = options.label_selector
    if "label_selector" not in chosen and not _eligible_nodes(name, selector, nodes):
        selector = _by_accelerator(name, nodes)
    size = PoolSize(
        options.min_actors,
        options.min_actors,
        cpus=options.cpus,
        gpus=options.gpus if isinstance(options, GpuPoolOptions) else 0.0,
        memory_gib=options.memory_gib,
        label_selector=selector,
        tasks_in_flight=options.tasks_in_flight,
        concurrent_calls=CALLS_PER_GPU_ACTOR if isinstance(options, GpuPoolOptions) else 1,
    )
    fits = any(node.room_for(size) for node in _eligible_nodes(name, selector, nodes))
    return size if fits or "memory_gib" in chosen else replace(size, memory_gib=0.0)


def _by_accelerator(name: str, nodes: Sequence[NodeGroup]) -> dict[str, str]:
    """Select by Ray's own GPU label, if the nodes have both small and large GPUs; else nothing."""
    kinds = {(node.labels or {}).get(ACCELERATOR, "") for node in nodes if node.gpus} - {""}
    large = {kind for kind in kinds if kind in LARGE_ACCELERATORS}
    chosen = {"large_gpu": large, "small_gpu": kinds - large}.get(name, set())
    if not large or large == kinds:
        return {}
    return {ACCELERATOR: f"in({','.join(sorted(chosen))})"} if chosen else {}


def _ignored_defaults(name: str, size: PoolSize, pools: PoolsOptions) -> Iterator[str]:
    """Yield a note for each default that the nodes do not allow."""
    options = _options(pools, name)
    if size.label_selector != options.label_selector and not size.label_selector:
        labels = describe_labels(options.label_selector)
        yield f"{name} may run on any node: none is known to have the label {labels}."
    if size.memory_gib != options.memory_gib:
        yield f"{name} reserves no memory: no node has {options.memory_gib:g} GiB available."


def _unusable_node_notes(name: str, size: PoolSize, nodes: Sequence[NodeGroup]) -> Iterator[str]:
    """Yield a note for each type of node that an autoscaler may add but the pool cannot use."""
    eligible = _eligible_nodes(name, size.label_selector, nodes)
    own = [node for node in eligible if node.max_nodes > node.up]
    for other in nodes:
        is_cheaper = own and other.cpus <= min(node.cpus for node in own)
        would_do = size.gpus and other.max_nodes > other.up and other.room_for(size)
        if is_cheaper and would_do and not other.can_host(name, size.label_selector):
            yield (
                f"{name} may make the autoscaler add nodes of type {other.name}, which its actors "
                "fit on but do not select: Ray Data's requests have no labels. Give each actor "
                "more CPUs or memory than those nodes have."
            )


def _share_scarce(
    wanted: Mapping[str, PoolSize],
    pools: PoolsOptions,
    nodes: Sequence[NodeGroup],
    step_groups: int,
) -> dict[str, PoolSize]:
    """Share scarce resources equally, where no share was set.

    If there can only be a single GPU, the GPU pools share it. If there can be fewer CPUs than
    step groups, these share them.
    """
    on_gpus = {name: size for name, size in wanted.items() if name != "cpu"}
    eligible = [
        n
        for name, size in on_gpus.items()
        for n in _eligible_nodes(name, size.label_selector, nodes)
    ]
    gpus = sum({id(node): node.gpus * node.max_nodes for node in eligible}.values())
    if len(on_gpus) > 1 and gpus == 1:
        wanted = {**wanted, **_unless_set(pools, on_gpus, gpus=1 / len(on_gpus))}
    cpus = sum(node.cpus * node.max_nodes for node in nodes)
    share = math.floor(100 * cpus / step_groups) / 100
    return _unless_set(pools, wanted, cpus=share) if 0 < cpus < step_groups else dict(wanted)


def _unless_set(
    pools: PoolsOptions, sizes: Mapping[str, PoolSize], **default: float
) -> dict[str, PoolSize]:
    """The sizes with another default for a field; it applies where the field was not set."""
    return {
        name: size
        if default.keys() & _options(pools, name).model_fields_set
        else replace(size, **default)  # type: ignore[arg-type] # only numbers are shared
        for name, size in sizes.items()
    }


def _max_actors(
    wanted: Mapping[str, PoolSize], nodes: Sequence[NodeGroup], step_groups: Sequence[str]
) -> dict[str, int]:
    """The number of actors of each pool that fit, together with those of the others.

    GPU pools come first. The step groups of the CPU pool then get equal shares: if actors of one
    group took all CPUs, the others would never start.
    """
    eligible = {
        name: _eligible_nodes(name, size.label_selector, nodes) for name, size in wanted.items()
    }
    room = {
        name: sum(node.max_nodes * node.room_for(size) for node in eligible[name])
        for name, size in wanted.items()
    }
    if {"small_gpu", "large_gpu"} <= set(wanted):
        shared = [node for node in eligible["small_gpu"] if node in eligible["large_gpu"]]
        gpus = sum(node.max_nodes * node.gpus for node in shared)
        removing = max(gpus // _GPUS_PER_REMOVING_GPU, 1 if gpus > 1 else gpus / 2)
        for name, part in (("small_gpu", removing), ("large_gpu", gpus - removing)):
            alone = sum(node.max_nodes * node.room_for(wanted[name]) for node in shared)
            room[name] += _floor(part / wanted[name].gpus) - alone if alone else 0
    if "cpu" in wanted and room["cpu"]:
        on_gpus = [name for name in wanted if name != "cpu"]
        taken = sum(wanted[name].cpus * room[name] for name in on_gpus)
        left = room["cpu"] - math.ceil(taken / wanted["cpu"].cpus)
        room["cpu"] = max(left // step_groups.count("cpu"), 1)
        if gpu_actors := min((room[name] for name in on_gpus), default=0):
            room["cpu"] = min(room["cpu"], _CPU_ACTORS_PER_GPU_ACTOR * gpu_actors)
    return room


def unplaced(
    sizes: Mapping[str, PoolSize], nodes: Sequence[NodeGroup], step_groups: Sequence[str]
) -> list[str]:
    """Place the actors that a run starts with one by one; describe those that do not fit."""
    wanted = {name: size.min_actors * step_groups.count(name) for name, size in sizes.items()}
    # A group can have thousands of nodes, but never needs more than one per actor.
    free = [node for node in nodes for _ in range(min(node.max_nodes, sum(wanted.values())))]
    problems = []
    for name, size in sorted(sizes.items(), key=lambda item: -item[1].gpus):
        for number in range(wanted[name]):
            fitting = (
                i
                for i, node in enumerate(free)
                if node.can_host(name, size.label_selector) and node.room_for(size)
            )
            index = next(fitting, None)
            if index is None:
                problems.append(_shortage(name, size, nodes, number, wanted[name]))
                break
            free[index] = free[index].without_actor(size)
    return problems


def _shortage(
    name: str, size: PoolSize, nodes: Sequence[NodeGroup], placed: int, wanted: int
) -> str:
    """Format why no further actor of a pool can start."""
    eligible = _eligible_nodes(name, size.label_selector, nodes)
    labels = describe_labels(size.label_selector)
    where = f"node with the label {labels}" if labels else "node"
    if not eligible:
        return f"{name}: there is no {where}."
    lacks = [
        ("GPU", size.gpus, max(node.gpus for node in eligible)),
        ("GiB of memory", size.memory_gib, max(node.memory_gib for node in eligible)),
        ("CPU", size.cpus, max(node.cpus for node in eligible)),
    ]
    for resource, required, largest in lacks:
        if required > largest + _ROUNDING:
            limit = f"no {where} has more than {largest:g}"
            return f"{name}: each actor needs {required:g} {resource}, but {limit}."
    gpus = sum(node.gpus * node.max_nodes for node in eligible)
    cpus = sum(node.cpus * node.max_nodes for node in eligible)
    return (
        f"{name}: of the {wanted} actors that a run starts with, only {placed} fit; its nodes "
        f"have {gpus:g} GPUs and {cpus:g} CPUs in total, for all pools."
    )


def describe_labels(selector: Mapping[str, str]) -> str:
    """Format a label selector, such as ``gpu-tier=large``."""
    return ", ".join(f"{name}={value}" for name, value in selector.items())
