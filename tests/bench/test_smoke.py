"""The benchmarks of ``tests/bench``, each run in small: that they still work with the program.

What this misses: how fast anything is, IOPaint, whose environment would have to be fetched, and
what a GPU alone shows (fp8, generated code, memory, full-size networks).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_docs import ROOT


def _figures(folder: Path, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
    """What a benchmark keeps in its file, after it ended with this code."""
    out = folder / "figures.json"
    call = [sys.executable, "-m", *map(str, arguments), "--out", str(out)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == code, done.stderr
    kept = json.loads(out.read_text())
    assert kept["machine"]["cores"]
    found: list[dict[str, Any]] = kept["figures"]
    assert len(done.stdout.splitlines()) >= len(found) > 0
    return found


@pytest.mark.parametrize(
    ("recipe", "peer", "options"),
    [
        ("telea", "pool", ("remove.radius_px=5",)),
        ("lama", "simple-lama", ("remove.context=1", "remove.min_context_px=125")),
    ],
)
def test_the_pipeline_is_timed_against_another_program(
    recipe: str, peer: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    small = ("--photos", 3, "--megapixels", 0.3, "--rounds", 1, "--here")
    program = ("tests.bench.pipeline", "--recipe", recipe, "--peer", peer, "--set", *options)
    ours, theirs = _figures(tmp_path, *program, *small)
    assert (ours["way"], theirs["way"], ours["ratio"]) == ("ours", peer, 1.0)
    assert theirs["ratios"] == [theirs["work_s"] / ours["work_s"]]
    for each in (ours, theirs):
        assert each["start_s"] > 0
        assert each["photos_a_second"] * each["work_s"] == pytest.approx(3)


def test_each_way_to_run_a_network_is_timed_and_compared(tmp_path: Path) -> None:
    ways = ("float32", "plain loop", "bfloat16", "fp8")
    tiny = ("--tiny", "--device", "cpu", "--batch", 1, 2, "--way", *ways)
    found = _figures(tmp_path, "tests.bench.gpu", *tiny, code=2)
    (missed,) = (each for each in found if "note" in each)
    assert missed["way"] == "fp8"
    assert "refine.fp8 needs a GPU" in missed["note"]
    timed = {(each["network"], each["way"], each["batch"]): each for each in found
             if "seconds" in each}  # fmt: skip
    assert len(timed) == 9
    for (network, way, batch), each in timed.items():
        assert each["size_px"] == 64
        if way == "float32":
            assert each["off_max"] == 0 or batch > 1
        elif (network, way) != ("flux-fill", "plain loop"):
            assert 0 <= each["off_mean"] < 30, "near float32's, as far as random weights allow"


def test_no_part_begins_when_the_minutes_are_over(tmp_path: Path) -> None:
    none = ("--tiny", "--device", "cpu", "--network", "lama", "--minutes", 0)
    found = _figures(tmp_path, "tests.bench.gpu", *none, code=1)
    assert [each["note"] for each in found] == ["the minutes are over"] * 5


def test_the_dag_is_compared_with_its_steps_and_sleepers_are_busy(tmp_path: Path) -> None:
    small = ("--photos", 8, "--megapixels", 0.3, "--actors", 2, "--seconds", 0.5, "--each", 12)
    alone, one, three, slept = _figures(tmp_path, "tests.bench.scale", *small)
    assert [each.get("way") for each in (alone, one, three)] == [
        "steps alone", "one pool", "three pools"]  # fmt: skip
    for each in (one, three):
        assert each["photos"] == 8
        assert (each["bytes_a_photo"] < 10_000) == (each is one), "in one pool nothing travels"
        assert min(each[name] for name in ("efficiency", "cpu_s", "start_s", "seconds")) > 0
        assert min(each["actor_mib"], each["driver_mib"]) > 50
        assert max(each["actor_mib"], each["driver_mib"]) < 2000
    assert (slept["actors"], slept["photos"]) == (2, 24)
    assert 0.2 < slept["busy"] <= 1.001
    assert 0 < slept["photos_a_second"] < 2.2 * 2
    assert min(slept["ramp_s"], slept["head_cores"]) > 0


def test_hops_between_actors_are_measured(tmp_path: Path) -> None:
    small = ("--photos", 2, "--megapixels", 0.5)
    *hops, whole = _figures(tmp_path, "tests.bench.hops", *small)
    assert [each["hop"] for each in hops] == [
        "cpu > small_gpu", "small_gpu > large_gpu", "large_gpu > cpu"]  # fmt: skip
    assert whole["kilobytes"] == pytest.approx(sum(each["kilobytes"] for each in hops))
    assert all(0 < each["kilobytes"] < 4000 and each["cpu_ms"] > 0 for each in hops)
    assert min(whole["read_again_ms"], whole["decode_and_stitch_ms"]) > 0


def test_plans_are_measured_and_resuming_finds_the_rows_that_are_left(tmp_path: Path) -> None:
    kinds = ("--rows", 2000, "--kind", "parquet", "csv+boxes", "resume")
    found = _figures(tmp_path, "tests.bench.plan", *kinds)
    assert [each["kind"] for each in found] == ["parquet", "csv+boxes", "resume"]
    assert found[2]["remaining"] == 20
    assert all(50 < each["peak_mib"] < 1000 and each["seconds"] > 0 for each in found)


def test_the_judge_is_fitted_and_its_errors_are_counted(tmp_path: Path) -> None:
    small = ("--holes", 1, "--detail-holes", 1, "--bundled", 4)
    found = _figures(tmp_path, "tests.bench.judge", *small)
    held = next(each for each in found if each.get("photos") == "held out")
    assert held["auc"] > 0.8
    assert sum(each["count"] for each in found if "count" in each) == 4


def test_pasted_text_is_looked_for_and_photos_without_are_counted(tmp_path: Path) -> None:
    found = _figures(tmp_path, "tests.bench.detection", "--count", 2)
    (goal,), (apart,), (untouched,) = (
        [each for each in found if name in each]
        for name in ("goal", "marked_apart_from_overlays", "photos")
    )
    assert goal["texts"] > 0
    assert 0 <= apart["marked_apart_from_overlays"] < 0.1
    assert untouched["photos"] == 2
    assert untouched["cpu_s_max"] >= untouched["cpu_s_median"] > 0


def test_the_floor_of_the_arithmetic_is_counted_from_the_shapes() -> None:
    """By hand: 57 blocks of width 3072, whose linear layers come to 12 squares of it."""
    from tests.bench.ideal import flux_fill_work, lama_work

    width, blocks, tokens = 3072, 19 + 38, 64 * 64 + 512
    one, two, all_steps = (flux_fill_work(1024, steps, 512) for steps in (1, 2, 20))
    linear = 2 * 12 * width**2 * tokens * blocks / 1e12
    attention = 4 * tokens**2 * width * blocks / 1e12
    assert two.linear - one.linear == pytest.approx(linear, rel=2e-3)
    assert two.other - one.other == pytest.approx(attention, rel=1e-6)
    gpu, text = "NVIDIA H100 80GB HBM3", (ROOT / "tests/bench/README.md").read_text()
    in_16, in_8 = (all_steps.seconds(gpu, fp8=fp8) for fp8 in (False, True))
    assert "1.52 s (0.92 s with fp8)" in text
    assert (f"{in_16:.2f}", f"{in_8:.2f}") == ("1.52", "0.92")
    assert f"{lama_work(1024).seconds(gpu):.4f}" == "0.0018"
    assert all_steps.seconds("NVIDIA H100 80GB HBM3 MIG 3g.40gb") is None
