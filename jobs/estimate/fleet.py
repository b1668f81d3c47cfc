"""Computes nodes, time and cost for the parts of a job.

The part whose actors are busy longest is the bottleneck; the other parts get enough actors to keep
up with it. Added to this are the start of the first nodes and actors, the gradual arrival of
further ones (Ray Data's autoscaler), and the loss of spot nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.deploy import POOLS_FILE
from cluster.pools import Pools, PoolSize
from cluster.sizing import NodeShape, has_gpus, size_pools
from jobs.estimate.seconds import Part, defaults
from jobs.pipeline.placement import load_pools
from jobs.pipeline.spec import grouped
from manifests.errors import ClusterError
from manifests.planning.plan import choose_rows_per_shard
from stages.steps.base import Step

#: Ray Data's cluster autoscaler (2.60 to 2.63): min interval between requests, and per request max
#: growth, max additional GPUs and max additional CPUs.
_SCALE_INTERVAL_S, _MAX_GROWTH, _MAX_MORE_GPUS, _MAX_MORE_CPUS = 10.0, 2.0, 32, 256

#: Extra actors for parts that are not the bottleneck, so that a lost node does not make them one.
_HEADROOM = 1.25

#: Rows in flight in an actor, which are redone when its node is lost.
_ROWS_IN_FLIGHT = 32

#: Bisection steps of the search for the smallest fleet: exact to a millionth of the time.
_BISECTION_STEPS = 20


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes of one type that a job may use.

    Attributes:
        group: shape and labels; ``possible`` is the max number.
        pool: the pool they are intended for.
        start_s: seconds from request to ready.
        price: dollars per hour of each.
    """

    group: NodeShape
    pool: str
    start_s: float
    price: float


@dataclass(frozen=True, slots=True)
class Site:
    """The cluster on which a job runs.

    Attributes:
        nodes: by name of their type.
        sizes: of the pools, as a run would size them.
        spot_loss_rate: interruptions per node-hour.
    """

    nodes: Mapping[str, Nodes]
    sizes: Mapping[str, PoolSize]
    spot_loss_rate: float

    def home(self, pool: str) -> str:
        """The type of nodes that is added for a pool: its own, if its actors fit there."""
        size = self.sizes[pool]
        fitting = {
            name: (each.pool != pool, each.group.gpus)
            for name, each in self.nodes.items()
            if each.group.can_host(pool, size.label_selector) and each.group.room_for(size)
        }
        return min(fitting, key=fitting.__getitem__)


@dataclass(frozen=True, slots=True)
class Fleet:
    """A number of nodes, and the resulting time and cost.

    Attributes:
        nodes: type -> count.
        actors: max number for each part.
        seconds: from the command to the end, including ``start_s`` until the first photo starts,
            ``ramp_s`` for the gradual arrival of nodes, and ``lost_s`` for lost spot nodes.
        cost_usd: cost of the nodes.
        gpu_hours: GPU hours of the nodes.
        bottleneck: index of the slowest part.
    """

    nodes: Mapping[str, int]
    actors: Sequence[int]
    seconds: float
    start_s: float
    ramp_s: float
    lost_s: float
    cost_usd: float
    gpu_hours: float
    bottleneck: int


