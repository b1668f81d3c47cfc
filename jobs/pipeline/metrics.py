"""All metrics of a run, and the functions that record them.

Ray exports them on every node for Prometheus. Recording a value takes a few µs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, Literal

from manifests.storage import traffic


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: in Ray; Prometheus adds a prefix and a suffix.
        kind: as in Prometheus.
        description: with the unit.
        tags: labels of its series.
        bounds: of a histogram's buckets.
    """

    name: str
    kind: Literal["counter", "histogram"]
    description: str
    tags: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def exported(self) -> tuple[str, ...]:
        """The names of its series in Prometheus."""
        ends = ("total",) if self.kind == "counter" else ("bucket", "sum", "count")
        return tuple(f"ray_{self.name}_{end}" for end in ends)

    def add(self, value: float, **tags: str) -> None:
        """Add to a counter, or observe a value in a histogram; ``tags`` has all of its tags."""
        metric = _ray_metric(self)
        if self.kind == "histogram":
            metric.observe(value, tags)
        elif value > 0:  # Ray rejects 0
            metric.inc(value, tags)


ROWS = Metric(
    "catalog_cleanup_rows",
    "counter",
    "Photos recorded, by status, and by error code if failed.",
    ("status", "code"),
)
STAGE_SECONDS = Metric(
    "catalog_cleanup_stage_seconds",
    "histogram",
    "Seconds per photo in a stage.",
    ("stage",),
    (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
)
BATCH_FILL = Metric(
    "catalog_cleanup_batch_fill",
    "histogram",
    "Photos per batch of a GPU actor, as a share of the max batch size.",
    ("pool",),
    (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0),
)
BYTES = Metric(
    "catalog_cleanup_bytes",
    "counter",
    "Bytes of photos and masks read, and of results written.",
    ("direction",),
)
RETRIES = Metric("catalog_cleanup_storage_retries", "counter", "Requests to S3 that were retried.")
COST = Metric(
    "catalog_cleanup_cost_dollars",
    "counter",
    "Cost of the nodes while runs were active, in dollars, with --prices.",
)

METRICS = (ROWS, STAGE_SECONDS, BATCH_FILL, BYTES, RETRIES, COST)


@cache
def _ray_metric(metric: Metric) -> Any:
    from ray.util import metrics as ray_metrics

    if metric.kind == "histogram":
        return ray_metrics.Histogram(
            metric.name, metric.description, list(metric.bounds), tag_keys=metric.tags
        )
    return ray_metrics.Counter(metric.name, metric.description, tag_keys=metric.tags)


def record_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Update the metrics with newly recorded rows.

    Args:
        rows: lineage rows, see :class:`manifests.schema.LineageRow`.
    """
    ended: Counter[tuple[str, str]] = Counter()
    for row in rows:
        ended[row["status"], row["error_code"] or ""] += 1
        for stage, seconds in row["seconds"].items():
            STAGE_SECONDS.add(seconds, stage=stage)
    for (status, code), count in ended.items():
        ROWS.add(count, status=status, code=code)


_reported: Counter[traffic.Kind] = Counter()
_reporting = Lock()


def record_traffic() -> None:
    """Update the metrics with the bytes and retries of this process since the last call."""
    global _reported  # noqa: PLW0603 - one value per process
    with _reporting:
        now = traffic.total()
        new = now - _reported
        _reported = now
    BYTES.add(new["read_bytes"], direction="read")
    BYTES.add(new["written_bytes"], direction="written")
    RETRIES.add(new["retries"])
