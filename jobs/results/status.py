"""Status of an output folder: ok, failed and pending rows, and the current speed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.results.recipe_results import RecipeResults, results_by_recipe
from manifests.ledger import RetryPolicy, Tally, tallies
from manifests.runs import RunRecord, records, seems_alive


@dataclass(frozen=True, slots=True)
class RecipeStatus:
    """The status of one recipe in an output folder.

    Attributes:
        results: the recipe's results.
        total: counts of all shards.
        shards: shard -> counts.
        is_running: whether a run of the recipe is active now; several can be, on other shards.
        rows_per_s: current rate of these runs, without the start-up of actors; 0 if not running.
    """

    results: RecipeResults
    total: Tally = field(default_factory=Tally)
    shards: dict[int, Tally] = field(default_factory=dict)
    is_running: bool = False
    rows_per_s: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Remaining time at the current rate; None if not running."""
        return self.total.pending_count / self.rows_per_s if self.rows_per_s else None


def recipe_statuses(output: str) -> Iterator[RecipeStatus]:
    """Yield the status of each recipe of an output folder, the most recent one last.

    Args:
        output: path or URI.

    Raises:
        OutputError: ``output.not_found``: there is no run there.
    """
    all_results = results_by_recipe(output)
    active = [record for record in records(output) if seems_alive(record)]
    for results in all_results:
        alive = [record for record in active if record.content["recipe_hash"] == results.hash]
        rate = sum(record.progress().get("rows_per_s", 0.0) for record in alive)
        status = RecipeStatus(results, is_running=bool(alive), rows_per_s=rate)
        for shard, tally in tallies(results.plan, results.ledger, _policies(results, alive)):
            status.total.add(tally)
            tally.pending = []  # the total keeps the first names, which is enough
            status.shards[shard] = tally
        yield status


def _policies(results: RecipeResults, alive: Sequence[RunRecord]) -> Mapping[int, RetryPolicy]:
    """Shard -> which of its rows count as ended: an active run may redo some."""
    shards = range(results.plan.shards)
    policies = dict.fromkeys(shards, RetryPolicy(results.record.run_id))
    for record in alive:
        retried = RetryPolicy(record.run_id, frozenset(record.content.get("retry", ())))
        policies |= dict.fromkeys(record.content.get("only_shards") or shards, retried)
    return policies


def as_json(output: str) -> str:
    """The status of an output folder as JSON: a list of its recipes."""
    return json.dumps(
        [
            {
                "recipe": status.results.name,
                "recipe_hash": status.results.hash,
                "run_id": status.results.record.run_id,
                "status": status.results.record.content["status"],
                "is_running": status.is_running,
                "rows_per_s": status.rows_per_s,
                "seconds_left": status.seconds_left,
                "all": _counts(status.total),
                "shards": {shard: _counts(tally) for shard, tally in status.shards.items()},
            }
            for status in recipe_statuses(output)
        ],
        indent=2,
    )


def fidelity_lines(
    by_fidelity: Mapping[str, int], reencoded_reasons: Mapping[str, int]
) -> list[str]:
    """Format what was kept outside the masks, and in how many photos, one line per kind.

    Args:
        by_fidelity: as in :class:`manifests.ledger.Tally`.
        reencoded_reasons: likewise.
    """
    names = (("coefficients", "all JPEG coefficients"), ("lossless", "every sample"))
    exact = [f"{text} {by_fidelity[name]:,}" for name, text in names if by_fidelity.get(name)]
    lines = [f"kept outside the masks: {', '.join(exact)}"] if exact else []
    if reencoded := by_fidelity.get("reencoded"):
        reasons = sorted(reencoded_reasons.items(), key=lambda each: (-each[1], each[0]))
        why = "; ".join(f"{reason} {count:,}" for reason, count in reasons)
        lines.append(f"re-encoded, which changes every pixel slightly: {reencoded:,} ({why})")
    if identical := by_fidelity.get("identical"):
        lines.append(f"unchanged, because their masks are empty: {identical:,}")
    return lines


def _counts(tally: Tally) -> dict[str, object]:
    return tally.ended_counts() | {"remaining": tally.pending_count}
