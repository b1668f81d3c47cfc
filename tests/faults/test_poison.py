"""Rows that end their process: each costs itself and nothing else, and the run ends."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from cluster.pools import PoolSize
from jobs.run import Outcome, run
from stages.recipe import Recipe
from tests.support import faulty_steps as doubles
from tests.support import last_run

Clean = Callable[..., Outcome]


@pytest.fixture
def clean(ray_address: str, tmp_path: Path, small_demo: str) -> Clean:
    """The demo's photos on the tests' cluster, with a misdeed of the victim's."""

    def clean(misdeed: str, *options: str) -> Outcome:
        return run(
            small_demo,
            str(tmp_path / "out"),
            Recipe.load("telea", options),
            Console(quiet=True),
            address=ray_address,
            rows_per_shard=4,
            pools={"cpu": PoolSize(2, 2, cpus=0.5)},
            steps=partial(doubles.watched, log=str(tmp_path / "log"), misdeed=misdeed),
        )

    return clean


def victim(folder: Path) -> Any:
    rows = pd.read_parquet(folder / "out" / "lineage").set_index("id")
    assert rows.index.is_unique
    assert len(rows) == 8
    assert (rows.status.drop(doubles.VICTIM) == "ok").all()
    return rows.loc[doubles.VICTIM]


def test_a_segfault_ends_as_one_crashed_row(clean: Clean, tmp_path: Path) -> None:
    outcome = clean("segfault")
    assert (outcome.exit_code, outcome.tally.ok, outcome.tally.crashed) == (3, 7, 1)
    row = victim(tmp_path)
    assert (row.status, row.error_code, row.error_stage) == ("crashed", "row.crashed", "watch")
    assert (
        "fig-bowl-sticker-date.jpg died in step watch: SIGSEGV in _do (faulty_steps.py:"
        in row.error
    )
    assert last_run(tmp_path / "out")["status"] == "finished"
    begun = Counter(line.split()[0] for line in (tmp_path / "log").read_text().splitlines())
    assert begun[doubles.VICTIM] == 3, "twice with others, and in a process of its own"


def test_memory_has_a_limit(clean: Clean, tmp_path: Path) -> None:
    """In the shared worker and by itself: the machine never runs out."""
    outcome = clean("allocate", "limits.max_memory_mib=512")
    assert (outcome.exit_code, outcome.tally.failed) == (3, {"row.out_of_memory": 1})
    assert victim(tmp_path).error_stage == "watch"


def test_an_endless_row_ends_as_a_timeout(clean: Clean, tmp_path: Path) -> None:
    outcome = clean("sleep", "limits.max_seconds=3")
    assert (outcome.exit_code, outcome.tally.failed) == (3, {"row.timeout": 1})
    assert "was still in step watch after 3 s" in victim(tmp_path).error


def test_rows_that_a_worker_took_with_it_are_done(clean: Clean, tmp_path: Path) -> None:
    outcome = clean("exit-once")
    assert (outcome.exit_code, outcome.tally.ok) == (0, 8)
    assert victim(tmp_path).status == "ok"


def test_an_exception_outside_of_the_steps_is_named_as_the_cause(
    clean: Clean, tmp_path: Path
) -> None:
    """The row cannot be recorded: no step is to blame, and no process dies."""
    outcome = clean("no-row")
    assert (outcome.exit_code, outcome.tally.ok, outcome.tally.crashed) == (3, 7, 1)
    error = victim(tmp_path).error
    assert "most recently by ArrowInvalid: Could not convert 'strong' with type str" in error
    assert "ray.data.DataContext" not in error, "Ray's advice is no cause"


def test_an_exception_that_ends_its_process_is_named(clean: Clean, tmp_path: Path) -> None:
    assert clean("no-result").tally.crashed == 1
    assert re.search(r"died in step \w+: exit code 1 by \w+.*pickle", victim(tmp_path).error)


def test_a_watcher_that_is_killed_is_told(clean: Clean, tmp_path: Path) -> None:
    assert clean("kill-watcher").tally.crashed == 1
    assert re.search(r"most recently by Actor\w+Error: ", victim(tmp_path).error)
    assert "potential root causes" not in victim(tmp_path).error


def test_a_worker_that_ends_without_a_word_is_told_and_its_row_tried_again_on_request(
    clean: Clean, tmp_path: Path, ray_address: str, small_demo: str
) -> None:
    assert clean("exit").tally.crashed == 1
    assert "died in step watch: exit code 7" in victim(tmp_path).error
    outcome = run(
        small_demo,
        str(tmp_path / "out"),
        Recipe.load("telea"),
        Console(quiet=True),
        address=ray_address,
        retry={"crashed"},
    )
    assert (outcome.exit_code, outcome.tally.ok) == (0, 8)
    assert victim(tmp_path).status == "ok"
