"""A simulation of the pools, event by event (SimPy): what the arithmetic of an estimate leaves out.

Simulated are the queues between the parts of a job with their back-pressure, the blocks that are
sent ahead to each actor, actors and nodes that start, pools that grow while work queues up, nodes
that are lost with what was in flight, the passes that do it again, and nodes that go when idle. The
rules are Ray Data's (2.60 to 2.63): its actor pools' autoscaler, its rate-based cluster autoscaler,
its back-pressure by what the next part has in flight.

Many photos are simulated as one *unit*: as few as travel in one block, or so many that a job has
some 10,000 units. Units are small when a job begins and when it ends, so that no part waits for a
large one, and a lost node costs the blocks it had in flight, not its unit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import simpy

from jobs.estimate.capacity import (
    ASKS_EVERY_S,
    GROWS_BY,
    MOST_MORE_CPUS,
    MOST_MORE_GPUS,
    Site,
    home_of,
)
from jobs.estimate.fleet import Fleet
from jobs.estimate.queues import Actor, Node, Queue, Wait
from jobs.estimate.work import Part

#: A unit's photos are chosen so that there are so many units.
_UNITS = 10_000

#: Pools grow when they have so many blocks for each actor, and shrink when they have no more than
#: the other: Ray Data's ``actor_pool_util_upscaling_threshold`` and its opposite.
_GROWS_AT, _SHRINKS_AT = 1.75, 0.5

#: So many times what the next part has in flight may wait before it: Ray Data's
#: ``downstream_capacity_backpressure_ratio``.
_QUEUED = 2.0

#: Ray Data looks after its pools all the time; here so often, in shares of a job, and at least and
#: at most so often in s.
_LOOKS, _LOOK_S = 5000, (0.25, 60.0)

#: A job that loses its nodes faster than it works never ends.
_MOST_PASSES = 50


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of a job.

    Attributes:
        seconds: from the command to the end.
        busy: of each part, when its first photo was begun and its last one done, s from the
            command.
        node_hours: type -> hours that nodes of it were paid for.
        peak: type -> the most nodes that there were at once.
        cost_usd: of all nodes.
        lost_nodes: how many vanished.
        redone: rows that were done again.
        passes: over the rows; each but the first over what was lost.
        utilisation: of each part, the share of time that its actors worked, of what they were up.
    """

    seconds: float
    busy: Sequence[tuple[float, float]]
    node_hours: Mapping[str, float]
    peak: Mapping[str, int]
    cost_usd: float
    lost_nodes: int
    redone: int
    passes: int
    utilisation: Sequence[float]


def simulate(parts: Sequence[Part], site: Site, rows: int, block: int, seed: int = 0) -> Simulated:
    """Run a job.

    Args:
        parts: of the job, in order.
        site: where it runs.
        rows: of the manifest.
        block: photos that travel together.
        seed: of the nodes' losses.

    Raises:
        RuntimeError: nodes are lost faster than the job gets on.
    """
    return _World(parts, site, rows, block, seed).run()


