"""How large a run's pools are: from what is asked for, and from the nodes that a cluster can have.

Pure functions; :mod:`cluster.nodes` asks Ray for the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cluster.pools import CpuPool, GpuPool, Pools, PoolSize, selects

#: The label by which Ray itself tells a node's GPUs.
ACCELERATOR = "ray.io/accelerator-type"

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

#: Of GPUs that both GPU pools can use, one in so many removes; refining takes far longer.
_REMOVING_ONE_IN = 5


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes of one shape: those that are up, and those that an autoscaler may add.

    Attributes:
        name: of the autoscaler's node type; empty without one.
        cpus: of each node.
        gpus: of each node.
        memory_gib: of each node, that Ray gives to actors.
        labels: of each node. None where no node is up yet: Ray does not tell node types' labels.
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

    def may_be_of(self, pool: str, selector: Mapping[str, str]) -> bool:
        """Whether a pool's actors may run here, as far as one knows."""
        if self.labels is not None:
            return selects(selector, self.labels)
        return not selector or self.is_named_after(pool)

    def is_named_after(self, pool: str) -> bool:
        """Whether its name says that it is meant for a pool, e.g. ``spot-large-gpu``."""
        return pool in self.name.lower().replace("-", "_")

    def room_for(self, size: PoolSize) -> int:
        """For how many actors of a pool one node has room."""
        rooms = [self.cpus / size.cpus]
        if size.gpus >= 1:
            rooms.append(self.gpus / size.gpus)
        elif size.gpus:
            rooms.append(int(self.gpus) * math.floor(1 / size.gpus + _ROUNDING))
        if size.memory_gib:
            rooms.append(self.memory_gib / size.memory_gib)
        return math.floor(min(rooms) + _ROUNDING)


#: Three thirds of a CPU are one.
_ROUNDING = 1e-6


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


def has_gpus(nodes: Sequence[NodeGroup]) -> bool:
    """Whether there is a GPU, or may be one."""
    return any(node.gpus and node.possible for node in nodes)


def size_pools(
    pools: Pools,
    nodes: Sequence[NodeGroup],
    groups: Sequence[str],
    blocks: int,
    taken_cpus: float = 0.0,
) -> Sizing:
    """Sizes for the pools that a job uses.

    Args:
        pools: what is asked for.
        nodes: of the cluster.
        groups: the pool of each part of the job, in order; one pool can have several parts.
        blocks: of work, at the beginning; one or more.
        taken_cpus: of the nodes that are up, by other jobs.
    """
    asked = {name: _asked(name, pools, nodes) for name in dict.fromkeys(groups)}
    notes = [note for name in asked for note in _left_out(name, asked[name], pools)]
    asked = _sharing_cpus(_sharing_a_gpu(asked, pools, nodes), pools, nodes, len(groups))
    up = [replace(node, possible=node.up) for node in nodes]
    most, ready = _most(asked, nodes, groups), _most(asked, up, groups)
    sizes: dict[str, PoolSize] = {}
    for name, size in asked.items():
        options = _options(pools, name)
        limit = options.max_actors or max(most[name], options.min_actors)
        if options.max_actors and options.max_actors > most[name]:
            notes.append(f"{name} may have {options.max_actors} actors, of which {most[name]} fit.")
        least = min(options.min_actors, blocks)  # of more than blocks Ray Data complains
        now = min(ready[name], limit, blocks)
        if len(asked) == 1 and name == "cpu":
            limit = max(min(limit, blocks), least)
            now = min(max(now - math.ceil(taken_cpus / size.cpus), 1), limit)
            least = max(least, now)
        sizes[name] = replace(size, min_actors=least, max_actors=limit, ready_actors=now)
    notes += [note for name, size in sizes.items() for note in _mistakable(name, size, nodes)]
    return Sizing(sizes, notes, unplaced(sizes, nodes, groups))


def _options(pools: Pools, name: str) -> CpuPool:
    options: CpuPool = getattr(pools, name)
    return options


def _asked(name: str, pools: Pools, nodes: Sequence[NodeGroup]) -> PoolSize:
    """What each actor takes: as it was set, or by default as the nodes allow it."""
    options = _options(pools, name)
    chosen = options.model_fields_set
    selector = options.label_selector
    if "label_selector" not in chosen and not _is_known(name, selector, nodes):
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
    if "memory_gib" not in chosen and not any(
        node.room_for(size) for node in _of(name, size, nodes)
    ):
        size = replace(size, memory_gib=0.0)
    return size


def _of(name: str, size: PoolSize, nodes: Sequence[NodeGroup]) -> list[NodeGroup]:
    return [n for n in nodes if n.possible and n.may_be_of(name, size.label_selector)]


def _is_known(name: str, selector: Mapping[str, str], nodes: Sequence[NodeGroup]) -> bool:
    return any(node.possible and node.may_be_of(name, selector) for node in nodes)


def _by_accelerator(name: str, nodes: Sequence[NodeGroup]) -> dict[str, str]:
    """Where there are small and large GPUs without labels of ours, those that Ray gives itself."""
    kinds = {(node.labels or {}).get(ACCELERATOR, "") for node in nodes if node.gpus} - {""}
    large = {kind for kind in kinds if kind in LARGE_ACCELERATORS}
    chosen = {"large_gpu": large, "small_gpu": kinds - large}.get(name, set())
    if not large or large == kinds:
        return {}
    return {ACCELERATOR: f"in({','.join(sorted(chosen))})"} if chosen else {}


