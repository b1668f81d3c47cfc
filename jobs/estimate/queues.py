"""What is simulated: nodes, actors, and the queues of a job's parts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from cluster.pools import PoolSize
from jobs.estimate.capacity import Nodes
from jobs.estimate.work import Part

#: What a process of the simulation is.
Wait = Generator[simpy.Event, Any, None]


@dataclass(eq=False, slots=True)
class Node:
    """A machine, from when it is asked for."""

    kind: Nodes
    since: float
    up: simpy.Event
    cpus: float
    gpus: float
    memory_gib: float
    actors: dict[Actor, None] = field(default_factory=dict)
    idle_since: float = 0.0


@dataclass(eq=False, slots=True)
class Actor:
    """Has units assigned, of which it works on the first."""

    part: Queue
    node: Node
    units: deque[int] = field(default_factory=deque)
    began: float | None = None
    ready_at: float | None = None
    work: simpy.Event | None = None
    process: simpy.Process | None = None


class Queue:
    """A part of the job: units that wait, and its actors.

    Attributes:
        pool: that its actors are of.
        actors: those that start or work.
        waiting: units that no actor has yet.
        left: rows of this pass that have not gone through or been lost here.
    """

    def __init__(self, part: Part, size: PoolSize, start_s: float, block: int) -> None:
        self.pool = part.pool
        self.seconds, self.size, self.start_s, self.block = part.seconds, size, start_s, block
        self.actors: dict[Actor, None] = {}  # in an order, so that a seed tells all
        self.waiting: deque[int] = deque()
        self.queued = self.in_flight = self.left = 0
        self.ready = self.units = 0  # actors that work, and units that all have
        self.started = self.least = 0  # actors that ever worked in this pass, and at least do
        self.wanted = 0  # actors
        self.found_no_room = -1  # when the cluster was last so
        self.free: list[dict[Actor, None]] = []  # by how many units they have: sets with an order
        self.opened: simpy.Event | None = None
        self.first: float | None = None
        self.last = self.worked_s = self.up_s = 0.0

    def open(self, rows: int, opened: simpy.Event) -> None:
        """Begin a pass."""
        self.least = min(self.size.min_actors, math.ceil(rows / self.block))
        self.left, self.opened, self.wanted, self.started = rows, opened, self.least, 0
        self.free = [{} for _ in range(self.size.tasks_in_flight)]

    def free_actor(self) -> Actor | None:
        """The one with the fewest units, if any has room."""
        return next((actor for level in self.free for actor in level), None)

    def file(self, actor: Actor) -> None:
        """Enter an actor by how many units it has now."""
        for level in self.free:
            level.pop(actor, None)
        if len(actor.units) < len(self.free):
            self.free[len(actor.units)][actor] = None

    def forget(self, actor: Actor) -> None:
        """Take it off, with what it has."""
        for level in self.free:
            level.pop(actor, None)
        self.actors.pop(actor, None)
        self.in_flight -= sum(actor.units)
        self.units -= len(actor.units)
        self.ready -= actor.ready_at is not None

    @property
    def utilisation(self) -> float:
        """Blocks in flight for each actor that is ready."""
        return self.units / self.ready if self.ready else 0.0
