"""How an output folder stands: what is done, what failed, what is left, and how fast it goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from jobs.results.recipe_runs import recipe_runs
from manifests.ledger import RetryPolicy, Tally, tallies
from manifests.runs import RunRecord, seems_alive


@dataclass(frozen=True, slots=True)
class RecipeStatus:
    """How the rows of a plan recipe_statuses for one recipe.

    Attributes:
        record: of the recipe's last run.
        total: of all shards.
        shards: shard -> how it stands.
        is_running: whether that run is at work now.
        rows_per_s: of that run, since its actors are up; 0 where it is not at work.
    """

    record: RunRecord
    total: Tally = field(default_factory=Tally)
    shards: dict[int, Tally] = field(default_factory=dict)
    is_running: bool = False
    rows_per_s: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None where there is none."""
        return self.total.missing_count / self.rows_per_s if self.rows_per_s else None


def recipe_statuses(output: str) -> Iterator[RecipeStatus]:
    """How each recipe stands that was run on an output folder, the last one at the end.

    Args:
        output: path or URI.

    Raises:
        OutputError: ``output.not_found``: there is no run there.
    """
    for run in recipe_runs(output):
        is_running = seems_alive(run.record)
        rate = run.record.progress().get("rows_per_s", 0.0) if is_running else 0.0
        standing = RecipeStatus(run.record, is_running=is_running, rows_per_s=rate)
        shards = range(run.plan.shards)
        for shard, tally in tallies(run.plan, run.ledger, RetryPolicy(run.record.run_id), shards):
            standing.total.add(tally)
            tally.missing = []  # of millions of rows, the first names are enough
            standing.shards[shard] = tally
        yield standing


def as_json(output: str) -> str:
    """How an output folder stands, for programs: a list of its recipes as JSON."""
    return json.dumps(
        [
            {
                "recipe": standing.record.facts["recipe"]["name"],
                "recipe_hash": standing.record.facts["recipe_hash"],
                "run_id": standing.record.run_id,
                "status": standing.record.facts["status"],
                "at_work": standing.is_running,
                "rows_per_s": standing.rows_per_s,
                "seconds_left": standing.seconds_left,
                "all": _numbers(standing.total),
                "shards": {shard: _numbers(tally) for shard, tally in standing.shards.items()},
            }
            for standing in recipe_statuses(output)
        ],
        indent=2,
    )


def _numbers(tally: Tally) -> dict[str, object]:
    told = asdict(tally)
    names = ("rows", "ok", "unchanged", "kept", "recoded", "failed", "crashed")
    return {name: told[name] for name in names} | {"remaining": tally.missing_count}
