"""What is measured of a run, without a cluster; with one, see ``tests/ray/test_submit.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.driver.cost import Cost, load_prices
from jobs.pipeline.metrics import METRICS
from manifests.errors import ClusterError, RowError
from manifests.storage import row_files as storage
from manifests.storage import traffic
from tests.support import write


def test_bytes_are_counted_once_they_are_read_or_stored(tmp_path: Path) -> None:
    before = traffic.total()
    storage.write(str(tmp_path / "a"), b"123456789")
    storage.fetch(str(tmp_path / "a"), "image")
    with pytest.raises(RowError):
        storage.fetch(str(tmp_path / "b"), "image")
    assert traffic.total() - before == {"written_bytes": 9, "read_bytes": 9}


def test_costs_add_up_by_the_nodes_that_are_up() -> None:
    now, up = 0.0, ["cpu", "large-gpu", "of no price"]
    cost = Cost({"cpu": 1.0, "large-gpu": 4.0}, lambda: up, lambda: now)
    now = 3600.0
    cost.accrue()
    assert cost.total_usd == 5.0
    now, up[:] = 5400.0, ["cpu"]
    cost.accrue()
    assert cost.total_usd == 5.5
    assert cost.total_usd == 5.5


@pytest.mark.parametrize("text", ["large-gpu = '4'", "cpu = -1", "cpu = true", "[cpu]", "cpu"])
def test_what_is_no_price_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ClusterError) as caught:
        load_prices(write(tmp_path / "prices.toml", text))
    assert caught.value.code == "cluster.bad_prices"


def test_names_are_told_apart_and_say_whose_they_are() -> None:
    names = [name for metric in METRICS for name in metric.exported]
    assert len(set(names)) == len(names)
    assert all(name.startswith("ray_catalog_cleanup_") for name in names)
    assert all(metric.description.endswith(".") for metric in METRICS)
