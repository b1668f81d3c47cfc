"""Which rows a limited run takes, and when it looks for files that have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.pipeline import changed_inputs
from jobs.pipeline.pending import limit_rows
from jobs.pipeline.spec import RunSpec
from manifests.ledger import RetryPolicy
from manifests.planning.plan import Plan
from manifests.storage.row_files import versions
from stages.pipeline import steps
from stages.recipe import Recipe
from tests.support import write
from tests.support.output_folders import record

TELEA = Recipe.load("telea")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A catalog of three shards, all done by a first run."""
    lines = [f'{n},{write(tmp_path / f"{n}.png", "x")},"[1, 2, 3, 4]"' for n in range(130)]
    manifest = write(tmp_path / "m.csv", "\n".join(["id,image,boxes", *lines]))

    def their_versions(rows: pa.Table) -> dict[str, Any]:
        uris = rows["image_uri"].to_pylist()
        found = versions(set(uris))
        return {"image_version": [found[uri] for uri in uris]}

    return record(manifest, tmp_path / "out", TELEA, their_versions)


def next_run(plan: Plan, number: int, *, retry: str = "", check_inputs: bool = True) -> RunSpec:
    policy = RetryPolicy(f"{number:06d}-aaaaaa", frozenset(filter(None, [retry])))
    return RunSpec(plan, pa.schema([]), TELEA, policy, steps, check_inputs=check_inputs)


def test_a_limited_run_redoes_photos_that_changed(plan: Plan, tmp_path: Path) -> None:
    unchanged, _ = limit_rows(next_run(plan, 2), range(3), 5)
    assert (unchanged.plan.only, unchanged.check_inputs) == (None, False), "all are done"
    changed = {"0", "100", "129"}
    for name in changed:
        write(tmp_path / f"{name}.png", "another")
    not_checked, _ = limit_rows(next_run(plan, 3, check_inputs=False), range(3), 2)
    assert not_checked.plan.only is None
    limited, _ = limit_rows(next_run(plan, 4), range(3), 2)
    assert limited.plan.only
    chosen = {name for names in limited.plan.only.values() for name in names}
    assert len(chosen) == 2
    assert chosen < changed


def test_no_file_is_checked_while_enough_photos_are_pending(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_: object) -> dict[str, str]:
        raise AssertionError("that is a request for each file of the catalog")

    monkeypatch.setattr(changed_inputs, "versions", check)
    limited, left_out = limit_rows(next_run(plan, 2, retry="ok"), range(3), 9)
    assert left_out == 130 - 9
    assert limited.plan.only
    assert {shard: len(names) for shard, names in limited.plan.only.items()} == {0: 4, 1: 4, 2: 1}
