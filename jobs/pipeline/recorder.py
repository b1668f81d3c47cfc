"""Writes finished rows to the lineage, in batches."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from jobs.pipeline import metrics
from jobs.pipeline.spec import RunSpec
from manifests.schema import OK, lineage_dict, lineage_schema
from stages.photo import Photo
from stages.steps.base import finish

#: Finished rows are recorded at the latest after this number of rows or seconds.
ROWS_PER_RECORD = 64
_SECONDS_PER_RECORD = 60.0

#: Error code of a fault that is not the row's.
INTERNAL = "internal.error"

_PROGRESS = pa.schema(
    [
        ("shard", pa.int64()),
        ("ok", pa.int64()),
        ("failed", pa.int64()),
        ("internal", pa.int64()),  # photos that ended with internal.error, to be repeated
        ("internal_error", pa.string()),
        ("run_error_code", pa.string()),
        ("run_error", pa.string()),
    ]
)


@dataclass(slots=True)
class Recorder:
    """Collects finished rows and adds them to the lineage, shard by shard."""

    spec: RunSpec
    rows: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    since: float = field(default_factory=time.monotonic)
    internal: list[str] = field(default_factory=list)

    def add(self, photo: Photo) -> None:
        """Add a photo whose result is stored, or which has failed."""
        finish(photo)
        if photo.lineage.error_code == INTERNAL and self.spec.repeats_internal_errors:
            self.internal.append(photo.lineage.error or "")
            return
        self.rows[photo.shard].append(lineage_dict(photo.lineage) | photo.extra)

    @property
    def is_due(self) -> bool:
        """Whether the collected rows should be recorded now."""
        count = sum(map(len, self.rows.values()))
        return count >= ROWS_PER_RECORD or time.monotonic() - self.since >= _SECONDS_PER_RECORD

    def record(self) -> pa.Table:
        """Record the collected rows; returns them as progress.

        Raises:
            OutputError: ``output.not_writable``.
        """
        schema = lineage_schema(self.spec.extra)
        progress: list[dict[str, Any]] = []
        for shard in list(self.rows):
            rows = self.rows[shard]
            self.spec.ledger.add(shard, rows, schema)
            del self.rows[shard]
            metrics.record_rows(rows)
            ok = sum(row["status"] == OK for row in rows)
            progress.append({"shard": shard, "ok": ok, "failed": len(rows) - ok})
        if self.internal:
            last = last_line(self.internal[-1])
            progress.append({"internal": len(self.internal), "internal_error": last})
            self.internal.clear()
        self.since = time.monotonic()
        return pa.Table.from_pylist(progress, schema=_PROGRESS)


def progress_of_run_error(code: str, message: str) -> pa.Table:
    """Progress that reports an error that ends the run."""
    return pa.Table.from_pylist([{"run_error_code": code, "run_error": message}], schema=_PROGRESS)


def last_line(traceback: str | None) -> str:
    """The last line of a recorded traceback, which names the exception."""
    return (traceback or "").strip().rpartition("\n")[2]
