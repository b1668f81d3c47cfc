"""How many nodes a job takes, how long and for how much: by arithmetic alone.

Each part of a job is a queue with servers; the part that needs most time of its actors is the
bottleneck, and all others are given as many actors as keep up with it. What comes on top: the first
nodes and actors have to start, further ones come step by step, and some are lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.machines import MACHINES
from cluster.pools import NodeType, Pools, PoolSize
from cluster.sizing import NodeGroup, has_gpus, size_pools
from jobs.estimate.calibration import Calibration
from jobs.estimate.work import Part
from jobs.job import grouped
from manifests.errors import ClusterError
from manifests.plan import rows_per_shard_of
from stages.step import Step

#: The largest demand first; where one type of nodes serves several, it starts as its first does.
_POOLS = ("large_gpu", "small_gpu", "cpu")

#: Ray Data asks for nodes at most this often (its rate-based cluster autoscaler, Ray 2.60 to 2.63),
#: and each time for no more than twice the throughput, or so many GPUs and CPUs more.
ASKS_EVERY_S = 10.0
GROWS_BY, MOST_MORE_GPUS, MOST_MORE_CPUS = 2.0, 32, 256

#: Parts that are not the bottleneck get so many actors more than they need, lest they become it
#: whenever a node is lost.
_ROOM = 1.25

#: So near does the search for the smallest fleet come: to a millionth of the time.
_HALVINGS = 20


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes of one type that a job may have.

    Attributes:
        group: their shape and labels; ``possible``: so many at most.
        pool: for which they are meant.
        start_s: until one is up.
        price: dollars for an hour of each.
    """

    group: NodeGroup
    pool: str
    start_s: float
    price: float

    @property
    def name(self) -> str:
        """Of their type."""
        return self.group.name


