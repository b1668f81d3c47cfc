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

from cluster.pools import PoolSize
from jobs.driver import passes
from jobs.run import Outcome
from stages.recipe import Recipe
from tests.conftest import Run
from tests.support import faulty_steps as doubles
from tests.support import last_run, lineage

Clean = Callable[..., Outcome]


@pytest.fixture
def clean(on_ray: Run, tmp_path: Path, small_demo: str) -> Clean:
    """The demo's photos on the tests' cluster, with misdeeds of some: one name is the victim's."""

    def clean(misdeeds: str | dict[str, str], *options: str, actors: int = 2) -> Outcome:
        if isinstance(misdeeds, str):
            misdeeds = {doubles.VICTIM: misdeeds}
        return on_ray(
            small_demo,
            tmp_path / "out",
            recipe=Recipe.load("telea", options),
            rows_per_shard=4,
            pools={"cpu": PoolSize(actors, actors, cpus=0.5)},
            steps=partial(doubles.watched, log=str(tmp_path / "log"), misdeeds=misdeeds),
        )

    return clean


def rows_of(folder: Path) -> pd.DataFrame:
    rows = lineage(folder / "out")
    assert rows.index.is_unique
    assert len(rows) == 8
    return rows


def victim(folder: Path) -> Any:
    rows = rows_of(folder)
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


def test_rows_that_never_end_or_end_their_process_are_named(
    clean: Clean, tmp_path: Path, on_ray: Run, small_demo: str
) -> None:
    """Each costs itself; those that crashed are tried again on request."""
    endless, silent, unsendable = (
        "coffee-stray-coins", "lounge-bag-hang-tag", "wall-clock-corner-logo",
    )  # fmt: skip
    outcome = clean(
        {endless: "sleep", silent: "exit", unsendable: "no-result"}, "limits.max_seconds=3"
    )
    assert (outcome.exit_code, outcome.tally.ok, outcome.tally.crashed) == (3, 5, 2)
    assert outcome.tally.failed == {"row.timeout": 1}
    errors = rows_of(tmp_path).error
    assert "was still in step watch after 3 s" in errors[endless]
    assert "died in step watch: exit code 7" in errors[silent]
    assert re.search(r"died in step \w+: exit code 1 by \w+.*pickle", errors[unsendable])
    recipe = Recipe.load("telea", ["limits.max_seconds=3"])
    outcome = on_ray(small_demo, tmp_path / "out", recipe=recipe, retry={"crashed"})
    assert (outcome.exit_code, outcome.tally.ok) == (3, 7)
    assert outcome.tally.failed == {"row.timeout": 1}
    assert rows_of(tmp_path).status[endless] == "failed", "that is another status"


def test_an_exception_outside_of_the_steps_is_named_as_the_cause(
    clean: Clean, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row cannot be recorded: no step is to blame, and no process dies."""
    monkeypatch.setattr(passes, "_MAX_STALLED_PASSES", 1)
    outcome = clean("no-row", actors=1)
    assert (outcome.exit_code, outcome.tally.ok, outcome.tally.crashed) == (3, 7, 1)
    error = victim(tmp_path).error
    assert "most recently by ArrowInvalid: Could not convert 'strong' with type str" in error
    assert "ray.data.DataContext" not in error, "Ray's advice is no cause"


def test_a_watcher_that_is_killed_is_told(clean: Clean, tmp_path: Path) -> None:
    assert clean("kill-watcher", actors=1).tally.crashed == 1
    assert re.search(r"most recently by Actor\w+Error: ", victim(tmp_path).error)
    assert "potential root causes" not in victim(tmp_path).error
