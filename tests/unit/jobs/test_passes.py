"""What a pass does beside its photos, and when passes end."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from jobs.driver import passes
from jobs.driver.heartbeat import Heartbeat
from jobs.driver.passes import Merger, execute
from jobs.pipeline.spec import RunSpec
from jobs.pipeline.supervisor import SupervisorClient
from manifests.ledger import RetryPolicy, reconcile
from manifests.planning.plan import make_plan
from manifests.runs import RunRecord
from stages.pipeline import steps
from stages.recipe import Recipe
from tests.support import boxed_catalog


class Merges:
    """A ledger that only notes which shards are merged."""

    def __init__(self) -> None:
        self.merged: list[int] = []

    def compact(self, shard: int) -> None:
        self.merged.append(shard)


def test_shards_are_merged_when_they_are_done_and_the_rest_at_the_end() -> None:
    ledger = Merges()
    spec: Any = SimpleNamespace(ledger=ledger)
    with Merger(spec, {0: 2, 1: 2, 2: 1}) as merger:
        merger.count(0, 1)
        merger.count(0, 1)
        merger.count(1, 1)
    assert ledger.merged == [0, 1], "and none that has no further rows"


def test_an_error_is_not_held_up_by_merges() -> None:
    """Its cause may be a storage for which each merge would wait for minutes."""
    ledger = Merges()
    spec: Any = SimpleNamespace(ledger=ledger)
    merger = Merger(spec, {0: 2})
    merger.count(0, 1)
    merger.__exit__(RuntimeError)
    assert ledger.merged == []


@pytest.mark.parametrize(
    ("photos", "modes"),
    [(5, "together, own, own"), (40, "together, one, own, own")],
)
def test_rows_are_given_up_after_two_isolated_passes_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: int, modes: str
) -> None:
    """A node that is lost in the first passes says nothing about the rows."""
    plan = make_plan(boxed_catalog(tmp_path, photos), str(tmp_path / "out"))
    spec = RunSpec(plan, pa.schema([]), Recipe.load("telea"), RetryPolicy("000001-aaaaaa"), steps)
    ray_errors, ran = list[str](), list[str]()

    def lost(spec: RunSpec, *_: object, **__: object) -> None:
        ran.append("own" if spec.isolated else "one" if spec.one_by_one else "together")
        ray_errors.append("ActorDiedError: its node died.")

    monkeypatch.setattr(passes, "_run_pass", lost)
    monkeypatch.setattr(SupervisorClient, "start", SupervisorClient)
    tally = execute(
        spec,
        [0],
        reconcile(plan, spec.ledger, spec.retry_policy, [0]),
        size_pools=lambda *_: {},
        ray_errors=ray_errors,
        heartbeat=Heartbeat(RunRecord(plan.output, spec.retry_policy.run_id)),
        console=Console(file=io.StringIO()),
    )
    assert ", ".join(ran) == modes
    assert (tally.crashed, tally.pending_count) == (photos, 0)
