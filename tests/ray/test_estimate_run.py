"""An estimate compared with a real run: Ray's scheduler, queues and actors on simulated nodes.

One actor refines, and waits far longer than all else takes, so that a machine that is busy with
other things changes little. What it misses: real models, whose times vary; how long real nodes take
to start.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from cluster.pools import PoolsOptions
from jobs.estimate.fleet import Workload
from jobs.estimate.seconds import Basis
from jobs.run import run
from stages.recipe import Recipe
from tests.conftest import Command
from tests.support import boxed_catalog
from tests.support.models.sleeping_models import SleepingModels, read_traces
from tests.support.output_folders import clean_here
from tests.support.simulated_cluster import POOLS, simulated_cluster

TELEA = Recipe.load("telea")
PHOTOS = 10


def one_actor_each() -> PoolsOptions:
    sizes = {"min_actors": 1, "max_actors": 1}
    return POOLS.model_copy(
        update={
            name: getattr(POOLS, name).model_copy(update=sizes)
            for name in ("small_gpu", "large_gpu")
        }
    )


@pytest.mark.slow
def test_a_run_takes_as_long_as_was_estimated_from_it_as_a_pilot(tmp_path: Path) -> None:
    models, pools = SleepingModels(remove_s=0.1, refine_s=1.5, trace=tmp_path), one_actor_each()
    manifest, output = boxed_catalog(tmp_path, PHOTOS), str(tmp_path / "out")
    with (
        redirect_stdout(io.StringIO()),  # on which Ray reports each node that is stopped
        simulated_cluster(pools.nodes, 30.0) as cluster,
    ):
        outcome = run(
            manifest,
            output,
            TELEA,
            Console(quiet=True),
            address=cluster.address,
            pools=pools,
            steps=models,
            rows_per_shard=10,
        )
    assert outcome.exit_code == 0
    (times,) = read_traces(tmp_path)
    measured_s = times[-1, 1] - times[0, 0]

    basis = Basis.read(output, 0.003)
    steps = models(TELEA, "")
    job = Workload.of(TELEA, steps=steps, basis=basis, rows=PHOTOS, pools=pools)
    fleet = job.fastest()
    assert job.parts[fleet.bottleneck].slowest == "refine"
    assert fleet.seconds - fleet.start_s == pytest.approx(measured_s, rel=0.15)
    assert measured_s == pytest.approx(PHOTOS * 1.5, rel=0.15)


def test_a_pilot_runs_seconds_replace_the_defaults(
    invoke: Command, small_demo: str, tmp_path: Path
) -> None:
    clean_here(small_demo, tmp_path / "pilot", TELEA)
    pilot = Basis.read(str(tmp_path / "pilot"), 12.0)
    assert (pilot.rows, pilot.recipe.name) == (8, "telea")
    rows = pq.read_table(tmp_path / "pilot" / "lineage").to_pylist()
    fetched = [dict(row["seconds"])["fetch"] for row in rows]
    assert pilot.seconds["fetch"] == pytest.approx(sum(fetched) / 8)
    told = invoke("estimate", small_demo, "--from", "pilot", "--json")
    assert (told.returncode, told.stderr) == (0, "")
    found = json.loads(told.stdout)
    assert (found["recipe"], found["pilot_rows"]) == ("telea", 8)
    (part,) = found["parts"]
    assert part["steps"] == pytest.approx(pilot.seconds)