def site_of(
    pools: Pools,
    steps: Sequence[Step],
    rows: int,
    *,
    prices: Mapping[str, float] | None = None,
    spot_loss_rate: float | None = None,
) -> Site:
    """The nodes of the pools' file, or else of the deploy files, with the pools sized for them.

    Args:
        pools: the requested pools.
        steps: of the recipe.
        rows: of the manifest.
        prices: type of nodes -> dollars per hour; None: the defaults.
        spot_loss_rate: per node-hour; None: the default.

    Raises:
        ClusterError: ``cluster.too_small``: an actor of some part fits on no node;
            ``cluster.bad_prices``: a type of nodes has no price.
    """
    types = pools.nodes or load_pools(POOLS_FILE).nodes
    groups = [NodeShape.potential(name, each) for name, each in types.items()]
    if all(step.pool == "cpu" for step in steps) and not all(each.gpus for each in groups):
        groups = [
            each for each in groups if not each.gpus
        ]  # an autoscaler adds no GPU nodes for CPU work
    parts = [pool for pool, _ in grouped(steps, has_gpus=has_gpus(groups))]
    sizing = size_pools(pools, groups, parts, max(-(-rows // choose_rows_per_shard(rows)), 1))
    if sizing.problems:
        raise ClusterError("cluster.too_small", " ".join(sizing.problems))
    known = defaults()
    nodes = {}
    for group in groups:
        home = _intended_pool(group)
        if prices is not None and group.name not in prices:
            raise ClusterError("cluster.bad_prices", f"There is no price for nodes {group.name}.")
        price = known["price"][home].value if prices is None else prices[group.name]
        nodes[group.name] = Nodes(group, home, known["node_start_s"][home].value, price)
    if spot_loss_rate is None:
        spot_loss_rate = known["run"]["spot_loss_rate"].value
    return Site(nodes, sizing.sizes, spot_loss_rate)


def _intended_pool(group: NodeShape) -> str:
    """The pool that a type of nodes is intended for, by name, labels or GPUs."""
    for pool in ("large_gpu", "small_gpu", "cpu"):
        if group.is_named_for(pool):
            return pool
    if not group.gpus:
        return "cpu"
    return "small_gpu" if (group.labels or {}).get("gpu-tier") == "small" else "large_gpu"


def fastest(parts: Sequence[Part], site: Site, rows: int) -> Fleet:
    """The fleet that finishes first on the available nodes, without idle ones."""
    limits = [site.sizes[part.pool].max_actors for part in parts]
    busy_s = max(rows * part.seconds / limit for part, limit in zip(parts, limits, strict=True))
    return _fleet(parts, site, rows, max(busy_s, 1e-9), limits)


def in_time(parts: Sequence[Part], site: Site, rows: int, deadline_s: float) -> Fleet | None:
    """The smallest fleet that meets a deadline, with any number of nodes; None: impossible."""
    slowest_s = max(deadline_s - _start_s(parts, site), 1e-9)
    shortest_s = max(part.seconds for part in parts)  # one actor for each photo
    fleet = _fleet(parts, site, rows, shortest_s)
    if fleet.seconds > deadline_s:
        return None
    for _ in range(_BISECTION_STEPS):
        between_s = (shortest_s + slowest_s) / 2
        smaller = _fleet(parts, site, rows, between_s)
        if smaller.seconds <= deadline_s:
            fleet, shortest_s = smaller, between_s
        else:
            slowest_s = between_s
    return fleet


def is_possible(fleet: Fleet, site: Site) -> bool:
    """Whether the site can have that number of nodes."""
    return all(count <= site.nodes[name].group.possible for name, count in fleet.nodes.items())


def _fleet(
    parts: Sequence[Part],
    site: Site,
    rows: int,
    busy_s: float,
    limits: Sequence[int] | None = None,
) -> Fleet:
    """A fleet that works for ``busy_s``, not counting start, ramp and losses."""
    needs = [rows * part.seconds / busy_s for part in parts]
    max_need = max(needs)
    actors = [
        max(math.ceil(need * (1 if need == max_need else _HEADROOM) - 1e-6), size.min_actors)
        for need, size in zip(needs, (site.sizes[part.pool] for part in parts), strict=True)
    ]
    if limits:
        actors = [min(count, limit) for count, limit in zip(actors, limits, strict=True)]
    times = [rows * part.seconds / count for part, count in zip(parts, actors, strict=True)]
    slowest = max(range(len(parts)), key=times.__getitem__)
    part, count = parts[slowest], actors[slowest]
    nodes = _nodes(parts, site, actors)
    start_s, loss = _start_s(parts, site), _loss_share(part, site)
    work_s = rows * part.seconds * (1 + loss)
    ramped_s, reached = _ramp(part, site, count, work_s)
    if reached < count:  # finished before all of them have started
        return _fleet(parts, site, rows, busy_s * count / reached, limits)
    seconds = start_s + ramped_s
    hours = (seconds + defaults()["run"]["idle_s"].value) / 3600
    return Fleet(
        nodes,
        actors,
        seconds,
        start_s,
        ramp_s=ramped_s - work_s / count,
        lost_s=rows * part.seconds * loss / count,
        cost_usd=hours * sum(site.nodes[name].price * each for name, each in nodes.items()),
        gpu_hours=hours * sum(site.nodes[name].group.gpus * each for name, each in nodes.items()),
        bottleneck=slowest,
    )


def _nodes(parts: Sequence[Part], site: Site, actors: Sequence[int]) -> dict[str, int]:
    """Nodes for these actors; CPU actors first use the spare CPUs of GPU nodes."""
    needs: dict[str, list[float]] = {}  # type -> CPUs, GPUs, GiB
    cpus = 0.0
    for part, count in zip(parts, actors, strict=True):
        size = site.sizes[part.pool]
        if part.pool == "cpu":
            cpus += count * size.cpus
            continue
        taken = needs.setdefault(site.home(part.pool), [0.0, 0.0, 0.0])
        for index, each in enumerate((size.cpus, size.gpus, size.memory_gib)):
            taken[index] += count * each
    nodes = {}
    for name, wanted in needs.items():
        group = site.nodes[name].group
        has = (group.cpus, group.gpus, group.memory_gib)
        nodes[name] = math.ceil(max(w / h for w, h in zip(wanted, has, strict=True) if h) - 1e-6)
        if group.can_host("cpu", site.sizes["cpu"].label_selector):
            cpus -= nodes[name] * group.cpus - wanted[0]
    if cpus > 1e-6:
        home = site.home("cpu")
        more = math.ceil(cpus / site.nodes[home].group.cpus - 1e-6)
        nodes[home] = nodes.get(home, 0) + more
    return nodes


def _start_s(parts: Sequence[Part], site: Site) -> float:
    """Seconds until the first photo starts: nodes start together, pools one after the other."""
    nodes_s = max(site.nodes[site.home(part.pool)].start_s for part in parts)
    actors_s = sum(defaults()["actor_start_s"][part.pool].value for part in parts)
    return defaults()["run"]["driver_start_s"].value + nodes_s + actors_s


def ramp(site: Site, pool: str, actors: int) -> list[int]:
    """Number of actors of a pool after each request of the autoscaler."""
    size = site.sizes[pool]
    more = _MAX_MORE_GPUS / size.gpus if size.gpus else _MAX_MORE_CPUS / size.cpus
    counts = [min(size.min_actors, actors)]
    while counts[-1] < actors:
        counts.append(min(math.ceil(min(_MAX_GROWTH * counts[-1], counts[-1] + more)), actors))
    return counts


def _ramp(part: Part, site: Site, actors: int, work_s: float) -> tuple[float, int]:
    """Seconds in which a part that grows to ``actors`` does ``work_s`` of actor time, and the
    number of actors at its end.
    """
    actor_s = defaults()["actor_start_s"][part.pool].value
    step_s = _SCALE_INTERVAL_S + site.nodes[site.home(part.pool)].start_s + actor_s
    passed_s = 0.0
    for count in ramp(site, part.pool, actors)[:-1]:
        if work_s <= count * step_s:
            return passed_s + work_s / count, count
        work_s -= count * step_s
        passed_s += step_s
    return passed_s + work_s / actors, actors


def _loss_share(part: Part, site: Site) -> float:
    """Share of work added by lost spot nodes: new nodes start, and rows are redone."""
    start_s = site.nodes[site.home(part.pool)].start_s
    start_s += defaults()["actor_start_s"][part.pool].value
    return site.spot_loss_rate / 3600 * (start_s + _ROWS_IN_FLIGHT * part.seconds)
