"""The cost of a run: the time that nodes were up, multiplied by the price of their node group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Annotated

from pydantic import Field

from cluster.sizing import NODE_TYPE
from jobs.pipeline.metrics import COST
from manifests.toml_files import load_toml

_Price = Annotated[float, Field(ge=0, strict=True)]


def load_prices(path: Path | str) -> dict[str, float]:
    """Read a TOML file of ``group = dollars``: the price of a node of that group per hour.

    Raises:
        ClusterError: ``cluster.bad_prices``.
    """
    return load_toml(dict[str, _Price], Path(path), "cluster.bad_prices")


class Cost:
    """Adds up the cost of a cluster, including the work of others on it.

    Args:
        hourly_usd: node group -> dollars for an hour of each node.
        node_groups: returns the group of each node that is up.
        clock: seconds, as ``time.monotonic``.
    """

    def __init__(
        self,
        hourly_usd: Mapping[str, float],
        node_groups: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hourly_usd, self._node_groups, self._clock = hourly_usd, node_groups, clock
        self._at = clock()
        self._lock = Lock()
        self.total_usd = 0.0

    def accrue(self) -> None:
        """Add the cost of the time since the last call, or since construction."""
        with self._lock:  # heartbeats and the end of the run come from two threads
            price = sum(self._hourly_usd.get(group, 0.0) for group in self._node_groups())
            now = self._clock()
            spent = price * (now - self._at) / 3600
            self._at = now
            self.total_usd += spent
            COST.add(spent)


def node_groups_up() -> list[str]:
    """The group of each node of the cluster that is up; empty for one that has none."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [node["Labels"].get(NODE_TYPE, "") for node in nodes]
