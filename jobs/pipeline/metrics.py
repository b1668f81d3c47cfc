"""What a run lets be watched: all metrics, by name, and how they are measured.

Ray collects them on every node, for Prometheus. Where nobody does, a value costs some µs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from manifests.storage import traffic


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as Ray is told.
        kind: ``total`` only grows; ``spread`` is a histogram.
        meaning: with its unit.
        tags: what tells its series apart.
        bounds: of a histogram's buckets.
    """

    name: str
    kind: Literal["total", "spread"]
    meaning: str
    tags: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def exported(self) -> tuple[str, ...]:
        """Its series' names in Prometheus."""
        ends = ("total",) if self.kind == "total" else ("bucket", "sum", "count")
        return tuple(f"ray_{self.name}_{end}" for end in ends)

    def add(self, value: float, **tags: str) -> None:
        """Add to a total, or one more value to a spread; ``tags`` has all of its tags."""
        made = _made(self)
        if self.kind == "spread":
            made.observe(value, tags)
        elif value > 0:  # Ray refuses to add nothing
            made.inc(value, tags)


ROWS = Metric(
    "catalog_cleanup_rows",
    "total",
    "Photos recorded, by status, and by error code if failed.",
    ("status", "code"),
)
STAGE_SECONDS = Metric(
    "catalog_cleanup_stage_seconds",
    "spread",
    "Seconds per photo in a stage.",
    ("stage",),
    (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
)
BATCH_FILL = Metric(
    "catalog_cleanup_batch_fill",
    "spread",
    "Photos per batch of a GPU actor, as a share of the max batch size.",
    ("pool",),
    (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0),
)
BYTES = Metric(
    "catalog_cleanup_bytes",
    "total",
    "Bytes of photos and masks read, and of results written.",
    ("direction",),
)
RETRIES = Metric("catalog_cleanup_storage_retries", "total", "Requests to S3 that were retried.")
COST = Metric(
    "catalog_cleanup_cost_dollars",
    "total",
    "Cost of the nodes while runs were active, in dollars, with --prices.",
)

METRICS = (ROWS, STAGE_SECONDS, BATCH_FILL, BYTES, RETRIES, COST)


@cache
def _made(metric: Metric) -> Any:
    from ray.util import metrics as ray_metrics

    if metric.kind == "spread":
        return ray_metrics.Histogram(
            metric.name, metric.meaning, list(metric.bounds), tag_keys=metric.tags
        )
    return ray_metrics.Counter(metric.name, metric.meaning, tag_keys=metric.tags)


def record_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Measure rows that are recorded.

    Args:
        rows: of the lineage, see :class:`manifests.schema.LineageRow`.
    """
    ended: Counter[tuple[str, str]] = Counter()
    for row in rows:
        ended[row["status"], row["error_code"] or ""] += 1
        for stage, seconds in row["seconds"].items():
            STAGE_SECONDS.add(seconds, stage=stage)
    for (status, code), count in ended.items():
        ROWS.add(count, status=status, code=code)


_told = traffic.Traffic()


def record_traffic() -> None:
    """Measure what this process has read, written and asked for again since the last call."""
    global _told  # noqa: PLW0603 - the process's, as its traffic is
    now, before = traffic.total(), _told
    _told = now
    BYTES.add(now.read_bytes - before.read_bytes, direction="read")
    BYTES.add(now.written_bytes - before.written_bytes, direction="written")
    RETRIES.add(now.retries - before.retries)
