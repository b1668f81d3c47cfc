"""The nodes of a simulated cluster: which have room, which are added, lost, and paid for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import simpy

from jobs.estimate.capacity import Nodes, Site
from jobs.estimate.queues import Actor, Node, Queue, Wait


class Fleet:
    """All nodes that are up or start.

    Args:
        env: the simulation.
        site: where the job runs.
        seed: of the nodes' losses.
        on_loss: is told of a node that vanishes, and ends its actors and it.

    Attributes:
        nodes: in the order in which they were asked for.
        hours: type -> hours that nodes of it were paid for, of those that have ended.
        peak: type -> the most nodes that there were at once.
        changes: grows whenever there is more room, or less.
    """

    def __init__(
        self, env: simpy.Environment, site: Site, seed: int, on_loss: Callable[[Node], None]
    ) -> None:
        self._env, self._site, self._on_loss = env, site, on_loss
        self._random = np.random.default_rng(seed)
        self._counts: Counter[str] = Counter()  # nodes of each type
        self.nodes: list[Node] = []
        self.hours: defaultdict[str, float] = defaultdict(float)
        self.peak: Counter[str] = Counter()
        self.changes = 0

    @property
    def free_cpus(self) -> float:
        """Of the nodes that are up."""
        return sum(node.cpus for node in self.nodes if node.up.triggered)

    @property
    def cost_usd(self) -> float:
        """Of the nodes that have ended."""
        prices = {each.name: each.price for each in self._site.nodes}
        return sum(hours * prices[name] for name, hours in self.hours.items())

    def room(self, queue: Queue) -> Node | None:
        """The first node that has room for one more actor of a part."""
        if queue.found_no_room == self.changes:
            return None
        size = queue.size
        for node in self.nodes:
            if (
                node.cpus + 1e-6 >= size.cpus
                and node.gpus + 1e-6 >= size.gpus
                and (not size.memory_gib or node.memory_gib >= size.memory_gib)
                and node.kind.group.may_be_of(queue.pool, size.label_selector)
            ):
                return node
        queue.found_no_room = self.changes
        return None

    def add(self, home: Nodes) -> Node | None:
        """One more node of a type, if there may be one."""
        if self._counts[home.name] >= home.group.possible:
            return None
        env, group = self._env, home.group
        node = Node(home, env.now, env.event(), group.cpus, group.gpus, group.memory_gib)
        node.idle_since = env.now
        self.nodes.append(node)
        self._counts[home.name] += 1
        self.changes += 1
        self.peak[home.name] = max(self.peak[home.name], self._counts[home.name])
        env.process(self._live(node))
        return node

    def _live(self, node: Node) -> Wait:
        """A node starts, and is lost one day."""
        yield self._env.timeout(node.kind.start_s)
        node.up.succeed()
        if not self._site.losses_per_hour:
            return
        yield self._env.timeout(self._random.exponential(3600 / self._site.losses_per_hour))
        if node in self.nodes:
            self._on_loss(node)

    def seat(self, actor: Actor) -> None:
        """Give an actor its room on its node."""
        self._take(actor, 1)
        actor.node.actors[actor] = None

    def unseat(self, actor: Actor) -> None:
        """Take it back."""
        self._take(actor, -1)
        actor.node.actors.pop(actor, None)
        actor.node.idle_since = self._env.now

    def _take(self, actor: Actor, times: int) -> None:
        node, size = actor.node, actor.part.size
        node.cpus -= times * size.cpus
        node.gpus -= times * size.gpus
        node.memory_gib -= times * size.memory_gib
        self.changes += 1

    def end_idle(self) -> None:
        """Stop the nodes that have had no actor for long."""
        for node in [node for node in self.nodes if not node.actors]:
            if self._env.now - node.idle_since >= self._site.idle_s:
                self.end(node, self._env.now)

    def end(self, node: Node, at: float) -> None:
        """A node is paid for until then."""
        self.nodes.remove(node)
        self._counts[node.kind.name] -= 1
        self.hours[node.kind.name] += (at - node.since) / 3600
