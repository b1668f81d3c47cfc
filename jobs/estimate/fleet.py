"""Computes nodes, time and cost of a job.

The part whose actors are busy longest is the bottleneck; the other parts get just enough actors to
keep up with it. Added to this are the start of the first nodes and actors, the gradual arrival of
further ones (Ray Data's autoscaler), and the loss of spot nodes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.deploy import POOLS_FILE
from cluster.pools import PoolSize, PoolsOptions
from cluster.session import MAX_GROWTH, MAX_MORE_CPUS, MAX_MORE_GPUS
from cluster.sizing import NodeGroup, has_gpus, size_pools
from jobs.driver.placement import load_pools
from jobs.estimate.seconds import Basis, Part, default, parts_of
from manifests.errors import ClusterError
from stages.recipe import Recipe
from stages.steps.base import Step

#: Min interval between the requests of Ray Data's cluster autoscaler (2.60 to 2.63).
_SCALE_INTERVAL_S = 10.0

#: Rows in flight in an actor, which are redone when its node is lost.
_ROWS_IN_FLIGHT = 32

#: Tolerance, so that rounding errors add no actor and no node.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Fleet:
    """A number of nodes, and the resulting time and cost.

    Attributes:
        nodes: type -> count.
        actors: max number for each step group.
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


@dataclass(frozen=True, slots=True)
class Workload:
    """The work of a run, and the cluster on which it runs.

    Attributes:
        rows: number of photos.
        parts: the step groups, with the seconds for which an actor is busy with a photo.
        sizes: of the pools, as a run would size them.
        node_groups: pool -> the node group that is added for it.
        prices: type of nodes -> dollars per hour of each.
        spot_loss_rate: interruptions per node-hour.
    """

    rows: int
    parts: Sequence[Part]
    sizes: Mapping[str, PoolSize]
    node_groups: Mapping[str, NodeGroup]
    prices: Mapping[str, float]
    spot_loss_rate: float

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        *,
        steps: Sequence[Step],
        basis: Basis,
        rows: int,
        pools: PoolsOptions,
        prices: Mapping[str, float] | None = None,
        spot_loss_rate: float = 0.0,
    ) -> Workload:
        """The steps of a recipe on the nodes of the pools' file, or else of the deploy files.

        Raises:
            ClusterError: ``cluster.too_small``: an actor of some part fits on no node;
                ``cluster.bad_prices``: a type of nodes has no price; ``cluster.no_figure``.
        """
        types = pools.nodes or load_pools(POOLS_FILE).nodes
        nodes = [NodeGroup.potential(name, each) for name, each in types.items()]
        if all(step.pool == "cpu" for step in steps):  # an autoscaler adds no GPU nodes for them
            nodes = [each for each in nodes if not each.gpus] or nodes
        parts = parts_of(steps, recipe, basis, has_gpus=has_gpus(nodes))
        sizing = size_pools(pools, nodes, [part.pool for part in parts], max(rows, 1))
        if sizing.problems:
            raise ClusterError("cluster.too_small", " ".join(sizing.problems))
        node_groups, known = {}, dict(prices or {})
        for pool, size in sizing.sizes.items():
            hosts = [each for each in nodes if each.can_host(pool, size.label_selector)]
            fitting = [each for each in hosts if each.room_for(size)]
            group = min(fitting, key=lambda each: (not each.is_named_for(pool), each.gpus))
            if prices is None:  # of nodes that pools share, the higher one
                known[group.name] = max(known.get(group.name, 0.0), default("price", pool))
            elif group.name not in prices:
                raise ClusterError("cluster.bad_prices", f"Nodes {group.name} have no price.")
            node_groups[pool] = group
        return cls(rows, parts, sizing.sizes, node_groups, known, spot_loss_rate)

    def fastest(self) -> Fleet:
        """The fleet that finishes first on the available nodes, without idle ones."""
        limits = [(part, self.sizes[part.pool].max_actors) for part in self.parts]
        return self._fleet(max(self.rows * part.seconds / limit for part, limit in limits))

    def smallest_for(self, deadline_s: float) -> Fleet | None:
        """The smallest fleet that meets a deadline, with any number of nodes; None: impossible."""
        work_s = self.rows * max(part.seconds for part in self.parts)
        counts = range(self.rows + 1)  # of the slowest part's actors
        actors = bisect_left(
            counts, True, lo=1, key=lambda n: self._fleet(work_s / n).seconds <= deadline_s
        )
        return self._fleet(work_s / actors) if actors <= self.rows else None

    def has_available(self, nodes: Mapping[str, int]) -> bool:
        """Whether that number of nodes of each type is available."""
        available = {group.name: group.max_nodes for group in self.node_groups.values()}
        return all(count <= available[name] for name, count in nodes.items())

    def _fleet(self, busy_s: float) -> Fleet:
        """A fleet that works for ``busy_s``, not counting start, ramp and losses."""
        work_s = [self.rows * part.seconds for part in self.parts]
        wanted = [math.ceil(each / max(busy_s, 1e-9) - _ROUNDING) for each in work_s]
        actors = [*map(max, wanted, (self.sizes[part.pool].min_actors for part in self.parts))]
        times = [each / count for each, count in zip(work_s, actors, strict=True)]
        slowest = max(range(len(times)), key=times.__getitem__)
        part, count = self.parts[slowest], actors[slowest]
        node_s = default("node_start_s", part.pool) + default("actor_start_s", part.pool)
        each_lost_s = node_s + _ROWS_IN_FLIGHT * part.seconds
        lost_s = times[slowest] * self.spot_loss_rate / 3600 * each_lost_s
        work = count * (times[slowest] + lost_s)
        end_s, reached = _ramp(self.sizes[part.pool], node_s, count, work)
        if reached < count:  # finished before all of them have started
            return self._fleet(busy_s * count / reached)
        # Until the first photo starts: nodes start together, pools one after another.
        start_s = default("run", "driver_start_s")
        start_s += max(default("node_start_s", pool) for pool in self.node_groups)
        start_s += sum(default("actor_start_s", each.pool) for each in self.parts)
        hours = (start_s + end_s + default("run", "idle_s")) / 3600
        nodes, gpus = (
            self._nodes(actors),
            {group.name: group.gpus for group in self.node_groups.values()},
        )
        return Fleet(
            nodes,
            actors,
            seconds=start_s + end_s,
            start_s=start_s,
            ramp_s=end_s - times[slowest] - lost_s,
            lost_s=lost_s,
            cost_usd=hours * sum(self.prices[name] * each for name, each in nodes.items()),
            gpu_hours=hours * sum(gpus[name] * each for name, each in nodes.items()),
            bottleneck=slowest,
        )

    def _nodes(self, actors: Sequence[int]) -> dict[str, int]:
        """Nodes for these actors; CPU actors first use the spare CPUs of GPU nodes."""
        needs: dict[str, float] = {}
        counts = [*zip((part.pool for part in self.parts), actors, strict=True)]
        for pool, count in counts:
            if pool != "cpu":
                group = self.node_groups[pool]
                room = group.room_for(self.sizes[pool])
                needs[group.name] = needs.get(group.name, 0.0) + count / room
        nodes = {name: math.ceil(need - _ROUNDING) for name, need in needs.items()}
        if "cpu" not in self.node_groups:
            return nodes
        cpu, selector = self.node_groups["cpu"], self.sizes["cpu"].label_selector
        spare = {
            group.name: group.cpus
            for group in self.node_groups.values()
            if group.gpus and group.can_host("cpu", selector)
        }
        cpus = sum(
            count * self.sizes[pool].cpus
            for pool, count in counts
            if pool == "cpu" or self.node_groups[pool].name in spare
        )
        cpus -= sum(count * spare.get(name, 0.0) for name, count in nodes.items())
        if cpus > _ROUNDING:
            nodes[cpu.name] = nodes.get(cpu.name, 0) + math.ceil(cpus / cpu.cpus - _ROUNDING)
        return nodes


def _ramp(size: PoolSize, node_s: float, actors: int, work_s: float) -> tuple[float, int]:
    """Simulate a pool that grows to ``actors``, each on a node that takes ``node_s`` to start.

    Returns:
        Seconds in which it does ``work_s`` of actor time, and the number of actors at its end.
    """
    more = MAX_MORE_GPUS / size.gpus if size.gpus else MAX_MORE_CPUS / size.cpus
    step_s = _SCALE_INTERVAL_S + node_s
    passed_s, count = 0.0, min(size.min_actors, actors)
    while count < actors and work_s > count * step_s:
        work_s -= count * step_s
        passed_s += step_s
        count = min(math.ceil(min(MAX_GROWTH * count, count + more)), actors)
    return passed_s + work_s / count, count
