"""A cluster that begins without workers: what grows, what does not, what becomes of lost nodes.

The autoscaler, the scheduler and the DAG are the real ones. What it misses: real GPUs, and clouds
that take minutes for a machine, or have none.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.run import run
from stages.recipe import Recipe
from tests.support import beside, boxed_catalog
from tests.support.models.sleeping_models import SleepingModels
from tests.support.simulated_cluster import POOLS, SimulatedCluster, simulated_cluster

_PHOTOS = 42

#: The documented times, in s a photo: a refiner takes much longer than what precedes it.
_MODELS = SleepingModels(remove_s=0.02, refine_s=1.5)

_DEADLINE_S = 240.0


class Watch:
    """Looks at a cluster's nodes all the time, and does things to them.

    Attributes:
        seen: how many workers of each type were up, one entry for each change.
    """

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self.seen: list[Counter[str]] = []

    @property
    def most(self) -> Counter[str]:
        """The most workers of each type that were up at once."""
        most: Counter[str] = Counter()
        for counts in self.seen:
            most |= counts
        return most

    def look(self) -> Counter[str]:
        counts = self._cluster.counts()
        if not self.seen or counts != self.seen[-1]:
            self.seen.append(counts)
        return counts

    def await_nodes(self, condition: Callable[[Counter[str]], bool]) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not condition(self.look()):
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.3)

    def a_node(self, node_type: str) -> str:
        return next(node for node, kind in self._cluster.nodes().items() if kind == node_type)


@pytest.mark.slow
def test_from_zero_to_many_of_the_bottleneck_and_back_while_spot_nodes_vanish(
    tmp_path: Path,
) -> None:
    manifest, output = boxed_catalog(tmp_path, _PHOTOS), tmp_path / "out"
    with simulated_cluster(idle_timeout_s=5.0) as cluster:
        watch = Watch(cluster)
        assert not watch.look(), "no workers at first"

        def lose_nodes() -> None:
            watch.await_nodes(lambda up: up["large_gpu"] >= 2)
            drained = watch.a_node("large_gpu")
            cluster.drain(drained, notice_s=1)
            time.sleep(1)
            cluster.kill(drained)
            watch.await_nodes(lambda up: up["large_gpu"] >= 2)
            cluster.kill(watch.a_node("large_gpu"))

        with beside(lose_nodes):
            outcome = run(
                manifest,
                str(output),
                Recipe.load("telea"),
                Console(quiet=True),
                address=cluster.address,
                pools=POOLS,
                steps=_MODELS,
                rows_per_shard=2,
            )
        watch.await_nodes(lambda up: not up)
    assert outcome.exit_code == 0
    statuses = pq.read_table(output / "lineage", columns=["id", "status"]).to_pylist()
    assert sorted(int(row["id"]) for row in statuses) == list(range(_PHOTOS))
    assert {row["status"] for row in statuses} == {"ok"}
    assert watch.most["large_gpu"] >= 2, "the bottleneck grows"
    assert watch.most["small_gpu"] == 1, f"what is not the bottleneck does not: {watch.seen}"
    assert watch.most["cpu"] <= 1, "these may also run where there are GPUs"
