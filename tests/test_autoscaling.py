"""A cluster that begins without workers: what grows, what does not, what becomes of lost nodes.

The autoscaler, the scheduler and the DAG are the real ones. What it misses: real GPUs, and clouds
that take minutes for a machine, or have none.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from cluster.simulate import POOLS, SimulatedCluster, simulated_cluster
from jobs.run import run
from jobs.stand_ins import StandIns
from stages.recipe import Recipe
from tests.conftest import Command
from tests.support import DEMO, beside, encoded, upright_rgb, write

_PHOTOS = 60

#: The documented times, in s a photo: a refiner takes much longer than what precedes it.
_STAND_INS = StandIns(remove_s=0.02, refine_s=1.5)

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


def catalog(folder: Path) -> str:
    """Many small photos, each with a box to clean."""
    photo = upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg")
    lines = ["id,image,boxes"]
    for number in range(_PHOTOS):
        x, y = divmod(number * 5, 300)
        small = np.ascontiguousarray(photo[y : y + 48, x : x + 64])
        write(folder / f"{number}.png", encoded(small))
        lines.append(f'{number},{number}.png,"[16, 20, 24, 10]"')
    return write(folder / "manifest.csv", "\n".join(lines))


def test_simulate_shows_nodes_that_come_and_go(command: Command) -> None:
    done = command("simulate", "--photos", 4, "--remove-s", 0, "--refine-s", 0.2)
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    nodes = [line for line in told if line.startswith("nodes: ")]
    assert nodes[0] == nodes[-1] == "nodes: no workers"
    assert any("1 x large_gpu" in line for line in nodes)
    assert "4 ok, 0 failed, 0 crashed" in done.stdout


def test_from_zero_to_many_of_the_bottleneck_and_back_while_spot_nodes_vanish(
    tmp_path: Path,
) -> None:
    manifest, output = catalog(tmp_path), tmp_path / "out"
    with simulated_cluster() as cluster:
        watch = Watch(cluster)
        assert not watch.look(), "no workers at first"

        def lose_nodes() -> None:
            watch.await_nodes(lambda up: up["large_gpu"] >= 2)
            drained = watch.a_node("large_gpu")
            cluster.drain(drained, notice_s=3)
            time.sleep(3)
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
                steps=_STAND_INS,
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
