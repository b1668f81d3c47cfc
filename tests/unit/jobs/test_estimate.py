"""Estimates: seconds from defaults or a pilot run, fleets by arithmetic, and the command."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import typer

from cluster.pools import (
    CpuPoolOptions,
    LargeGpuPoolOptions,
    NodeType,
    PoolsOptions,
    SmallGpuPoolOptions,
)
from jobs.cli.estimate import duration
from jobs.estimate import Estimate, estimate
from jobs.estimate.fleet import Workload
from jobs.estimate.seconds import Basis, Part, default, defaults, parts_of
from manifests.errors import ClusterError, ManifestError
from manifests.reading.read import count_rows, find_files
from stages.pipeline import steps as steps_of
from stages.recipe import Recipe, preset_names
from tests.conftest import Command
from tests.support import DEMO, write
from tests.support.output_folders import clean_here


def of(name: str, rows: int, pools: PoolsOptions | None = None, **options: float) -> Estimate:
    recipe = Recipe.load(name)
    return estimate(recipe, Basis(recipe, 12.0), rows, pools or PoolsOptions(), **options)  # type: ignore[arg-type] # numbers


def job(name: str, rows: int, pools: PoolsOptions) -> Workload:
    recipe = Recipe.load(name)
    steps = steps_of(recipe, "output")
    return Workload.of(recipe, steps=steps, basis=Basis(recipe, 12.0), rows=rows, pools=pools)


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
    timed = [step for part in found.parts for step in part.steps if step != "transport"]
    assert timed == steps
    if recipe in ("telea", "navier-stokes", "patchmatch"):
        assert set(found.fleet.nodes) == {"cpu"}, "no GPU is paid for"
    if recipe in ("clean", "flux-fill"):
        assert found.parts[found.fleet.bottleneck].slowest == "refine"


@pytest.mark.parametrize("fp8", ["true", "false"])
@pytest.mark.parametrize("compiled", ["true", "false"])
def test_klein_without_a_reference_takes_half_as_long(compiled: str, fp8: str) -> None:
    options = [f"refine.compile={compiled}", f"refine.fp8={fp8}", "refine.steps=50"]
    seconds = {}
    for reference in ("fill", "photo", "none"):
        recipe = Recipe.load("clean-apache", [*options, f"refine.reference={reference}"])
        seconds[reference], _ = Basis(recipe, 12.0).time("refine", recipe, has_gpus=True)
    assert seconds["photo"] == seconds["fill"]
    assert 0.45 < seconds["none"] / seconds["fill"] < 0.55


def test_a_removal_of_several_steps_takes_longer_by_each() -> None:
    def seconds(steps: int, megapixels: float = 12.0, *, has_gpus: bool = True) -> float:
        recipe = Recipe.load("rorem", {"remove.steps": steps})
        return Basis(recipe, megapixels).time("remove", recipe, has_gpus=has_gpus)[0]

    erase = Recipe.load("erase")
    one_step, _ = Basis(erase, 12.0).time("remove", erase, has_gpus=True)
    assert seconds(40) - seconds(20) == pytest.approx(seconds(60) - seconds(40))
    assert one_step < seconds(4) < seconds(20) < 10 * one_step
    assert seconds(20, 1.0) < seconds(20, 3.9) == seconds(20, 100.0)
    assert seconds(20, has_gpus=False) > 50 * seconds(20)
    refined = Recipe.load("clean-apache", ["refine.method=rorem"])
    assert Basis(refined, 12.0).time("refine", refined, has_gpus=True)[0] < 1


#: From the request of a CPU node until an actor on it works.
NODE_S = default("node_start_s", "cpu") + default("actor_start_s", "cpu")

#: From the command until the first photo starts.
START_S = default("run", "driver_start_s") + NODE_S


def two_seconds_each(*, actors: int, min_actors: int = 1, losses: float = 0.0) -> Workload:
    """10,000 photos of 2 s, on nodes of two CPUs at $3.6 an hour."""
    nodes = {"cpu": NodeType(cpus=2, max_nodes=(actors + 1) // 2)}
    pools = PoolsOptions(cpu=CpuPoolOptions(min_actors=min_actors, max_actors=actors), nodes=nodes)
    parts = [Part("cpu", {"decode": 2.0}, [], 2.0, "decode")]
    here = replace(job("telea", 10_000_000, pools), rows=10_000, parts=parts)
    return replace(here, prices={"cpu": 3.6}, spot_loss_rate=losses)


def test_time_is_work_over_actors_and_cost_is_time_by_price() -> None:
    fleet = two_seconds_each(actors=10, min_actors=10).fastest()
    assert fleet.actors == [10]
    assert fleet.nodes == {"cpu": 5}
    assert fleet.start_s == START_S
    assert fleet.seconds == pytest.approx(10_000 * 2 / 10 + fleet.start_s)
    paid_h = (fleet.seconds + default("run", "idle_s")) / 3600
    assert fleet.cost_usd == pytest.approx(5 * 3.6 * paid_h)


def test_a_fleet_that_comes_step_by_step_is_later_and_one_that_loses_nodes_later_still() -> None:
    at_once = two_seconds_each(actors=10, min_actors=10).fastest()
    grown = two_seconds_each(actors=10).fastest()
    lossy = two_seconds_each(actors=10, losses=2.0).fastest()
    assert at_once.ramp_s == at_once.lost_s == grown.lost_s == 0
    missing = sum(10 - count for count in (1, 4))
    assert grown.ramp_s == pytest.approx(missing / 10 * (10 + NODE_S))
    assert grown.seconds == pytest.approx(at_once.seconds + grown.ramp_s)
    lost_each_s = NODE_S + 32 * 2  # a new node, and the photos in flight
    assert lossy.lost_s == pytest.approx(2000 * 2 / 3600 * lost_each_s)
    assert lossy.seconds == pytest.approx(grown.seconds + lossy.lost_s)


def test_actors_that_would_come_too_late_are_not_paid_for() -> None:
    few = replace(two_seconds_each(actors=10), rows=100).fastest()
    assert few.actors == [4], "200 s of work are done before the fifth actor is there"


def test_waiting_for_storage_counts_where_it_takes_longer_than_computing() -> None:
    recipe = Recipe.load("telea")
    steps = [step for step in steps_of(recipe, "output") if step.name in ("fetch", "decode")]
    for fetch_s, seconds, slowest in ((8.0, 1.0, "fetch"), (1.0, 0.5, "decode")):
        basis = Basis(recipe, 12.0, 100, {"fetch": fetch_s, "decode": 0.5})
        (part,) = parts_of(steps, recipe, basis, has_gpus=False)
        assert (part.seconds, part.slowest) == (seconds, slowest)


def test_a_fleet_for_a_deadline_is_the_smallest_one_that_meets_it() -> None:
    here = two_seconds_each(actors=1000, min_actors=20)
    fleet = here.smallest_for(START_S + 1001.0)
    assert fleet
    assert fleet.actors == [20], "1001 s are left for 20,000 s of work"
    assert here.smallest_for(START_S - 5.0) is None, "no node is up so soon"
    for hours in (30, 60):
        found = of("clean", 100_000, deadline_s=3600 * hours)
        assert found.fleet.seconds <= 3600 * hours
        assert found.meets_deadline
        assert found.fleet.cost_usd < of("clean", 100_000).fleet.cost_usd


def test_a_deadline_that_cannot_be_met_is_answered_by_what_comes_closest() -> None:
    more = of("clean", 100_000, deadline_s=4 * 3600)
    assert more.fleet.seconds <= 4 * 3600
    assert more.fleet.nodes["large-gpu"] > 16
    assert more.meets_deadline is False, "there are 16"
    never = of("clean", 100_000, deadline_s=90)
    assert (never.fleet, never.meets_deadline) == (of("clean", 100_000).fleet, False)
    assert never.changes == of("clean", 100_000).changes


def test_nodes_come_four_times_as_many_at_a_time_and_no_more_than_256_gpus() -> None:
    here = job("clean", 1_000_000, PoolsOptions(large_gpu=LargeGpuPoolOptions(max_actors=900)))
    parts = [Part("large_gpu", {"refine": 10.0}, [], 10.0, "refine")]
    fleet = replace(here, parts=parts).fastest()
    assert fleet.actors == [900]
    step_s = 10 + default("node_start_s", "large_gpu") + default("actor_start_s", "large_gpu")
    missing = sum(900 - count for count in (1, 4, 16, 64, 256, 512, 768))
    assert fleet.ramp_s == pytest.approx(missing / 900 * step_s)


def test_cpus_that_gpu_nodes_have_left_are_used_before_nodes_are_added() -> None:
    assert set(of("lama", 100_000).fleet.nodes) == {"small-gpu"}


def test_a_search_on_gpus_needs_no_cpu_nodes() -> None:
    recipe = Recipe.load("declutter", ["detect.method=text", "detect.device=gpu"]).detecting()
    found = estimate(recipe, Basis(recipe, 12.0), 100_000, PoolsOptions())
    assert set(found.fleet.nodes) == {"small-gpu"}


def test_pools_that_share_a_node_are_paid_for_it_once() -> None:
    gpus = {"gpus": 0.5, "label_selector": {}, "memory_gib": 0.0, "cpus": 1.0}
    pools = PoolsOptions(
        small_gpu=SmallGpuPoolOptions.model_validate(gpus | {"max_actors": 1}),
        large_gpu=LargeGpuPoolOptions.model_validate(gpus | {"max_actors": 1}),
        nodes={"box": NodeType(cpus=8, gpus=1, max_nodes=1)},
    )
    assert of("clean", 1000, pools).fleet.nodes == {"box": 1}


def test_each_change_is_one_of_the_recipe_and_saves_what_it_says() -> None:
    for name in preset_names():
        recipe = Recipe.load(name)
        for change in of(name, 10_000).changes:
            changed = recipe.with_options(change.set)
            assert changed.hash != recipe.hash
            there = estimate(changed, Basis(changed, 12.0), 10_000, PoolsOptions()).fleet
            assert change.saved == pytest.approx(
                1 - there.cost_usd / of(name, 10_000).fleet.cost_usd
            )
    assert not of("telea", 10_000).changes
    found = of("clean", 10_000_000).changes
    saved = {" ".join(change.set): change.saved for change in found}
    assert saved["refine.when=never"] > 0.8
    assert 0.3 < saved["refine.steps=12"] < 0.45
    assert 0.3 < saved["refine.size_px=768"] < 0.5
    assert saved["refine.fp8=true"] > 0.2
    assert [change.saved for change in found] == sorted(saved.values(), reverse=True)
    assert "refine.reference=none" not in saved, "FLUX-Fill has none"
    klein = {" ".join(change.set) for change in of("clean-apache", 10_000_000).changes}
    assert "refine.reference=none" in klein


def test_what_is_assumed_is_named() -> None:
    known = defaults()
    figures = {*known["node_start_s"].values(), *known["actor_start_s"].values()}
    figures |= {*known["price"].values()}
    assert {figure.kind for figure in figures} == {"assumed"}, "as every estimate says"
    recipe = Recipe.load("telea")
    measured = Basis(recipe, 12.0, 500, {"publish": 0.5})
    found = estimate(recipe, measured, 1000, PoolsOptions(), prices={"cpu": 1.0})
    assert found.assumed == ["fetch", "start of nodes and actors", "spot losses"]
    assert of("telea", 1000).assumed == [
        "fetch",
        "publish",
        "start of nodes and actors",
        "spot losses",
        "prices",
    ]


def test_a_step_without_a_figure_and_nodes_without_a_price_are_refused() -> None:
    recipe = Recipe.load("clean")
    basis = Basis(recipe, 12.0)
    with pytest.raises(ClusterError, match=r"refine\.flux-fill\.cpu") as error:
        parts_of(steps_of(recipe, "output"), recipe, basis, has_gpus=False)
    assert error.value.code == "cluster.no_figure"
    with pytest.raises(ClusterError, match="small-gpu have no price") as error:
        estimate(recipe, basis, 100, PoolsOptions(), prices={"cpu": 1.0})
    assert error.value.code == "cluster.bad_prices"


# A pilot run


def test_options_that_the_pilot_did_not_have_scale_its_seconds() -> None:
    recipe = Recipe.load("clean")
    steps = steps_of(recipe, "output")
    pilot = Basis(recipe, 6.0, 500, {"refine": 10.0, "decode": 0.1})

    def refine_s(option: str) -> float:
        changed = recipe.with_options([option])
        parts = parts_of(steps, changed, pilot, has_gpus=True)
        return next(part.steps["refine"] for part in parts if "refine" in part.steps)

    assert refine_s("seed=1") == 10.0
    assert 5.0 < refine_s("refine.steps=10") < 6.0, "half, and what does not depend on them"
    assert refine_s("refine.size_px=768") == pytest.approx(10.0 * 0.75**2)


def test_failed_rows_of_a_pilot_take_as_long_as_the_others(invoke: Command, tmp_path: Path) -> None:
    photo = DEMO / "photos" / "coffee-stray-coins.jpg"
    ok = [f'{n},{photo},"[100, 100, 50, 40]"' for n in (1, 2, 3, 3)]
    missing = [f'{n},{photo}.gone,"[1, 1, 9, 9]"' for n in range(4, 9)]
    write(tmp_path / "m.csv", "\n".join(["id,image,boxes", *ok[:2], *missing]))
    write(tmp_path / "more.csv", "\n".join(["id,image,boxes", *ok]))
    clean_here(tmp_path / "m.csv", tmp_path / "pilot", Recipe.load("telea"))
    basis = Basis.read(str(tmp_path / "pilot"), 12.0)
    assert (basis.rows, basis.failed) == (2, 5)
    rows = pq.read_table(tmp_path / "pilot" / "lineage").to_pylist()
    times = [dict(row["seconds"])["encode"] for row in rows if row["status"] == "ok"]
    assert basis.seconds["encode"] == pytest.approx(sum(times) / 2)
    done = invoke("estimate", "m.csv", "--from", "pilot")
    assert "seconds from 2 ok of 7 rows of a pilot run.\nnote: 5 of the pilot" in done.stdout
    clean_here(tmp_path / "more.csv", tmp_path / "planned", Recipe.load("telea"))
    done = invoke("estimate", "more.csv", "--from", "planned")
    assert done.stdout.startswith("3 photos, "), "as a run counts them: by id"
    write(tmp_path / "bad.csv", "\n".join(["id,image,boxes", *missing]))
    clean_here(tmp_path / "bad.csv", tmp_path / "failed", Recipe.load("telea"))
    done = invoke("estimate", "bad.csv", "--from", "failed")
    assert (done.returncode, "has no photo that is ok, of 5 that" in done.stderr) == (1, True)


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
    assert "The deadline of 1 day, 0:00:00 can be met." in told.stdout
    assert "The bottleneck is refine, in the pool large_gpu." in told.stdout
    assert "12.0 megapixels each (assumed); seconds from defaults only." in told.stdout
    assert "Assumed, not measured: fetch, prompt, upscale, publish, start of nodes" in told.stdout
    assert re.search(r"\nrefine\.when=never saves 9\d% \(\$.*\); fills stay soft\n", told.stdout)
    late = invoke(*arguments, "--deadline", "4h")
    assert late.returncode == 3
    assert "The deadline of 4:00:00 needs more nodes than available." in late.stdout
    never = invoke(*arguments, "--deadline", "90s")
    assert never.returncode == 3
    first = "The deadline of 0:01:30 cannot be met: the first photo starts after 0:08:00.\n"
    assert first in never.stdout
    soon = invoke(*arguments, "--deadline", "9m")
    assert soon.returncode == 3
    assert "starts after 0:08:00, and more nodes would start too late." in soon.stdout


@pytest.mark.parametrize(
    ("words", "photos"),
    [
        (("-r", "declutter"), 4),
        (("-r", "telea"), 4),
        (("--masks", "photos/masks"), 3),
        (("--mask", "photos/masks/a.png"), 3),
    ],
)
def test_the_pictures_of_a_folder_are_counted_whatever_marks_them(
    invoke: Command, tmp_path: Path, words: tuple[str, ...], photos: int
) -> None:
    for name in ("a.jpg", "b.jpg", "red/c.jpg", "masks/a.png"):
        write(tmp_path / "photos" / name, "not opened")
    done = invoke("estimate", "photos", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{photos} photos, ")


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
    sizes = job("lama", 100_000, PoolsOptions()).sizes
    assert (sizes["small_gpu"].max_actors, sizes["cpu"].max_actors) == (4, 16)


def test_pools_that_are_given_are_estimated_as_given() -> None:
    pools = PoolsOptions(
        small_gpu=SmallGpuPoolOptions(max_actors=2), large_gpu=LargeGpuPoolOptions(max_actors=3)
    )
    assert of("clean", 100_000, pools).fleet.nodes["large-gpu"] == 3