@dataclass(frozen=True, slots=True)
class Site:
    """Where a job is to run.

    Attributes:
        nodes: which there may be.
        sizes: of its pools, as a run would have them.
        actor_start_s: by pool.
        losses_per_hour: of each node.
        driver_start_s: before the first node is asked for, and after the last photo.
        idle_s: after so long without actors a node is stopped.
        at_once: a run asks for all of its actors before it begins, by `min_actors`.
    """

    nodes: Sequence[Nodes]
    sizes: Mapping[str, PoolSize]
    actor_start_s: Mapping[str, float]
    losses_per_hour: float
    driver_start_s: float
    idle_s: float
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many nodes, and what they would do.

    Attributes:
        nodes: type -> how many.
        actors: of each part of the job, at most.
        seconds: from the command to the end.
        start_s: of these, until the first photo is worked on.
        growth_s: of these, what is lost since nodes come step by step.
        cost_usd: of the nodes.
        bottleneck: which part, from 0.
    """

    nodes: Mapping[str, int]
    actors: Sequence[int]
    seconds: float
    start_s: float
    growth_s: float
    cost_usd: float
    bottleneck: int

    def gpus(self, site: Site, pool: str) -> float:
        """Of the nodes that are meant for a pool."""
        groups = {each.name: each.group for each in site.nodes if each.pool == pool}
        return sum(self.nodes.get(name, 0) * group.gpus for name, group in groups.items())


def site_of(
    pools: Pools,
    calibration: Calibration,
    prices: Mapping[str, float] | None,
    losses_per_hour: float | None,
    *,
    steps: Sequence[Step],
    rows: int,
) -> Site:
    """Where a job would run: on the nodes of the pools' file, or else of the deploy files.

    Args:
        pools: as asked for.
        calibration: for starts, and what prices and losses are not given.
        prices: type of nodes -> dollars for an hour; None: the calibration's.
        losses_per_hour: of each node; None: the calibration's.
        steps: of the recipe.
        rows: of the manifest.

    Raises:
        ClusterError: ``cluster.too_small``: not even one actor of each part finds room;
            ``cluster.bad_prices``: a type of nodes has none.
    """
    types = pools.nodes or {each.group: each.node_type() for each in MACHINES}
    groups = [_group(name, each) for name, each in types.items()]
    if all(step.pool == "cpu" for step in steps) and not all(each.gpus for each in groups):
        groups = [each for each in groups if not each.gpus]  # no autoscaler adds GPUs for CPUs
    parts = [pool for pool, _ in grouped(steps, has_gpus=has_gpus(groups))]
    sizing = size_pools(pools, groups, parts, max(-(-rows // rows_per_shard_of(rows)), 1))
    if sizing.problems:
        raise ClusterError("cluster.too_small", " ".join(sizing.problems))
    nodes = []
    for group in groups:
        pool = _meant_for(group)
        if prices is not None and group.name not in prices:
            raise ClusterError("cluster.bad_prices", f"There is no price for nodes {group.name}.")
        price = calibration.price[pool].value if prices is None else prices[group.name]
        nodes.append(Nodes(group, pool, calibration.node_start_s[pool].value, price))
    run = calibration.run
    losses = run["losses_per_hour"].value if losses_per_hour is None else losses_per_hour
    return Site(
        nodes,
        sizing.sizes,
        {pool: each.value for pool, each in calibration.actor_start_s.items()},
        losses,
        run["driver_start_s"].value,
        run["idle_s"].value,
    )


def _group(name: str, node: NodeType) -> NodeGroup:
    shape = (node.cpus, node.gpus, node.memory_gib)
    return NodeGroup(name, *shape, dict(node.labels), up=0, possible=node.max_nodes)


def _meant_for(group: NodeGroup) -> str:
    """The pool that a type of nodes is for, by its name, its labels, or whether it has GPUs."""
    for pool in _POOLS:
        if group.is_named_after(pool):
            return pool
    tier = (group.labels or {}).get("gpu-tier")
    if group.gpus:
        return "small_gpu" if tier == "small" else "large_gpu"
    return "cpu"


def most(parts: Sequence[Part], site: Site, rows: int, block: int) -> Fleet:
    """The fleet that is done first, with no more nodes than there may be, and none in vain."""
    limits = [site.sizes[part.pool].max_actors for part in parts]
    busy_s = max(rows * p.seconds / limit for p, limit in zip(parts, limits, strict=True))
    return _fleet(parts, site, rows, block, max(busy_s, 1e-9), limits=limits)


def in_time(
    parts: Sequence[Part], site: Site, rows: int, block: int, deadline_s: float
) -> Fleet | None:
    """The smallest fleet that is done in time, however large; None: with nodes that come step by
    step, none is.
    """
    slowest_s = max(deadline_s - _start_s(parts, site), 0.0)
    fastest_s = block * max(part.seconds for part in parts)  # each block has an actor of its own
    fleet = _fleet(parts, site, rows, block, fastest_s)
    if fleet.seconds > deadline_s:
        return None
    for _ in range(_HALVINGS):
        between_s = (fastest_s + slowest_s) / 2
        smaller = _fleet(parts, site, rows, block, between_s)
        if smaller.seconds <= deadline_s:
            fleet, fastest_s = smaller, between_s
        else:
            slowest_s = between_s
    return fleet


def is_possible(fleet: Fleet, site: Site) -> bool:
    """Whether there may be so many nodes."""
    limits = {each.name: each.group.possible for each in site.nodes}
    return all(count <= limits[name] for name, count in fleet.nodes.items())


def _fleet(
    parts: Sequence[Part],
    site: Site,
    rows: int,
    block: int,
    busy_s: float,
    *,
    limits: Sequence[int] | None = None,
) -> Fleet:
    """What is done with its work after so long, start and losses left out."""
    needs = [rows * part.seconds / busy_s for part in parts]
    needs = [need if need == max(needs) else _ROOM * need for need in needs]
    actors = [
        max(math.ceil(need - 1e-6), site.sizes[part.pool].min_actors)
        for part, need in zip(parts, needs, strict=True)
    ]
    if limits:
        actors = [min(count, limit) for count, limit in zip(actors, limits, strict=True)]
    times = [rows * part.seconds / count for part, count in zip(parts, actors, strict=True)]
    bottleneck = max(range(len(parts)), key=times.__getitem__)
    nodes = _nodes(parts, site, actors)
    start_s = _start_s(parts, site)
    work_s = rows * parts[bottleneck].seconds * _slowed(parts, site, block)
    worked_s, reached = _growing_s(parts[bottleneck], site, actors[bottleneck], work_s)
    if reached < actors[bottleneck]:  # it is done before all of them are there
        return _fleet(
            parts, site, rows, block, busy_s * actors[bottleneck] / reached, limits=limits
        )
    growth_s = worked_s - work_s / actors[bottleneck]
    # What is lost is done in a pass of its own, for which actors start anew.
    expected = site.losses_per_hour * sum(nodes.values()) * worked_s / 3600
    again_s = sum(site.actor_start_s[part.pool] for part in parts) if expected >= 1 else 0.0
    seconds = start_s + worked_s + again_s
    hours = (seconds + site.idle_s) / 3600
    cost = sum(nodes[each.name] * each.price * hours for each in site.nodes if each.name in nodes)
    return Fleet(nodes, actors, seconds, start_s, growth_s, cost, bottleneck)


def _nodes(parts: Sequence[Part], site: Site, actors: Sequence[int]) -> dict[str, int]:
    """Nodes for so many actors; CPU actors also take what the GPU nodes have left."""
    taken: dict[str, list[float]] = {}
    for part, count in zip(parts, actors, strict=True):
        if part.pool != "cpu":
            size, home = site.sizes[part.pool], home_of(part.pool, site)
            cpus, gpus, gib = taken.get(home.name, (0.0, 0.0, 0.0))
            more = (count * size.cpus, count * size.gpus, count * size.memory_gib)
            taken[home.name] = [cpus + more[0], gpus + more[1], gib + more[2]]
    groups = {each.name: each.group for each in site.nodes}
    nodes = {name: _so_many(groups[name], *needs) for name, needs in taken.items()}
    cpu = site.sizes.get("cpu")
    if cpu is None:
        return nodes
    wanted = cpu.cpus * sum(n for p, n in zip(parts, actors, strict=True) if p.pool == "cpu")
    for name, (cpus, _, _) in taken.items():
        if groups[name].may_be_of("cpu", cpu.label_selector):
            wanted -= nodes[name] * groups[name].cpus - cpus
    if wanted > 1e-6:
        home = home_of("cpu", site)
        nodes[home.name] = nodes.get(home.name, 0) + math.ceil(wanted / home.group.cpus - 1e-6)
    return nodes


def _so_many(group: NodeGroup, cpus: float, gpus: float, gib: float) -> int:
    """Nodes of a type that have so much together."""
    asked = [cpus / group.cpus, gpus / group.gpus]
    if group.memory_gib:
        asked.append(gib / group.memory_gib)
    return math.ceil(max(asked) - 1e-6)


def home_of(pool: str, site: Site) -> Nodes:
    """The type of nodes that is added for a pool: the first with room, its own if it can be."""
    size = site.sizes[pool]
    fitting = [
        each
        for each in site.nodes
        if each.group.may_be_of(pool, size.label_selector) and each.group.room_for(size)
    ]
    return min(fitting, key=lambda each: (each.pool != pool, each.group.gpus > size.gpus))


def _start_s(parts: Sequence[Part], site: Site) -> float:
    """Until the first photo is worked on: nodes start together, pools one after the other."""
    homes = {home_of(part.pool, site).start_s for part in parts}
    return site.driver_start_s + max(homes) + sum(site.actor_start_s[p.pool] for p in parts)


def growth(site: Site, pool: str, actors: int) -> list[int]:
    """How many actors of a pool there are, after each time that nodes were asked for."""
    if site.at_once:
        return [actors]
    size = site.sizes[pool]
    more = MOST_MORE_GPUS / size.gpus if size.gpus else MOST_MORE_CPUS / size.cpus
    counts = [min(size.min_actors, actors)]
    while counts[-1] < actors:
        now = counts[-1]
        counts.append(min(math.ceil(min(GROWS_BY * now, now + more)), actors))
    return counts


def _growing_s(part: Part, site: Site, actors: int, work_s: float) -> tuple[float, int]:
    """How long a part takes for so much work of its actors, while it grows to so many of them; and
    how many there are at its end.
    """
    step_s = ASKS_EVERY_S + home_of(part.pool, site).start_s + site.actor_start_s[part.pool]
    passed_s = 0.0
    for count in growth(site, part.pool, actors)[:-1]:
        if work_s <= count * step_s:
            return passed_s + work_s / count, count
        work_s -= count * step_s
        passed_s += step_s
    return passed_s + work_s / actors, actors


def _slowed(parts: Sequence[Part], site: Site, block: int) -> float:
    """By how much losses make a job longer: new nodes start, and what was in flight is redone."""
    slowest = max(parts, key=lambda part: part.seconds * site.sizes[part.pool].gpus)
    redone_s = site.sizes[slowest.pool].tasks_in_flight * block * slowest.seconds
    start_s = home_of(slowest.pool, site).start_s + site.actor_start_s[slowest.pool]
    return 1 + site.losses_per_hour / 3600 * (start_s + redone_s)


def limited(site: Site, fleet: Fleet, parts: Sequence[Part]) -> Site:
    """The site with room for no more than a fleet."""
    homes = {home_of(part.pool, site).name for part in parts}  # one is there when others are lost
    nodes = [
        replace(each, group=replace(each.group, possible=max(fleet.nodes.get(each.name, 0), least)))
        for each in site.nodes
        for least in [int(each.name in homes)]
    ]
    actors: dict[str, int] = {}
    for part, count in zip(parts, fleet.actors, strict=True):
        actors[part.pool] = max(actors.get(part.pool, 0), count)
    sizes = {}
    for pool, size in site.sizes.items():
        least = actors[pool] if site.at_once else size.min_actors
        sizes[pool] = replace(size, min_actors=least, max_actors=max(actors[pool], least))
    return replace(site, nodes=nodes, sizes=sizes)
