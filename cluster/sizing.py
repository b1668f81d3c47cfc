"""How large a run's pools are: from what is asked for, and from the nodes that a cluster can have.

Pure functions; :mod:`cluster.nodes` asks Ray for the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cluster.pools import CpuPool, GpuPool, NodeType, Pools, PoolSize, selects

#: Ray's own label for the model of a node's GPUs.
ACCELERATOR = "ray.io/accelerator-type"

#: Ray's own label for which of the autoscaler's node types a node is of.
NODE_TYPE = "ray.io/node-group"

#: Accelerators with the 40 GB or more that a refiner takes without offloading, as Ray names them.
LARGE_ACCELERATORS = (
    *("A100", "A100-40G", "A100-80G", "H20", "H100", "H200", "B200", "B300", "GB200", "GB300"),
    *("L40S", "RTX-PRO-6000", "AMD-Instinct-MI300X-OAM", "AMD-Instinct-MI325X-OAM"),
)

#: CPU actors of each part of a job, for each GPU actor of its smaller GPU pool. Ray Data grows a
#: pool by the work that waits before it, which for the first part is the whole catalog: without
#: a limit that pool takes every CPU there can be, and nodes are started for it in vain. A photo of
#: 24 MP takes about 1 s of a CPU before LaMa and 0.5 s after it, LaMa takes 0.34 s of an L4.
_CPU_ACTORS_PER_GPU_ACTOR = 4

#: Of GPUs that both GPU pools can use, one in this number removes; refining takes far longer.
_GPUS_PER_REMOVING_GPU = 5

#: Three thirds of a CPU are one.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class NodeShape:
    """Nodes of one shape: those that are up, and those that an autoscaler may add.

    Attributes:
        name: of the autoscaler's node type; empty without one.
        cpus: of each node.
        gpus: of each node.
        memory_gib: of each node, that Ray gives to actors.
        labels: of each node. None where no node is up yet: Ray does not report node types' labels.
        up: how many nodes are there now.
        possible: how many there can be, those that are up included.
    """

    name: str
    cpus: float
    gpus: float = 0.0
    memory_gib: float = 0.0
    labels: Mapping[str, str] | None = field(default_factory=dict)
    up: int = 1
    possible: int = 1

    @classmethod
    def potential(cls, name: str, node_type: NodeType) -> NodeShape:
        """The nodes that an autoscaler may add of a type, none of which is up."""
        labels = {NODE_TYPE: name, **node_type.labels}
        sizes = (node_type.cpus, node_type.gpus, node_type.memory_gib)
        return cls(name, *sizes, labels, up=0, possible=node_type.max_nodes)

    def can_host(self, pool: str, selector: Mapping[str, str]) -> bool:
        """Whether a pool's actors may run here, as far as one knows."""
        if self.labels is not None:
            return selects(selector, self.labels)
        return not selector or self.is_named_for(pool)

    def is_named_for(self, pool: str) -> bool:
        """Whether its name says that it is meant for a pool, e.g. ``spot-large-gpu``."""
        return pool in self.name.lower().replace("-", "_")

    def room_for(self, size: PoolSize) -> int:
        """For how many actors of a pool one node has room."""
        rooms = [self.cpus / size.cpus]
        if size.gpus >= 1:
            rooms.append(self.gpus / size.gpus)
        elif size.gpus:  # a share is one of a single GPU
            whole, rest = divmod(self.gpus + _ROUNDING, 1)
            rooms.append(whole * _floor(1 / size.gpus) + _floor(rest / size.gpus))
        if size.memory_gib:
            rooms.append(self.memory_gib / size.memory_gib)
        return _floor(min(rooms))

    def beside(self, size: PoolSize) -> NodeShape:
        """What is left of a node beside an actor."""
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
    """The pools of a run.

    Attributes:
        sizes: by pool.
        notes: what one should know; the run works.
        problems: what is missing; the run would wait for ever.
    """

    sizes: Mapping[str, PoolSize]
    notes: Sequence[str] = ()
    problems: Sequence[str] = ()


def has_gpus(nodes: Sequence[NodeShape]) -> bool:
    """Whether there is a GPU, or may be one."""
    return any(node.gpus and node.possible for node in nodes)


