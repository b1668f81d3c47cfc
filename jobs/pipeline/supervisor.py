"""The supervisor of a run: one Ray actor that its workers report to, and that asks them to stop.

A worker that fails ends its own process, and Ray restarts the actor where there is room. The
supervisor decides how long a worker waits before that. It also decides when the run ends: if no
worker of a pool could ever load its models, or if workers fail one after another while no photo is
done.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

#: Failures per worker of a pool, without a photo done in between, after which the run ends.
_MAX_FAILURES = 3

#: A worker's pauses before it is replaced, s.
FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 60.0

#: Max time to wait for an answer; without one, a worker goes on as if all was well.
_ANSWER_S = 10.0

#: How often a worker reports that it works, and when it last did, by step group.
_REPORT_INTERVAL_S = 5.0
_reported_at: dict[int, float] = {}


class Supervisor:
    """The state of a run that its workers share; an actor without resources.

    Args:
        first_pause_s: a worker's pause before it is replaced, s; doubled with each failure on its
            node, up to a minute.
    """

    def __init__(self, first_pause_s: float) -> None:
        self._first_pause_s = first_pause_s
        self._is_stopping = False
        self._loaded: set[int] = set()
        self._failures: Counter[int] = Counter()
        self._failures_of_node: Counter[tuple[int, str]] = Counter()

    def request_stop(self) -> None:
        """Make workers begin no further photo."""
        self._is_stopping = True

    def stop_requested(self) -> bool:
        """Whether workers begin no further photo."""
        return self._is_stopping

    def report_loaded(self, group: int) -> None:
        """A worker loaded its models, so others can too."""
        if group not in self._loaded:
            self._loaded.add(group)
            self._failures[group] = 0

    def report_progress(self, group: int) -> None:
        """A worker finished photos, so the run as a whole works."""
        self._failures[group] = 0

    def report_failure(self, group: int, actors: int, node: str, *, loading: bool) -> float | None:
        """A worker failed; decide how long it pauses.

        Args:
            group: index of the step group.
            actors: number of the group's actors that start with the pass.
            node: id of the worker's node.
            loading: whether it could not load its models.

        Returns:
            How long it waits before it is replaced, s. None: the run ends with its error.
        """
        self._failures[group] += 1
        is_hopeless = self._failures[group] >= _MAX_FAILURES * actors
        if is_hopeless and not (loading and group in self._loaded):
            return None
        doublings = self._failures_of_node[group, node]
        self._failures_of_node[group, node] += 1
        return float(min(self._first_pause_s * 2**doublings, _MAX_PAUSE_S))


@dataclass(frozen=True, slots=True)
class SupervisorClient:
    """Talks to the supervisor; where there is none, or no answer, all is well.

    Attributes:
        handle: of the supervisor's actor.
        actors: by step group, the number of actors that start with the pass.
    """

    handle: Any = None
    actors: tuple[int, ...] = ()

    @classmethod
    def start(cls) -> SupervisorClient:
        """Start a supervisor on this node; it ends with the driver."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        node = ray.get_runtime_context().get_node_id()
        here = NodeAffinitySchedulingStrategy(node, soft=True)
        options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}
        return cls(ray.remote(Supervisor).options(**options).remote(FIRST_PAUSE_S))

    def request_stop(self) -> None:
        """See :meth:`Supervisor.request_stop`; does not wait."""
        self._send("request_stop")

    def report_loaded(self, group: int) -> None:
        """See :meth:`Supervisor.report_loaded`; does not wait."""
        self._send("report_loaded", group)

    def report_progress(self, group: int) -> None:
        """See :meth:`Supervisor.report_progress`; does not wait, and reports at intervals only."""
        now = time.monotonic()
        if now - _reported_at.get(group, -_REPORT_INTERVAL_S) >= _REPORT_INTERVAL_S:
            _reported_at[group] = now
            self._send("report_progress", group)

    def stop_requested(self) -> bool:
        """See :meth:`Supervisor.stop_requested`."""
        return bool(self._ask(False, "stop_requested"))

    def report_failure(self, group: int, *, loading: bool) -> float | None:
        """See :meth:`Supervisor.report_failure`; the node is this process's."""
        if self.handle is None:
            return None
        import ray

        node = ray.get_runtime_context().get_node_id()
        actors = self.actors[group]
        answer: float | None = self._ask(
            FIRST_PAUSE_S, "report_failure", group, actors, node, loading=loading
        )
        return answer

    def _send(self, method: str, *arguments: object) -> None:
        if self.handle is not None:
            getattr(self.handle, method).remote(*arguments)

    def _ask(self, default: Any, method: str, *arguments: object, **options: object) -> Any:
        if self.handle is None:
            return default
        import ray

        call: Callable[..., Any] = getattr(self.handle, method).remote
        with suppress(ray.exceptions.RayError):
            return ray.get(call(*arguments, **options), timeout=_ANSWER_S)
        return default
