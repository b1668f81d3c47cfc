"""Machines that are broken: they cost no row and no other machine's work, and the run goes on.

The workers of the GPU pool run on the CPU here, with stand-ins that raise what PyTorch raises. What
that misses: that a new process can use a real GPU again.
"""

from __future__ import annotations

import io
import os
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster.pools import PoolSize
from jobs.driver import passes
from jobs.pipeline import supervisor
from jobs.pipeline.units import UNIT_ROWS
from jobs.run import Outcome, run
from manifests.errors import ClusterError, WeightsError
from stages.recipe import Recipe
from tests.support import beside, boxed_catalog, last_run, lineage, wait_until
from tests.support import faulty_steps as doubles

_PHOTOS = 96

#: Workers of the pool that fails.
_WORKERS = 2

Clean = Callable[..., Outcome]


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def clean(
    ray_address: str, tmp_path: Path, printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> Clean:
    """A catalog with workers that fail, on a pool of some and another of one."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)

    def clean(fault: str, *options: str, workers: int = _WORKERS, **more: Any) -> Outcome:
        return run(
            boxed_catalog(tmp_path, _PHOTOS),
            str(tmp_path / "out"),
            Recipe.load("telea", options),
            Console(file=printed),
            address=ray_address,
            pools={
                "cpu": PoolSize(1, 1, cpus=0.25),
                "small_gpu": PoolSize(workers, workers, cpus=0.1),
            },
            steps=doubles.BrokenWorkers(tmp_path, fault, **more),
        )

    return clean


def assert_all_ok(outcome: Outcome, folder: Path) -> None:
    assert (outcome.exit_code, outcome.tally.ok, outcome.tally.failed) == (0, _PHOTOS, {})
    assert lineage(folder / "out").index.is_unique


def failed_workers(folder: Path) -> int:
    return len(list(folder.glob("failed-*")))


def assert_failed_without_a_row(folder: Path) -> None:
    assert last_run(folder / "out")["status"] == "failed"
    assert not list((folder / "out").rglob("lineage/**/*.parquet"))


def test_a_gpu_that_fails_costs_no_row(clean: Clean, tmp_path: Path, printed: io.StringIO) -> None:
    """Three of four do: their processes end, and what they had in flight is done in this pass."""
    outcome = clean("device", processes=3, workers=4, sound_photos=8)
    assert_all_ok(outcome, tmp_path)
    assert failed_workers(tmp_path)
    assert "no result yet" not in printed.getvalue(), "no further pass"


def test_gpus_that_all_fail_end_the_run_and_no_row(clean: Clean, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="CUDA error: unspecified launch failure") as caught:
        clean("device", processes=1000, workers=1)
    assert caught.value.code == "cluster.workers_failed"
    assert_failed_without_a_row(tmp_path)
    assert failed_workers(tmp_path) == 3, "twice it was replaced"


def test_a_worker_whose_every_photo_fails_is_replaced(clean: Clean, tmp_path: Path) -> None:
    """What it failed is done elsewhere: the fault was not the photos'."""
    assert_all_ok(clean("program", sound_photos=8), tmp_path)
    assert failed_workers(tmp_path) == 1


def test_a_fault_of_all_workers_ends_the_run(clean: Clean) -> None:
    with pytest.raises(
        ClusterError, match="5 photos in a row failed, the last by KeyError"
    ) as caught:
        clean("program", processes=1000, workers=1)
    assert caught.value.code == "cluster.workers_failed"


def test_a_fault_that_many_photos_meet_ends_the_run(
    clean: Clean, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker goes on, since photos in between are done."""
    monkeypatch.setattr(passes, "_MIN_INTERNAL_ERRORS", 10)
    with pytest.raises(ClusterError, match=r"\d+ photos ended with internal.error") as caught:
        clean("every-3")
    assert caught.value.code == "cluster.workers_failed"
    assert "KeyError" in str(caught.value)


def test_fewer_are_recorded_as_failed_at_their_second_try(
    clean: Clean, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the second pass has no other photos."""
    monkeypatch.setattr(passes, "_MIN_INTERNAL_ERRORS", 4)
    outcome = clean("every-40")
    assert (outcome.exit_code, outcome.tally.failed) == (3, {"internal.error": 3})
    assert outcome.tally.ok == _PHOTOS - 3


def test_weights_that_do_not_load_at_first_are_loaded_again(clean: Clean, tmp_path: Path) -> None:
    assert_all_ok(clean("load", processes=3), tmp_path)


def test_weights_that_never_load_end_the_run_with_their_error(clean: Clean, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="HTTP 429") as caught:
        clean("load", processes=1000, workers=1)
    assert caught.value.code == "weights.missing"
    assert_failed_without_a_row(tmp_path)
    assert len(list(tmp_path.glob("broken-*"))) >= 3, "it was replaced"


def test_photos_that_hang_a_gpu_or_make_it_fail_cost_one_row_each(
    clean: Clean, tmp_path: Path
) -> None:
    outcome = clean("photos", "limits.max_seconds=3")
    assert (outcome.exit_code, outcome.tally.ok, outcome.tally.crashed) == (3, _PHOTOS - 2, 1)
    assert outcome.tally.failed == {"row.timeout": 1}
    rows = lineage(tmp_path / "out")
    assert rows.error_stage[doubles.HANGING] == "remove"
    row = rows.loc[doubles.POISONOUS]
    assert (row.error_code, row.error_stage) == ("row.crashed", "remove")
    assert "CUDA error: unspecified launch failure" in row.error


def test_a_killed_worker_repeats_what_it_had_in_flight(
    ray_address: str, tmp_path: Path, printed: io.StringIO
) -> None:
    """One of three that read photos: no further pass, and no other photo is begun twice."""
    log = tmp_path / "log"

    def begun() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    def kill() -> None:
        wait_until(lambda: len(begun()) >= 40)
        os.kill(int(begun()[-1].split()[1]), signal.SIGKILL)

    with beside(kill):
        outcome = run(
            boxed_catalog(tmp_path, _PHOTOS),
            str(tmp_path / "out"),
            Recipe.load("telea"),
            Console(file=printed),
            address=ray_address,
            pools={"cpu": PoolSize(3, 3, cpus=0.3)},
            steps=partial(doubles.watched, log=str(log), pause_s=0.05),
        )
    assert_all_ok(outcome, tmp_path)
    assert "no result yet" not in printed.getvalue()
    times = Counter(line.split()[0] for line in begun())
    assert sum(times.values()) - _PHOTOS <= UNIT_ROWS