def size_pools(
    pools: Pools,
    nodes: Sequence[NodeShape],
    groups: Sequence[str],
    blocks: int,
    used_cpus: float = 0.0,
) -> Sizing:
    """Sizes for the pools that a job uses.

    Args:
        pools: what is asked for.
        nodes: of the cluster.
        groups: the pool of each part of the job, in order; one pool can have several parts.
        blocks: of work, at the beginning; one or more.
        used_cpus: of the nodes that are up, by other jobs.
    """
    wanted = {name: _wanted(name, pools, nodes) for name in dict.fromkeys(groups)}
    notes = [note for name, size in wanted.items() for note in _ignored_defaults(name, size, pools)]
    wanted = _shared(wanted, pools, nodes, len(groups))
    up = [replace(node, possible=node.up) for node in nodes]
    room, ready = _room(wanted, nodes, groups), _room(wanted, up, groups)
    sizes: dict[str, PoolSize] = {}
    for name, size in wanted.items():
        options = _options(pools, name)
        limit = options.max_actors or max(room[name], options.min_actors)
        if options.max_actors and options.max_actors > room[name]:
            notes.append(f"{name} may have {options.max_actors} actors, of which {room[name]} fit.")
        first = min(options.min_actors, blocks)  # of more than blocks Ray Data complains
        now = min(ready[name], limit, blocks)
        if len(wanted) == 1 and name == "cpu":
            limit = max(min(limit, blocks), first)
            now = min(max(now - math.ceil(used_cpus / size.cpus), 1), limit)
            first = max(first, now)
        sizes[name] = replace(size, min_actors=first, max_actors=limit, ready_actors=now)
    notes += [note for name, size in sizes.items() for note in _misleading_nodes(name, size, nodes)]
    return Sizing(sizes, notes, unplaced(sizes, nodes, groups))


def _options(pools: Pools, name: str) -> CpuPool:
    options: CpuPool = getattr(pools, name)
    return options


def _places(name: str, selector: Mapping[str, str], nodes: Sequence[NodeShape]) -> list[NodeShape]:
    """The nodes that a pool's actors may run on."""
    return [node for node in nodes if node.possible and node.can_host(name, selector)]


def _wanted(name: str, pools: Pools, nodes: Sequence[NodeShape]) -> PoolSize:
    """What each actor takes: as it was set, or by default as the nodes allow it."""
    options = _options(pools, name)
    chosen = options.model_fields_set
    selector = options.label_selector
    if "label_selector" not in chosen and not _places(name, selector, nodes):
        selector = _by_accelerator(name, nodes)
    size = PoolSize(
        options.min_actors,
        options.min_actors,
        cpus=options.cpus,
        gpus=options.gpus if isinstance(options, GpuPool) else 0.0,
        memory_gib=options.memory_gib,
        label_selector=selector,
        tasks_in_flight=options.tasks_in_flight,
    )
    fits = any(node.room_for(size) for node in _places(name, selector, nodes))
    return size if fits or "memory_gib" in chosen else replace(size, memory_gib=0.0)


def _by_accelerator(name: str, nodes: Sequence[NodeShape]) -> dict[str, str]:
    """Where there are small and large GPUs without labels of ours, those that Ray gives itself."""
    kinds = {(node.labels or {}).get(ACCELERATOR, "") for node in nodes if node.gpus} - {""}
    large = {kind for kind in kinds if kind in LARGE_ACCELERATORS}
    chosen = {"large_gpu": large, "small_gpu": kinds - large}.get(name, set())
    if not large or large == kinds:
        return {}
    return {ACCELERATOR: f"in({','.join(sorted(chosen))})"} if chosen else {}


def _ignored_defaults(name: str, size: PoolSize, pools: Pools) -> Iterator[str]:
    """Note which defaults the nodes do not allow."""
    options = _options(pools, name)
    if size.label_selector != options.label_selector and not size.label_selector:
        labels = describe_labels(options.label_selector)
        yield f"{name} is not pinned: no node is known to have the label {labels}."
    if size.memory_gib != options.memory_gib:
        yield f"{name} reserves no memory: no node has {options.memory_gib:g} GiB for it."


def _misleading_nodes(name: str, size: PoolSize, nodes: Sequence[NodeShape]) -> Iterator[str]:
    """Note which nodes an autoscaler may add in vain: Ray Data asks it without labels."""
    places = _places(name, size.label_selector, nodes)
    own = [node for node in places if node.possible > node.up]
    for other in nodes:
        is_cheaper = own and other.cpus <= min(node.cpus for node in own)
        would_do = size.gpus and other.possible > other.up and other.room_for(size)
        if is_cheaper and would_do and not other.can_host(name, size.label_selector):
            yield (
                f"{name} may have the autoscaler add nodes of type {other.name}, too, on which its "
                "actors have room but must not run: Ray Data asks it without labels. Let each "
                "actor take more CPUs or memory than those have."
            )


def _shared(
    wanted: Mapping[str, PoolSize], pools: Pools, nodes: Sequence[NodeShape], parts: int
) -> dict[str, PoolSize]:
    """Give the GPU pools equal shares of the only GPU there can be; and all parts of the job of
    CPUs that are fewer than they; unless shares were set.
    """
    on_gpus = {name: size for name, size in wanted.items() if name != "cpu"}
    places = [
        n for name, size in on_gpus.items() for n in _places(name, size.label_selector, nodes)
    ]
    gpus = sum({id(node): node.gpus * node.possible for node in places}.values())
    if len(on_gpus) > 1 and gpus == 1:
        wanted = {**wanted, **_unless_set(pools, on_gpus, gpus=1 / len(on_gpus))}
    cpus = sum(node.cpus * node.possible for node in nodes)
    share = math.floor(100 * cpus / parts) / 100
    return _unless_set(pools, wanted, cpus=share) if 0 < cpus < parts else dict(wanted)


