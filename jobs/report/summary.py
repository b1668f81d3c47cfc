"""Counts and times of all rows of a recipe, for the page's summary."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.results.status import fidelity_lines
from manifests.errors import describe
from manifests.ledger import count_fidelity
from manifests.runs import RunRecord

#: Columns whose values are counted: status, error code, reason to review, run.
_COUNTED = ("status", "error_code", "flag", "run_id")


@dataclass(slots=True)
class Summary:
    """Counts of all rows of a recipe in an output folder.

    Attributes:
        recipe_hash: of the recipe.
        rows: number of rows.
        counts: column of :data:`_COUNTED` -> its values -> number of rows.
        by_fidelity: rows by what is kept outside the masks, as in :class:`manifests.ledger.Tally`.
        reencoded_reasons: re-encoded rows, by reason.
        stage_seconds: stage -> total seconds.
        stage_rows: stage -> number of rows.
    """

    recipe_hash: str
    rows: int = 0
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {column: Counter() for column in _COUNTED}
    )
    by_fidelity: Counter[str] = field(default_factory=Counter)
    reencoded_reasons: Counter[str] = field(default_factory=Counter)
    stage_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    stage_rows: Counter[str] = field(default_factory=Counter)

    def add(self, rows: pa.Table) -> None:
        """Add rows to the counts."""
        self.rows += rows.num_rows
        for ours, counts in zip(
            (self.by_fidelity, self.reencoded_reasons), count_fidelity(rows), strict=True
        ):
            ours.update(counts)
        for column, counter in self.counts.items():
            for each in pc.value_counts(rows[column].drop_null()).to_pylist():
                counter[each["values"]] += each["counts"]
        for maps in rows["seconds"].chunks:
            times = pa.table({"stage": maps.keys, "seconds": maps.items}).drop_null()
            sums = times.group_by("stage").aggregate([("seconds", "sum"), ("seconds", "count")])
            for each in sums.to_pylist():
                self.stage_seconds[each["stage"]] += each["seconds_sum"]
                self.stage_rows[each["stage"]] += each["seconds_count"]

    def as_values(self, runs: Sequence[RunRecord]) -> dict[str, Any]:
        """The values for the page.

        Args:
            runs: of the output folder. Unfinished runs do not count for the throughput.
        """
        timed = {
            run.run_id: run.content["seconds"]
            for run in runs
            if run.content["recipe_hash"] == self.recipe_hash and run.content.get("seconds")
        }
        of_runs = self.counts["run_id"]
        seconds = sum(timed[run] for run in timed if of_runs[run])
        done = sum(of_runs[run] for run in timed)
        return {
            "rows": self.rows,
            "fidelity": fidelity_lines(self.by_fidelity, self.reencoded_reasons),
            "statuses": dict(self.counts["status"]),
            "codes": [
                {"code": code, "count": count, "meaning": describe(code)}
                for code, count in self.counts["error_code"].most_common()
            ],
            "flags": dict(self.counts["flag"]),
            "seconds": seconds,
            "rowsPerSecond": done / seconds if seconds else None,
            "stages": [
                {"name": name, "total": total, "mean": total / self.stage_rows[name]}
                for name, total in self.stage_seconds.items()
            ],
        }
