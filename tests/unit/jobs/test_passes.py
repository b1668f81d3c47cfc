"""What a pass does beside its photos."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from jobs.driver.passes import Merger


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