def _unless_set(
    pools: Pools, sizes: Mapping[str, PoolSize], **default: float
) -> dict[str, PoolSize]:
    """The sizes with another default of a field, which holds where the field was not set."""
    return {
        name: size
        if default.keys() & _options(pools, name).model_fields_set
        else replace(size, **default)  # type: ignore[arg-type] # only numbers are shared
        for name, size in sizes.items()
    }


def _room(
    wanted: Mapping[str, PoolSize], nodes: Sequence[NodeShape], groups: Sequence[str]
) -> dict[str, int]:
    """For how many actors of each pool there is room, beside the others.

    GPU pools go first, then those on CPUs, whose parts get equal shares: an actor of one part that
    takes the last CPU would leave the others without any.
    """
    places = {name: _places(name, size.label_selector, nodes) for name, size in wanted.items()}
    room = {
        name: sum(node.possible * node.room_for(size) for node in places[name])
        for name, size in wanted.items()
    }
    if {"small_gpu", "large_gpu"} <= set(wanted):
        shared = [node for node in places["small_gpu"] if node in places["large_gpu"]]
        gpus = sum(node.possible * node.gpus for node in shared)
        removing = max(gpus // _GPUS_PER_REMOVING_GPU, 1 if gpus > 1 else gpus / 2)
        for name, part in (("small_gpu", removing), ("large_gpu", gpus - removing)):
            alone = sum(node.possible * node.room_for(wanted[name]) for node in shared)
            room[name] += _floor(part / wanted[name].gpus) - alone if alone else 0
    if "cpu" in wanted and room["cpu"]:
        on_gpus = [name for name in wanted if name != "cpu"]
        taken = sum(wanted[name].cpus * room[name] for name in on_gpus)
        left = room["cpu"] - math.ceil(taken / wanted["cpu"].cpus)
        room["cpu"] = max(left // groups.count("cpu"), 1)
        if gpu_actors := min((room[name] for name in on_gpus), default=0):
            room["cpu"] = min(room["cpu"], _CPU_ACTORS_PER_GPU_ACTOR * gpu_actors)
    return room


def unplaced(
    sizes: Mapping[str, PoolSize], nodes: Sequence[NodeShape], groups: Sequence[str]
) -> list[str]:
    """Place the actors that a run begins with, one after the other; say which find no room."""
    wanted = {name: size.min_actors * groups.count(name) for name, size in sizes.items()}
    # Of a group that may have thousands of nodes, no more matter than there are actors.
    free = [node for node in nodes for _ in range(min(node.possible, sum(wanted.values())))]
    problems = []
    for name, size in sorted(sizes.items(), key=lambda item: -item[1].gpus):
        for number in range(wanted[name]):
            fitting = (
                i
                for i, node in enumerate(free)
                if node.can_host(name, size.label_selector) and node.room_for(size)
            )
            place = next(fitting, None)
            if place is None:
                problems.append(_shortage(name, size, nodes, number, wanted[name]))
                break
            free[place] = free[place].beside(size)
    return problems


def _shortage(
    name: str, size: PoolSize, nodes: Sequence[NodeShape], placed: int, wanted: int
) -> str:
    """Why no further actor of a pool can start."""
    places = _places(name, size.label_selector, nodes)
    labels = describe_labels(size.label_selector)
    where = f"node with the label {labels}" if labels else "node"
    if not places:
        return f"{name}: there is no {where}."
    lacks = [
        ("GPU", size.gpus, max(node.gpus for node in places)),
        ("GiB of memory", size.memory_gib, max(node.memory_gib for node in places)),
        ("CPU", size.cpus, max(node.cpus for node in places)),
    ]
    for what, asked, largest in lacks:
        if asked > largest + _ROUNDING:
            has = f"no {where} has more than {largest:g}"
            return f"{name}: each actor takes {asked:g} {what}, and {has}."
    gpus = sum(node.gpus * node.possible for node in places)
    cpus = sum(node.cpus * node.possible for node in places)
    return (
        f"{name}: of the {wanted} actors that a run begins with, {placed} find room; its nodes "
        f"have {gpus:g} GPUs and {cpus:g} CPUs together, for all pools."
    )


def describe_labels(selector: Mapping[str, str]) -> str:
    """E.g. ``gpu-tier=large``."""
    return ", ".join(f"{name}={value}" for name, value in selector.items())
