"""The benchmarks, each in small: that they run, and that their figures can be right.

What this misses: how fast anything is, which the benchmarks themselves tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifests.files import Place
from tests.conftest import Command

Bench = Callable[..., tuple[list[dict[str, Any]], str]]


@pytest.fixture
def bench(command: Command, tmp_path: Path) -> Bench:
    """The figures of a benchmark with these arguments, and what it printed."""

    def call(*arguments: object) -> tuple[list[dict[str, Any]], str]:
        done = command("bench", *arguments, "--json", "found.json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads((tmp_path / "found.json").read_text()), done.stdout

    return call


def test_plan_tells_time_and_memory_of_each_size(bench: Bench) -> None:
    sizes = ("--rows", 1000, "--rows", 2000, "--kind", "parquet", "--kind", "jsonl+boxes")
    found, told = bench("plan", *sizes)
    assert "rows/s" in told
    assert [(each["kind"], each["rows"]) for each in found] == [
        (kind, rows) for kind in ("parquet", "jsonl+boxes") for rows in (1000, 2000)
    ]
    assert all(50 < each["peak_mib"] < 1000 and each["seconds"] > 0 for each in found)


def test_resume_finds_the_rows_that_are_left(bench: Bench) -> None:
    found, told = bench("resume", "--rows", 2000)
    assert "left" in told
    assert [(each["rows"], each["remaining"]) for each in found] == [(2000, 20)]


def test_jpeg_holds_editing_against_coding_again(bench: Bench) -> None:
    found, told = bench("jpeg")
    assert "kept" in told
    assert all(each["kept_seconds"] > 0 and each["growth"] < 1.1 for each in found)


def test_detail_tells_how_many_patches_are_left_as_they_are(command: Command) -> None:
    done = command("bench", "detail", "--holes", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "left as they are" in done.stdout


def test_efficiency_holds_the_dag_against_its_steps(bench: Bench) -> None:
    found, told = bench("efficiency", "--photos", 12, "--megapixels", 1)
    assert "three pools" in told
    alone, one, three = found
    assert [alone["photos"], one["photos"], three["photos"]] == [1, 12, 12]
    assert alone["bytes_a_photo"] == 0
    assert one["bytes_a_photo"] < 10_000, "within a pool, pictures do not travel"
    assert three["bytes_a_photo"] > 100_000
    for each in (one, three):
        assert each["efficiency"] > 0
        assert each["cpu_seconds"] > 0
        assert min(each["start_seconds"], each["seconds"], each["end_seconds"]) > 0
        assert 50 < each["actor_mib"] < 2000
        assert 50 < each["driver_mib"] < 2000


def test_scale_tells_how_busy_actors_are(bench: Bench) -> None:
    (found,), told = bench("scale", "--actors", 2, "--seconds", 0.5, "--photos", 12)
    assert "ramp-up" in told
    assert (found["actors"], found["photos"]) == (2, 24)
    assert 0.2 < found["busy"] <= 1.001
    assert 0 < found["photos_a_second"] < 2.2 * 2
    assert found["ramp_seconds"] > 0
    assert found["driver_cores"] > 0
    assert found["driver_cores_of_many"] is None, "there is nothing to compare with"


def test_io_holds_s3_against_boto3_and_leaves_nothing(bench: Bench, s3: str) -> None:
    found, told = bench("io", f"{s3}/bench", "--kilobytes", 10, "--objects", 20, "--pairs", 1)
    assert "boto3's" in told
    assert [each["what"] for each in found] == ["PUT", "GET"]
    assert all(each["objects_a_second"] > 0 and each["ratio"] > 0 for each in found)
    assert not Place.of(f"{s3}/bench").files()


def test_io_takes_s3_alone(command: Command) -> None:
    done = command("bench", "io", "folder")
    assert done.returncode == 1
    assert "no s3:// URI" in " ".join(done.stderr.split())