class _World:
    """The cluster and the job on it."""

    def __init__(self, parts: Sequence[Part], site: Site, rows: int, block: int, seed: int) -> None:
        self._env = simpy.Environment()
        self._fleet = Fleet(self._env, site, seed, self._lose_node)
        self._site, self._rows, self._block = site, rows, block
        starts = site.actor_start_s
        self._queues = [Queue(p, site.sizes[p.pool], starts[p.pool], block) for p in parts]
        self._homes = [home_of(part.pool, site) for part in parts]
        limits = [site.sizes[part.pool].max_actors for part in parts]
        self._actors_most = max(limits)
        longest = max(rows * p.seconds / n for p, n in zip(parts, limits, strict=True))
        self._look_s = min(max(longest / _LOOKS, _LOOK_S[0]), _LOOK_S[1])
        self._unit = max(block, math.ceil(rows / _UNITS))
        self._source = self._given = 0  # rows that no unit has yet, or has
        self._asked_at = 0.0
        self._lost_rows = self._lost_nodes = self._redone = self._passes = 0

    def run(self) -> Simulated:
        env = self._env
        env.run(env.process(self._job()))
        end = env.now
        for node in list(self._fleet.nodes):
            self._fleet.end(node, end + self._site.idle_s)
        return Simulated(
            end,
            [(queue.first or 0.0, queue.last) for queue in self._queues],
            dict(self._fleet.hours),
            dict(self._fleet.peak),
            self._fleet.cost_usd,
            self._lost_nodes,
            self._redone,
            self._passes,
            [queue.worked_s / queue.up_s if queue.up_s else 0.0 for queue in self._queues],
        )

    def _job(self) -> Wait:
        yield self._env.timeout(self._site.driver_start_s)
        rows = self._rows
        while rows:
            self._passes += 1
            if self._passes > _MOST_PASSES:
                raise RuntimeError("nodes are lost faster than the job gets on")
            yield from self._pass(rows)
            rows, self._lost_rows = self._lost_rows, 0
            self._redone += rows

    def _pass(self, rows: int) -> Wait:
        """All rows once, but for those that are lost."""
        self._source, self._given = rows, 0
        for queue in self._queues:
            queue.open(rows, self._env.event())
        self._place()  # the first actors of all parts find room, or have it made, at once
        self._env.process(self._open_in_turn())
        while any(queue.left for queue in self._queues):
            yield self._env.timeout(self._look_s)
            self._look()
        for queue in self._queues:
            for actor in list(queue.actors):
                self._end_actor(actor)

    def _open_in_turn(self) -> Wait:
        """Ray Data starts one pool after the other."""
        for queue in self._queues:
            assert queue.opened
            queue.opened.succeed()
            while queue.left and queue.started < queue.least:  # some may be lost meanwhile
                yield self._env.timeout(self._look_s)

    # Units

    def _dispatch(self, index: int) -> None:
        """Send units ahead to actors with room, unless the next part has enough before it."""
        queue = self._queues[index]
        while self._may_work(index) and (actor := queue.free_actor()):
            unit = self._next_unit(index)
            if not unit:
                return
            actor.units.append(unit)
            queue.in_flight += unit
            queue.units += 1
            queue.file(actor)
            if actor.work and not actor.work.triggered:
                actor.work.succeed()
            if index:
                self._dispatch(index - 1)

    def _may_work(self, index: int) -> bool:
        if index + 1 == len(self._queues):
            return True
        after = self._queues[index + 1]
        return after.queued <= max(_QUEUED * after.in_flight, self._unit)

    def _next_unit(self, index: int) -> int:
        queue = self._queues[index]
        if queue.waiting:
            unit = queue.waiting.popleft()
            queue.queued -= unit
            return unit
        if index:
            return 0
        # Small at both ends of a job, so that no part waits for a large one.
        share = min(self._given, self._source) // self._actors_most
        unit = min(max(share, self._block), self._unit, self._source)
        self._source -= unit
        self._given += unit
        return unit

    def _arrive(self, index: int, rows: int) -> None:
        """Rows have gone through the part before."""
        if index == len(self._queues) or not rows:
            return
        self._queues[index].waiting.append(rows)
        self._queues[index].queued += rows
        self._dispatch(index)

    def _lose(self, index: int, rows: int) -> None:
        """Rows that a later pass does again: neither this part nor the next ones see them."""
        self._lost_rows += rows
        for queue in self._queues[index:]:
            queue.left -= rows

    # Actors

    def _work(self, index: int, actor: Actor) -> Wait:
        env, queue = self._env, self._queues[index]
        try:
            yield actor.node.up
            if queue.opened:
                yield queue.opened
            yield env.timeout(queue.start_s)
            actor.ready_at = env.now
            queue.ready += 1
            queue.started += 1
            queue.file(actor)
            self._dispatch(index)
            while True:
                if not actor.units:
                    actor.work = env.event()
                    yield actor.work
                actor.began = env.now
                if queue.first is None:
                    queue.first = env.now
                yield env.timeout(actor.units[0] * queue.seconds)
                queue.worked_s += env.now - actor.began
                queue.last, actor.began = env.now, None
                self._done(index, actor)
        except simpy.Interrupt:
            return

    def _done(self, index: int, actor: Actor) -> None:
        queue = self._queues[index]
        unit = actor.units.popleft()
        queue.in_flight -= unit
        queue.units -= 1
        queue.left -= unit
        queue.file(actor)
        self._arrive(index + 1, unit)
        self._dispatch(index)

    def _end_actor(self, actor: Actor) -> None:
        queue = actor.part
        if actor.ready_at is not None:
            queue.up_s += self._env.now - actor.ready_at
        queue.forget(actor)
        self._fleet.unseat(actor)
        if actor.process and actor.process.is_alive and actor.process.target is not None:
            actor.process.interrupt()

    # Pools and nodes

    def _look(self) -> None:
        for index, queue in enumerate(self._queues):
            if queue.left:
                self._scale(index)
            else:
                for actor in list(queue.actors):
                    self._end_actor(actor)
                queue.wanted = 0
        self._place()
        self._fleet.end_idle()

    def _scale(self, index: int) -> None:
        """The rule of Ray Data's actor pools: as many actors as the blocks that it sees need."""
        queue, size = self._queues[index], self._queues[index].size
        if queue.utilisation >= _GROWS_AT:
            waiting = queue.queued + (0 if index else self._source)
            needed = math.ceil((queue.in_flight + waiting) / self._block / _GROWS_AT)
            queue.wanted = min(max(needed, len(queue.actors) + 1), size.max_actors)
        elif queue.utilisation <= _SHRINKS_AT and queue.least < queue.ready == len(queue.actors):
            queue.wanted = len(queue.actors) - 1
            if idle := [actor for actor in queue.free[0] if actor.ready_at is not None]:
                self._end_actor(idle[0])

    def _place(self) -> None:
        """Start the actors that are wanted where there is room; those that Ray Data asks nodes for,
        on new nodes otherwise.
        """
        asked = self._asked_for()
        order = sorted(range(len(self._queues)), key=lambda i: -self._queues[i].size.gpus)
        for index in order:
            queue = self._queues[index]
            queue.wanted = max(queue.wanted, asked[index])
            while queue.left and len(queue.actors) < queue.wanted:
                node = self._fleet.room(queue)
                if node is None and len(queue.actors) < asked[index]:
                    node = self._fleet.add(self._homes[index])
                if node is None:
                    break
                self._start_actor(index, node)

    def _asked_for(self) -> list[int]:
        """The rule of Ray Data's cluster autoscaler: for how many actors of each part nodes are
        asked for. All parts are to do twice what the slowest of them can do now.
        """
        least = [queue.least for queue in self._queues]
        busy = [queue for queue in self._queues if queue.left and queue.seconds]
        if self._env.now - self._asked_at < ASKS_EVERY_S or not all(q.ready for q in busy):
            return least
        self._asked_at = self._env.now
        if not any(queue.utilisation >= 1 for queue in busy):
            return least
        free = self._fleet.free_cpus
        rates = [self._could_be(queue, free) / queue.seconds for queue in busy]
        rate = GROWS_BY * min(rates, default=0.0)
        for index, queue in enumerate(self._queues):
            now, size = self._could_be(queue, free), queue.size
            more = MOST_MORE_GPUS / size.gpus if size.gpus else MOST_MORE_CPUS / size.cpus
            needed = min(math.ceil(rate * queue.seconds), math.floor(now + more), size.max_actors)
            least[index] = max(least[index], needed)
        return least

    def _could_be(self, queue: Queue, free_cpus: float) -> int:
        """How many actors a part has; on CPUs, with its share of those that are free."""
        if queue.size.gpus:
            return queue.ready
        sharing = sum(not each.size.gpus for each in self._queues)
        return queue.ready + int(free_cpus / queue.size.cpus / sharing)

    def _start_actor(self, index: int, node: Node) -> None:
        queue = self._queues[index]
        actor = Actor(queue, node)
        self._fleet.seat(actor)
        queue.actors[actor] = None
        actor.process = self._env.process(self._work(index, actor))

    def _lose_node(self, node: Node) -> None:
        self._lost_nodes += 1
        for actor in list(node.actors):
            self._lose_actor(actor)
        self._fleet.end(node, self._env.now)
        for index in range(len(self._queues)):
            self._dispatch(index)

    def _lose_actor(self, actor: Actor) -> None:
        """Blocks that it had in flight are lost; what a unit has beyond them is not."""
        index = self._queues.index(actor.part)
        queue, units = actor.part, deque(actor.units)
        done = 0
        if actor.began is not None:
            worked_s = self._env.now - actor.began
            queue.worked_s += worked_s
            done = int(worked_s / queue.seconds) if queue.seconds else 0
        self._end_actor(actor)
        for unit in units:
            lost = min(unit, self._block)
            passed = min(done, unit - lost)
            done = 0
            queue.left -= passed
            self._arrive(index + 1, passed)
            self._lose(index, lost)
            if rest := unit - lost - passed:
                queue.waiting.appendleft(rest)
                queue.queued += rest
