"""How an output folder stands: what is done, what failed, what is left, and how fast it goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from manifests.errors import OutputError
from manifests.ledger import Ledger, RetryPolicy, Tally, tallies
from manifests.planning.plan import Plan, load_plan
from manifests.runs import RunRecord, latest_by_recipe, seems_alive
from manifests.storage.place import Place

_COLUMNS = ("rows", "ok", "failed", "crashed", "remaining")


@dataclass(frozen=True, slots=True)
class Standing:
    """How the rows of a plan stand for one recipe.

    Attributes:
        record: of the recipe's last run.
        total: of all shards.
        shards: shard -> how it stands.
        is_at_work: whether that run is at work now.
        rows_per_s: of that run, since its actors are up; 0 where it is not at work.
    """

    record: RunRecord
    total: Tally = field(default_factory=Tally)
    shards: dict[int, Tally] = field(default_factory=dict)
    is_at_work: bool = False
    rows_per_s: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None where there is none."""
        return self.total.missing_count / self.rows_per_s if self.rows_per_s else None


def stand(output: str) -> Iterator[Standing]:
    """How each recipe stands that was run on an output folder, the last one at the end.

    Args:
        output: path or URI.

    Raises:
        OutputError: ``output.not_found``: nothing was planned there.
    """
    plan = load_plan(Place.of(output).uri)
    if plan is None:
        raise OutputError("output.not_found", f"There is no run at {output}.")
    for record in latest_by_recipe(plan.output).values():
        yield _standing(plan, record)


def _standing(plan: Plan, record: RunRecord) -> Standing:
    is_at_work = seems_alive(record)
    rate = record.progress().get("rows_per_s", 0.0) if is_at_work else 0.0
    standing = Standing(record, is_at_work=is_at_work, rows_per_s=rate)
    ledger = Ledger(plan.output, record.facts["recipe_hash"])
    for shard, tally in tallies(plan, ledger, RetryPolicy(record.run_id), range(plan.shards)):
        standing.total.add(tally)
        tally.missing = []  # of millions of rows, the first names are enough
        standing.shards[shard] = tally
    return standing


def show(console: Console, output: str, *, by_shard: bool) -> None:
    """Print how an output folder stands, for people."""
    for standing in stand(output):
        record, total = standing.record, standing.total
        name = record.facts["recipe"]["name"]
        state = "at work" if standing.is_at_work else record.facts["status"]
        if state == "running":
            state = "gone without a word; the same command goes on"
        console.print(
            f"recipe {name} ({record.facts['recipe_hash']}), run {record.run_id}: {state}",
            highlight=False,
            markup=False,
        )
        console.print(_table(standing, by_shard=by_shard))
        for line in total.fidelity_lines():
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
        for code, count in sorted(total.failed.items()):
            console.print(f"  {count:>8}  {code}", highlight=False)
        if (left := standing.seconds_left) is not None:
            console.print(
                f"{standing.rows_per_s:.1f} photos/s, {timedelta(seconds=round(left))} left",
                highlight=False,
            )
        for file in total.damaged:
            console.print(f"[yellow]{escape(file.uri)} is damaged; the next run sets it aside.")


def _table(standing: Standing, *, by_shard: bool) -> Table:
    table = Table(
        Column("shard"), *(Column(name, justify="right") for name in _COLUMNS), box=SIMPLE
    )
    for shard, tally in standing.shards.items() if by_shard else ():
        table.add_row(f"{shard:05d}", *_cells(tally))
    table.add_row("all", *_cells(standing.total), style="bold" if by_shard else None)
    return table


def _cells(tally: Tally) -> Iterator[str]:
    for number in (tally.rows, tally.ok, tally.failed_count, tally.crashed, tally.missing_count):
        yield f"{number:,}"


def as_json(output: str) -> str:
    """The same for programs."""
    return json.dumps(
        [
            {
                "recipe": standing.record.facts["recipe"]["name"],
                "recipe_hash": standing.record.facts["recipe_hash"],
                "run_id": standing.record.run_id,
                "status": standing.record.facts["status"],
                "at_work": standing.is_at_work,
                "rows_per_s": standing.rows_per_s,
                "seconds_left": standing.seconds_left,
                "all": _numbers(standing.total),
                "shards": {shard: _numbers(tally) for shard, tally in standing.shards.items()},
            }
            for standing in stand(output)
        ],
        indent=2,
    )


def _numbers(tally: Tally) -> dict[str, object]:
    told = asdict(tally)
    names = ("rows", "ok", "unchanged", "kept", "recoded", "failed", "crashed")
    return {name: told[name] for name in names} | {"remaining": tally.missing_count}