def _left_out(name: str, size: PoolSize, pools: Pools) -> Iterator[str]:
    """Tell which defaults the nodes do not allow."""
    options = _options(pools, name)
    if size.label_selector != options.label_selector and not size.label_selector:
        told = describe_labels(options.label_selector)
        yield f"{name} is not pinned: no node is known to have the label {told}."
    if size.memory_gib != options.memory_gib:
        yield f"{name} reserves no memory: no node has {options.memory_gib:g} GiB for it."


def _mistakable(name: str, size: PoolSize, nodes: Sequence[NodeGroup]) -> Iterator[str]:
    """Tell which nodes an autoscaler may add in vain: Ray Data asks it without labels."""
    own = [node for node in _of(name, size, nodes) if node.possible > node.up]
    for other in nodes:
        is_cheaper = own and other.cpus <= min(node.cpus for node in own)
        would_do = size.gpus and other.possible > other.up and other.room_for(size)
        if is_cheaper and would_do and not other.may_be_of(name, size.label_selector):
            yield (
                f"{name} may have the autoscaler add nodes of type {other.name}, too, on which its "
                "actors have room but must not run: Ray Data asks it without labels. Let each "
                "actor take more CPUs or memory than those have."
            )


def _sharing_cpus(
    asked: dict[str, PoolSize], pools: Pools, nodes: Sequence[NodeGroup], parts: int
) -> dict[str, PoolSize]:
    """Where there are fewer CPUs than parts of the job, give each part an equal share of them."""
    cpus = sum(node.cpus * node.possible for node in nodes)
    if not 0 < cpus < parts:
        return asked
    share = math.floor(100 * cpus / parts) / 100
    return {
        name: size
        if "cpus" in _options(pools, name).model_fields_set
        else replace(size, cpus=share)
        for name, size in asked.items()
    }


def _sharing_a_gpu(
    asked: dict[str, PoolSize], pools: Pools, nodes: Sequence[NodeGroup]
) -> dict[str, PoolSize]:
    """Give each GPU pool a half of the only GPU there can be, unless shares were set."""
    names = [name for name in asked if name != "cpu"]
    usable = {id(n): n.gpus * n.possible for name in names for n in _of(name, asked[name], nodes)}
    if len(names) < 2 or sum(usable.values()) != 1:
        return asked
    shares = {
        name: replace(asked[name], gpus=1 / len(names))
        for name in names
        if "gpus" not in _options(pools, name).model_fields_set
    }
    return asked | shares


def _most(
    asked: Mapping[str, PoolSize], nodes: Sequence[NodeGroup], groups: Sequence[str]
) -> dict[str, int]:
    """For how many actors of each pool there is room, beside the others.

    GPU pools go first, then those on CPUs, whose parts get equal shares: an actor of one part that
    takes the last CPU would leave the others without any.
    """
    places = {name: _of(name, size, nodes) for name, size in asked.items()}
    most = {name: sum(n.possible * n.room_for(asked[name]) for n in places[name]) for name in asked}
    if {"small_gpu", "large_gpu"} <= set(asked):
        shared = [node for node in places["small_gpu"] if node in places["large_gpu"]]
        gpus = sum(node.possible * node.gpus for node in shared)
        removing = max(gpus // _REMOVING_ONE_IN, 1 if gpus > 1 else gpus / 2)
        for name, part in (("small_gpu", removing), ("large_gpu", gpus - removing)):
            room = sum(node.possible * node.room_for(asked[name]) for node in shared)
            most[name] += math.floor(part / asked[name].gpus + _ROUNDING) - room if room else 0
    if "cpu" in asked:
        taken = sum(asked[name].cpus * most[name] for name in asked if name != "cpu")
        left = most["cpu"] - math.ceil(taken / asked["cpu"].cpus)
        most["cpu"] = max(left // groups.count("cpu"), 0 if not most["cpu"] else 1)
        gpu_actors = min((most[name] for name in asked if name != "cpu"), default=0)
        if gpu_actors:
            most["cpu"] = min(most["cpu"], _CPU_ACTORS_PER_GPU_ACTOR * gpu_actors)
    return most


def unplaced(
    sizes: Mapping[str, PoolSize], nodes: Sequence[NodeGroup], groups: Sequence[str]
) -> list[str]:
    """Place the actors that a run begins with, one after the other; tell which find no room."""
    wanted = {name: size.min_actors * groups.count(name) for name, size in sizes.items()}
    # Of a group that may have thousands of nodes, no more matter than there are actors.
    free = [node for node in nodes for _ in range(min(node.possible, sum(wanted.values())))]
    problems = []
    for name, size in sorted(sizes.items(), key=lambda item: -item[1].gpus):
        for number in range(wanted[name]):
            fitting = (i for i, node in enumerate(free) if _fits(name, size, node))
            place = next(fitting, None)
            if place is None:
                problems.append(_why_not(name, size, nodes, number, wanted[name]))
                break
            free[place] = _with_less(free[place], size)
    return problems


def _with_less(node: NodeGroup, size: PoolSize) -> NodeGroup:
    """What is left of a node beside an actor."""
    return replace(
        node,
        cpus=node.cpus - size.cpus,
        gpus=node.gpus - size.gpus,
        memory_gib=node.memory_gib - size.memory_gib,
    )


def _fits(name: str, size: PoolSize, node: NodeGroup) -> bool:
    return (
        node.may_be_of(name, size.label_selector)
        and node.cpus + _ROUNDING >= size.cpus
        and node.gpus + _ROUNDING >= size.gpus
        and (not size.memory_gib or node.memory_gib >= size.memory_gib)
    )


def _why_not(
    name: str, size: PoolSize, nodes: Sequence[NodeGroup], placed: int, wanted: int
) -> str:
    places = _of(name, size, nodes)
    labels = describe_labels(size.label_selector)
    where = f"node with the label {labels}" if size.label_selector else "node"
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
