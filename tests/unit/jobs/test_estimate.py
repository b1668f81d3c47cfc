"""Estimates: seconds from defaults or a pilot run, fleets by arithmetic, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import typer

from cluster.pools import CpuPool, LargeGpuPool, NodeType, Pools, SmallGpuPool
from jobs.cli.estimate import duration
from jobs.estimate.fleet import Site, fastest, in_time, ramp, site_of
from jobs.estimate.report import Estimate, Question, changes, estimate
from jobs.estimate.seconds import Catalog, Part, Pilot, StepTime, defaults, parts_of
from manifests.errors import ClusterError, ManifestError
from manifests.reading.read import count_rows, find_files
from stages.pipeline import steps as steps_of
from stages.recipe import Recipe, preset_names
from tests.conftest import Command


def of(recipe: str, rows: int, deadline_s: float | None = None) -> Estimate:
    catalog = Catalog(rows, 12.0)
    return estimate(Question(Recipe.load(recipe), catalog, Pools(), deadline_s=deadline_s))


@pytest.fixture(scope="module")
def clean_for_ten_million() -> Estimate:
    return of("clean", 10_000_000)


# Rows


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_are_counted(tmp_path: Path, suffix: str) -> None:
    table = pa.table({name: [str(n) for n in range(1000)] for name in ("id", "image", "mask")})
    if suffix == "csv":
        pa.csv.write_csv(table, tmp_path / "m.csv")
    else:
        pq.write_table(table, tmp_path / "m.parquet", row_group_size=70)
    assert count_rows(find_files(str(tmp_path / f"m.{suffix}"))) == 1000


def test_a_manifest_without_rows_cannot_be_estimated(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,image,mask\n")
    with pytest.raises(ManifestError) as error:
        count_rows(find_files(str(tmp_path)))
    assert error.value.code == "manifest.empty"


# Fleets


@pytest.mark.parametrize("recipe", preset_names())
def test_every_recipe_has_a_figure_for_each_of_its_steps(recipe: str) -> None:
    found = of(recipe, 10_000)
    steps = [step.name for step in steps_of(Recipe.load(recipe), "output")]
    timed = [step.name for part in found.parts for step in part.steps if step.name != "transport"]
    assert timed == steps
    if recipe in ("telea", "navier-stokes", "patchmatch"):
        assert set(found.fastest.nodes) == {"cpu"}, "no GPU is paid for"
    if recipe in ("clean", "flux-fill"):
        assert found.parts[found.fastest.bottleneck].slowest.name == "refine"


def site(*, actors: int, min_actors: int = 1, losses: float = 0.0) -> Site:
    """Nodes of two CPUs at $3.6 an hour, which start in 100 s, and their actors in 5 s."""
    nodes = {"cpu": NodeType(cpus=2, max_nodes=(actors + 1) // 2)}
    pools = Pools(cpu=CpuPool(min_actors=min_actors, max_actors=actors), nodes=nodes)
    steps = steps_of(Recipe.load("telea"), "output")
    made = site_of(pools, steps, 10_000_000, prices={"cpu": 3.6}, spot_loss_rate=losses)
    return replace(made, nodes={"cpu": replace(made.nodes["cpu"], start_s=100.0)})


PART = Part("cpu", [StepTime("decode", 2.0)])


def test_time_is_work_over_actors_and_cost_is_time_by_price() -> None:
    fleet = fastest([PART], site(actors=10, min_actors=10), 10_000)
    run = defaults()["run"]
    assert fleet.actors == [10]
    assert fleet.nodes == {"cpu": 5}
    assert fleet.start_s == run["driver_start_s"].value + 100 + 5
    assert fleet.seconds == pytest.approx(10_000 * 2 / 10 + fleet.start_s)
    paid_h = (fleet.seconds + run["idle_s"].value) / 3600
    assert fleet.cost_usd == pytest.approx(5 * 3.6 * paid_h)


def test_a_fleet_that_comes_step_by_step_is_later_and_one_that_loses_nodes_later_still() -> None:
    at_once = fastest([PART], site(actors=10, min_actors=10), 10_000)
    grown = fastest([PART], site(actors=10), 10_000)
    lossy = fastest([PART], site(actors=10, losses=2.0), 10_000)
    assert at_once.ramp_s == at_once.lost_s == 0
    assert at_once.seconds < grown.seconds < lossy.seconds
    assert grown.seconds == pytest.approx(at_once.seconds + grown.ramp_s)


def test_waiting_for_storage_counts_where_it_takes_longer_than_computing() -> None:
    part = Part("cpu", [StepTime("fetch", 8.0, is_io=True), StepTime("decode", 0.5)])
    assert part.seconds == 1.0
    assert part.slowest.name == "fetch"


def test_a_fleet_for_a_deadline_is_the_smallest_one_that_meets_it() -> None:
    here = site(actors=1000, min_actors=20)
    fleet = in_time([PART], here, 10_000, 115.0 + 1001.0)
    assert fleet
    assert fleet.actors == [20], "1001 s are left for 20,000 s of work"
    assert in_time([PART], here, 10_000, 100.0) is None, "no node is up so soon"


def test_nodes_come_twice_as_many_at_a_time_and_no_more_than_32_gpus() -> None:
    found = of("clean", 10_000)
    assert ramp(found.site, "large_gpu", 100) == [1, 2, 4, 8, 16, 32, 64, 96, 100]


def test_cpus_that_gpu_nodes_have_left_are_used_before_nodes_are_added() -> None:
    assert set(of("lama", 100_000).fastest.nodes) == {"small-gpu"}


def test_each_change_is_one_of_the_recipe_and_saves_what_it_says(
    clean_for_ten_million: Estimate,
) -> None:
    for name in preset_names():
        recipe = Recipe.load(name)
        for settings, _ in changes(recipe):
            assert recipe.with_options(settings).hash != recipe.hash
    saved = {settings: share for settings, _, _, share in clean_for_ten_million.savings}
    assert saved["refine.when=never",] > 0.8
    assert 0.3 < saved["refine.steps=12",] < 0.45
    assert 0.3 < saved["refine.size_px=768",] < 0.5
    assert saved["refine.fp8=true", "refine.compile=true"] > 0.4


def test_a_step_without_a_figure_and_nodes_without_a_price_are_refused() -> None:
    recipe = Recipe.load("clean")
    steps = steps_of(recipe, "output")
    with pytest.raises(ClusterError, match=r"refine\.flux-fill\.cpu") as error:
        parts_of(steps, recipe, Catalog(100, 12.0), has_gpus=False)
    assert error.value.code == "cluster.no_figure"
    with pytest.raises(ClusterError, match="no price for nodes small-gpu"):
        site_of(Pools(), steps, 100, prices={"cpu": 1.0})


# A pilot run


def test_options_that_the_pilot_did_not_have_scale_its_seconds() -> None:
    recipe = Recipe.load("clean")
    steps = steps_of(recipe, "output")
    pilot = Pilot(recipe, 500, {"refine": 10.0, "decode": 0.1}, 6.0)
    fewer = recipe.with_options(["refine.steps=10"])
    of_refine = [
        step
        for part in parts_of(steps, fewer, Catalog(100, 6.0, pilot), has_gpus=True)
        for step in part.steps
        if step.name == "refine"
    ]
    assert 5.0 < of_refine[0].seconds < 6.0, "half of the steps, and what does not depend on them"


def test_a_folder_without_a_run_is_no_pilot(invoke: Command) -> None:
    told = invoke("estimate", "m.csv", "--from", "nothing")
    assert told.returncode == 1
    assert "output.not_found: There is no run at" in told.stderr


# The command


def test_a_deadline_is_answered_in_plain_words(invoke: Command, tmp_path: Path) -> None:
    table = pa.table({n: [str(i) for i in range(200_000)] for n in ("id", "image", "mask")})
    pq.write_table(table, tmp_path / "m.parquet")
    arguments = ("estimate", "m.parquet", "--recipe", "clean")
    told = invoke(*arguments, "--deadline", "1d")
    assert (told.returncode, told.stderr) == (0, "")
    assert "The deadline of 24.0 h needs " in told.stdout
    assert "The bottleneck is refine, in the pool large_gpu." in told.stdout
    assert "seconds from defaults only" in told.stdout
    late = invoke(*arguments, "--deadline", "4h")
    assert late.returncode == 3
    assert "more than available: the available nodes need" in late.stdout
    never = invoke(*arguments, "--deadline", "90s")
    assert never.returncode == 3
    assert "No number of nodes meets 90 s" in never.stdout


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28800), ("90m", 5400), ("2d", 172800), ("1h30m", 5400), ("1.5 h", 5400), ("45s", 45)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "8hours", "h", "-8h", "0h", "8h,", "8 weeks", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a duration such as 8h"):
        duration(text)


# Pools that an estimate rests on


def test_cpu_pools_do_not_grow_for_nothing() -> None:
    """Four GPUs that remove are fed by a few CPUs, however many the autoscaler may add."""
    found = of("lama", 100_000)
    assert found.site.sizes["small_gpu"].max_actors == 4
    assert found.site.sizes["cpu"].max_actors == 16


def test_pools_that_are_given_are_estimated_as_given() -> None:
    pools = Pools(small_gpu=SmallGpuPool(max_actors=2), large_gpu=LargeGpuPool(max_actors=3))
    catalog = Catalog(100_000, 12.0)
    found = estimate(Question(Recipe.load("clean"), catalog, pools))
    assert found.fastest.nodes["large-gpu"] == 3
