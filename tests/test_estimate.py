"""Estimates: counting and sampling manifests, the arithmetic, the simulation, and the command."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from cluster.pools import CpuPool, NodeType, Pools
from jobs import clean
from jobs.bench.steps import Timed, calibration, fitted, of_models
from jobs.estimate.answer import Answer, Question, answer
from jobs.estimate.calibration import Calibration
from jobs.estimate.capacity import Site, growth, in_time, most, site_of
from jobs.estimate.catalog import Catalog, assumed_photo, look_at
from jobs.estimate.levers import levers
from jobs.estimate.simulation import simulate
from jobs.estimate.work import Part, StepTime, parts_of
from jobs.estimate_cli import duration
from manifests.errors import ClusterError, ManifestError
from manifests.read import find_files
from manifests.sample import count_rows, sample_rows
from stages.recipe import Recipe, preset_names
from tests.conftest import Command
from tests.support import DEMO

_KNOWN = Calibration.load()


def of(recipe: str, rows: int, deadline_s: float | None = None, losses: float = 0.0) -> Answer:
    loaded = Recipe.load(recipe)
    catalog = Catalog(rows, [assumed_photo(loaded, 12.0)], is_assumed=True)
    return answer(
        Question(loaded, catalog, Pools(), _KNOWN, deadline_s=deadline_s, losses_per_hour=losses)
    )


# Manifests


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_are_counted_and_drawn_with_equal_chances(tmp_path: Path, suffix: str) -> None:
    table = pa.table(
        {
            "id": [str(number) for number in range(1000)],
            "image": [f"{number}.jpg" for number in range(1000)],
            "boxes": [f"[[{number}, 0, 5, 5]]" for number in range(1000)],
        }
    )
    if suffix == "csv":
        pa.csv.write_csv(table, tmp_path / "m.csv")
    else:
        pq.write_table(table, tmp_path / "m.parquet", row_group_size=70)
    files = find_files(str(tmp_path / f"m.{suffix}"))
    assert count_rows(files) == 1000
    drawn: Counter[int] = Counter()
    for seed in range(60):
        sample = sample_rows(files, 20, seed)
        assert sample.count == 1000
        assert len({row["id"] for row in sample.rows}) == 20
        for row in sample.rows:
            assert json.loads(row["marks"])["boxes"][0][0] == int(row["id"])
            assert row["image_uri"] == f"{tmp_path}/{row['id']}.jpg"
            drawn[int(row["id"]) // 250] += 1
    assert all(240 <= drawn[quarter] <= 360 for quarter in range(4)), drawn
    assert sample_rows(files, 20, 7).rows == sample_rows(files, 20, 7).rows
    assert len(sample_rows(files, 5000).rows) == 1000


def test_a_manifest_without_rows_cannot_be_estimated(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,image,mask\n")
    with pytest.raises(ManifestError) as error:
        sample_rows(find_files(str(tmp_path)), 3)
    assert error.value.code == "manifest.empty"


def test_photos_are_looked_at_and_those_that_fail_take_no_time(tmp_path: Path) -> None:
    photo, mask = DEMO / "photos/wall-clock-corner-logo.jpg", DEMO / "masks"
    mask = mask / "wall-clock-corner-logo.png"
    rows = [f"good,{photo},{mask}", f"gone,gone.jpg,{mask}", f"none,{photo},", "../bad,a,b"]
    (tmp_path / "m.csv").write_text("\n".join(["id,image,mask", *rows]))
    recipe = Recipe.load("clean")
    catalog = look_at(str(tmp_path / "m.csv"), recipe, 24)
    assert catalog.rows == 4
    assert catalog.failed == {"image.not_found": 1, "mask.no_uri": 1, "id.unsafe": 1}
    (shape,) = catalog.photos
    assert 0 < shape.masked_share < 0.2
    assert all(patch.window >= patch.crop for patch in shape.patches)
    assert catalog.smooth_share is not None
    alone = Catalog(1, catalog.photos)
    for few, one in zip(
        parts_of(recipe, catalog, _KNOWN, has_gpus=True),
        parts_of(recipe, alone, _KNOWN, has_gpus=True),
        strict=True,
    ):
        assert few.seconds == pytest.approx(one.seconds / 4)


# Arithmetic


@pytest.mark.parametrize("recipe", preset_names())
def test_every_recipe_can_be_estimated(recipe: str) -> None:
    found = of(recipe, 10_000)
    assert found.at_most.fleet.seconds > 0
    assert found.at_most.fleet.cost_usd > 0
    if recipe in ("telea", "navier-stokes", "patchmatch"):
        assert set(found.at_most.fleet.nodes) == {"cpu"}, "no GPU is paid for"
    if recipe in ("clean", "flux-fill"):
        assert found.parts[found.at_most.fleet.bottleneck].longest.name == "refine"


def test_time_is_work_over_actors_and_money_is_time_by_price() -> None:
    site = replace(small_site(at_once=True, actors=10), driver_start_s=0.0)
    part = Part("cpu", [StepTime("decode", (), 2.0)])
    fleet = most([part], site, 10_000, 1)
    assert fleet.actors == [10]
    assert fleet.nodes == {"cpu": 5}
    assert fleet.seconds == pytest.approx(10_000 * 2 / 10 + 100 + 3)
    assert fleet.cost_usd == pytest.approx(5 * 3.6 * (fleet.seconds + 60) / 3600)


def test_waiting_for_storage_counts_where_it_takes_longer_than_computing() -> None:
    steps = [StepTime("fetch", (), 8.0, waits=True), StepTime("decode", (), 0.5)]
    assert Part("cpu", steps).seconds == 1.0
    assert Part("cpu", steps).longest.name == "fetch"


def test_a_fleet_for_a_deadline_is_the_smallest_one_that_is_in_time() -> None:
    site = small_site(at_once=True, actors=1000)
    part = Part("cpu", [StepTime("decode", (), 2.0)])
    fleet = in_time([part], site, 10_000, 1, 1114.0)
    assert fleet
    assert fleet.actors == [20], "1114 s less 113 s to start are 1001 s"
    assert in_time([part], site, 10_000, 1, 100.0) is None, "no node is up so soon"


def test_nodes_come_step_by_step_and_no_more_than_32_gpus_at_a_time() -> None:
    found = of("clean", 10_000_000).at_most
    assert growth(found.site, "large_gpu", 100) == [1, 2, 4, 8, 16, 32, 64, 96, 100]


def test_a_deadline_is_judged_in_plain_words_and_the_fleet_is_simulated(
    command: Command, tmp_path: Path
) -> None:
    table = pa.table({n: [str(i) for i in range(200_000)] for n in ("id", "image", "mask")})
    pq.write_table(table, tmp_path / "m.parquet")
    arguments = ("estimate", "m.parquet", "--recipe", "clean", "--photo-mp", "12")
    told = command(*arguments, "--deadline", "1d", "--json", "found.json")
    assert (told.returncode, told.stderr) == (0, "")
    assert "The deadline of 24.0 h can be met, with " in told.stdout
    assert "The bottleneck is refine, in the pool large_gpu." in told.stdout
    assert "published (default)" in told.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["in_time"]["simulated"]["seconds"] <= 86400
    late = command(*arguments, "--deadline", "2h")
    assert late.returncode == 2
    assert "cannot be met with the nodes that there may be: they take" in late.stdout
    assert "They have to be asked for at once (cpu.min_actors = " in late.stdout
    never = command(*arguments, "--deadline", "90s")
    assert never.returncode == 2
    assert "cannot be met with any number of nodes" in never.stdout


def test_levers_are_the_recipes_own_and_each_saves_what_it_says() -> None:
    for name in preset_names():
        recipe = Recipe.load(name)
        assert all(lever.pulled(recipe).hash != recipe.hash for lever in levers(recipe))
    savings = {saving.lever.settings: saving for saving in of("clean", 1_000_000).savings}
    assert savings["refine.when=never",].saved > 0.8
    assert 0.3 < savings["refine.steps=12",].saved < 0.45
    assert 0.3 < savings["refine.size_px=768",].saved < 0.5
    assert savings["refine.fp8=true", "refine.compile=true"].saved > 0.4


# Simulation


def small_site(*, at_once: bool, actors: int, losses: float = 0.0) -> Site:
    """Nodes of two CPUs, which take 100 s to start, and their actors 3 s."""
    nodes = {"cpu": NodeType(cpus=2, max_nodes=(actors + 1) // 2)}
    pools = Pools(cpu=CpuPool(max_actors=actors), nodes=nodes)
    steps = clean.steps(Recipe.load("telea"), "")
    site = site_of(pools, _KNOWN, {"cpu": 3.6}, losses, steps=steps, rows=10_000_000)
    return replace(
        site,
        at_once=at_once,
        nodes=[replace(each, start_s=100.0) for each in site.nodes],
        actor_start_s={"cpu": 3.0},
        driver_start_s=10.0,
        idle_s=60.0,
    )


def test_one_actor_takes_the_time_of_all_photos_one_after_the_other() -> None:
    part = Part("cpu", [StepTime("decode", (), 2.0)])
    site = small_site(at_once=False, actors=1)
    found = simulate([part], site, 500, 10)
    assert found.busy[0] == pytest.approx((113.0, 1113.0))
    assert found.seconds == pytest.approx(1113.0, abs=0.5)
    assert found.node_hours["cpu"] == pytest.approx((found.seconds - 10 + 60) / 3600)
    assert found.cost_usd == pytest.approx(3.6 * found.node_hours["cpu"])
    assert (found.passes, found.redone, found.utilisation) == (1, 0, [1.0])


def test_ten_million_photos_agree_with_the_arithmetic_where_that_is_exact() -> None:
    found = of("clean", 10_000_000).at_most
    assert found.simulated.seconds == pytest.approx(found.fleet.seconds, rel=0.01)
    assert found.simulated.cost_usd == pytest.approx(found.fleet.cost_usd, rel=0.05)
    assert found.simulated.redone == 0


def test_a_unit_of_many_photos_stands_for_them_soundly() -> None:
    """Fewer photos of more seconds each are simulated one by one, and take the same time."""
    site = small_site(at_once=False, actors=40, losses=0.5)
    coarse = simulate([Part("cpu", [StepTime("decode", (), 0.01)])], site, 4_000_000, 1)
    fine = simulate([Part("cpu", [StepTime("decode", (), 4.0)])], site, 10_000, 1)
    assert coarse.seconds == pytest.approx(fine.seconds, rel=0.03)
    assert coarse.lost_nodes == pytest.approx(fine.lost_nodes, rel=0.5)


def test_lost_nodes_cost_what_was_in_flight_and_every_row_is_done() -> None:
    part = Part("cpu", [StepTime("decode", (), 2.0)])
    calm = simulate([part], small_site(at_once=False, actors=8), 20_000, 10)
    lossy = small_site(at_once=False, actors=8, losses=2.0)
    found = simulate([part], lossy, 20_000, 10, seed=3)
    assert found == simulate([part], lossy, 20_000, 10, seed=3)
    assert found != simulate([part], lossy, 20_000, 10, seed=4)
    assert found.lost_nodes > 3
    assert 0 < found.redone <= found.lost_nodes * 2 * 2 * 10, "two blocks of two actors"
    assert found.passes > 1
    assert calm.seconds < found.seconds < 1.3 * calm.seconds
    with pytest.raises(RuntimeError, match="nodes are lost faster"):
        simulate([part], small_site(at_once=False, actors=2, losses=60.0), 20_000, 500)


# Figures


def test_the_refiners_figures_follow_the_operations_of_its_network() -> None:
    pytest.importorskip("torch")
    from jobs.bench.ideal import flux_fill_work  # noqa: PLC0415 - takes seconds

    figure = _KNOWN.seconds("refine.flux-fill")
    at_1024 = figure.per_step + figure.per_step_megapixel * 1024**2 / 1e6
    assert at_1024 * 28 == pytest.approx(6.7, rel=0.01), "as published"
    at_768 = figure.per_step + figure.per_step_megapixel * 768**2 / 1e6
    work, whole = (flux_fill_work(px, 1000, 512).total for px in (768, 1024))
    assert at_768 / at_1024 == pytest.approx(work / whole, rel=0.06)


def test_figures_are_found_again_in_times_that_follow_from_them() -> None:
    random = np.random.default_rng(1)
    timed = []
    for megapixels, patches in random.uniform(0.5, 12, (20, 2)):
        features = {
            "per_photo": 1.0,
            "per_megapixel": megapixels,
            "per_patch": 1.0,
            "per_patch_megapixel": patches,
        }
        timed.append(Timed("decode", 0.01 + 0.03 * megapixels, features))
        timed.append(Timed("remove.telea", 0.5 * patches, features))
    found = fitted(timed)
    assert found["decode"] == pytest.approx({"per_photo": 0.01, "per_megapixel": 0.03})
    assert found["remove.telea"]["per_patch_megapixel"] == pytest.approx(0.5)


def test_figures_of_models_come_from_what_bench_gpu_measures(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import tomli_w  # noqa: PLC0415

    from jobs.bench.gpu import Setup, measure, place  # noqa: PLC0415 - takes seconds

    setup = Setup(
        place("cpu", tiny=True), ["lama", "flux-fill"], ["bfloat16"], (64, 96), (1,), 1, tiny=True
    )
    costs = list(measure(setup))
    found = of_models(costs, steps=2)
    assert set(found) == {"remove.lama", "refine.flux-fill"}
    figures = found["refine.flux-fill"]
    larger = next(c for c in costs if (c.network, c.size_px) == ("flux-fill", 96))
    told = 2 * (figures["per_step"] + figures["per_step_megapixel"] * 96**2 / 1e6)
    assert told == pytest.approx(larger.seconds, rel=0.5)
    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps(calibration({}, found, "a tiny GPU")))
    known = Calibration.load(file)
    assert known.steps["remove.lama"].source == "catalog-cleanup bench steps, a tiny GPU"
    assert not known.steps["remove.lama"].is_default
    assert known.steps["decode"].is_default


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 3", "steps = 3: Input should be a valid dictionary"),
        ("[steps.decode]\nper_photo = 1", "steps.decode.kind is missing"),
        ('[steps.decode]\nkind="measured"\nsource="x"\nper_foto=1', "per_foto is no key of it"),
        ('[steps.decode]\nkind="measured"\nsource="x"\nper_photo=-1', "greater than or equal to 0"),
        ('[run.idle]\nkind="measured"\nsource="x"\nvalue=1', "run.idle is none of driver_start_s"),
        ("[", "mine.toml: "),
    ],
)
def test_a_bad_calibration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ClusterError) as error:
        Calibration.load(tmp_path / "mine.toml")
    assert error.value.code == "cluster.bad_calibration"
    assert message in error.value.message


def test_a_step_that_nobody_measured_and_a_missing_price_are_told() -> None:
    recipe = Recipe.load("clean")
    catalog = Catalog(100, [assumed_photo(recipe, 12.0)])
    with pytest.raises(ClusterError, match=r"no figure for refine\.flux-fill\.cpu"):
        parts_of(recipe, catalog, _KNOWN, has_gpus=False)
    with pytest.raises(ClusterError, match="no price for nodes small-gpu"):
        site_of(Pools(), _KNOWN, {"cpu": 1.0}, None, steps=clean.steps(recipe, ""), rows=100)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28800), ("90m", 5400), ("2d", 172800), ("1h30m", 5400), ("1.5 h", 5400), ("45s", 45)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "8hours", "h", "-8h", "0h", "8h,", "8 weeks", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no duration such as 8h"):
        duration(text)
