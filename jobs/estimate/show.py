"""An answer, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from jobs.estimate.answer import Answer, Plan, Question
from jobs.estimate.capacity import MOST_MORE_GPUS, Fleet
from jobs.estimate.catalog import Catalog


def told_time(seconds: float) -> str:
    """E.g. ``40 s``, ``12 min``, ``7.9 h``, ``39 days``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 4 * 86400 else f"{seconds / 86400:.1f} days"


def told_money(dollars: float) -> str:
    """E.g. ``$0.42``, ``$1,234``."""
    return f"${dollars:,.2f}" if dollars < 100 else f"${dollars:,.0f}"


def show(console: Console, question: Question, answer: Answer) -> None:
    """Print an answer."""
    _say(console, _of_catalog(question.catalog))
    console.print(_steps_table(answer))
    for text in _verdict(question, answer):
        _say(console, text)
    console.print(_plans_table(answer))
    if answer.savings:
        console.print(_levers_table(answer))
    console.print(_figures_table(answer))


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _of_catalog(catalog: Catalog) -> str:
    about = (
        f"{catalog.rows:,} photos: {catalog.megapixels:.1f} megapixels, "
        f"{catalog.masked_share:.1%} masked, {catalog.patches:.1f} patches each"
    )
    if catalog.is_assumed:
        return f"{about} (assumed: none was looked at)"
    failed = ", ".join(f"{count} {code}" for code, count in sorted(catalog.failed.items()))
    cannot = f"; of these cannot be cleaned: {failed}" if failed else ""
    return f"{about} (by {catalog.looked_at} that were looked at{cannot})"


def _steps_table(answer: Answer) -> Table:
    table = _table("pool", "steps", "s a photo", "longest")
    for part in answer.parts:
        names = " ▸ ".join(step.name for step in part.steps)
        table.add_row(part.pool, names, f"{part.seconds:.3f}", part.longest.name)
    return table


def _verdict(question: Question, answer: Answer) -> list[str]:
    """In plain words: whether the deadline can be met, with what, and where it waits."""
    part = answer.parts[answer.chosen.fleet.bottleneck]
    waits = f"The bottleneck is {part.longest.name}, in the pool {part.pool}."
    if question.deadline_s is None:
        return [waits]
    deadline, plan = told_time(question.deadline_s), answer.in_time
    if plan is None:
        return [
            f"The deadline of {deadline} cannot be met with any number of nodes: the first photo "
            f"is begun after {told_time(answer.at_most.fleet.start_s)}.",
            waits,
        ]
    needed = _machines(plan.fleet)
    if answer.is_possible:
        said = [f"The deadline of {deadline} can be met, with {needed}."]
    else:
        fastest = told_time(answer.at_most.simulated.seconds)
        said = [
            f"The deadline of {deadline} cannot be met with the nodes that there may be: "
            f"they take {fastest}. It takes {needed}."
        ]
    if plan.site.at_once:
        asked = dict(zip((each.pool for each in answer.parts), plan.fleet.actors, strict=True))
        told = ", ".join(f"{pool}.min_actors = {count}" for pool, count in asked.items())
        said.append(
            f"They have to be asked for at once ({told} in --pools): else Ray Data asks for no "
            f"more than twice as many as there are, nor {MOST_MORE_GPUS} GPUs more, at a time."
        )
    return [*said, waits]


def _machines(fleet: Fleet) -> str:
    return ", ".join(f"{count:,} x {name}" for name, count in sorted(fleet.nodes.items()))


def _plans_table(answer: Answer) -> Table:
    table = _table("", "nodes", "large, small GPUs", "time", "cost", "GPU hours", "redone")
    plans = [("at most", answer.at_most)]
    if answer.in_time:
        plans.append(("for the deadline", answer.in_time))
    for name, plan in plans:
        _add_plan(table, name, plan)
    return table


def _add_plan(table: Table, name: str, plan: Plan) -> None:
    fleet, site, simulated = plan.fleet, plan.site, plan.simulated
    gpus = {each.name: each.group.gpus for each in site.nodes}
    pools = {each.name: each.pool for each in site.nodes}

    def of_pools(counts: Mapping[str, float]) -> str:
        large, small = (
            sum(count * gpus[type_] for type_, count in counts.items() if pools[type_] == pool)
            for pool in ("large_gpu", "small_gpu")
        )
        return f"{large:,.0f}, {small:,.0f}"

    hours = (fleet.seconds + site.idle_s) / 3600
    table.add_row(
        f"{name}, by arithmetic",
        _machines(fleet),
        of_pools(fleet.nodes),
        told_time(fleet.seconds),
        told_money(fleet.cost_usd),
        f"{sum(count * gpus[type_] for type_, count in fleet.nodes.items()) * hours:,.0f}",
        "",
    )
    table.add_row(
        f"{name}, simulated",
        ", ".join(f"{count:,} x {type_}" for type_, count in sorted(simulated.peak.items())),
        of_pools(simulated.peak),
        told_time(simulated.seconds),
        told_money(simulated.cost_usd),
        f"{sum(each * gpus[type_] for type_, each in simulated.node_hours.items()):,.0f}",
        f"{simulated.redone:,} photos of {simulated.lost_nodes:,} lost nodes",
    )


def _levers_table(answer: Answer) -> Table:
    table = _table("one change", "nodes", "time", "cost", "saves", "at the price of")
    for saving in answer.savings:
        fleet = saving.fleet
        told = (
            (_machines(fleet), told_time(fleet.seconds), told_money(fleet.cost_usd))
            if fleet
            else ("too late with any", "", "")
        )
        saved = f"{saving.saved:.0%}" if fleet else ""
        table.add_row(" ".join(saving.lever.settings), *told, saved, saving.lever.price)
    return table


def _figures_table(answer: Answer) -> Table:
    table = _table("it rests on", "which is", "by")
    for name, figure in answer.figures.items():
        origin = " (default)" if figure.is_default else ""
        table.add_row(name, f"{figure.kind}{origin}", figure.source)
    return table


def _table(*names: str) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, show_edge=False)
    for name in names:
        table.columns.append(Column(escape(name), overflow="fold", _index=len(table.columns)))
    return table


def as_json(question: Question, answer: Answer) -> dict[str, Any]:
    """All of it as JSON values."""
    return {
        "rows": question.catalog.rows,
        "megapixels": question.catalog.megapixels,
        "masked_share": question.catalog.masked_share,
        "patches": question.catalog.patches,
        "looked_at": 0 if question.catalog.is_assumed else question.catalog.looked_at,
        "failed": dict(question.catalog.failed),
        "recipe": question.recipe.name,
        "deadline_s": question.deadline_s,
        "can_be_met": answer.is_possible if question.deadline_s else None,
        "parts": [asdict(part) | {"seconds": part.seconds} for part in answer.parts],
        "photos_per_block": answer.block,
        "at_most": _plan_json(answer.at_most),
        "in_time": _plan_json(answer.in_time) if answer.in_time else None,
        "levers": _levers_json(answer),
        "figures": {
            name: figure.model_dump() | {"is_default": figure.is_default}
            for name, figure in answer.figures.items()
        },
    }


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "arithmetic": asdict(plan.fleet),
        "simulated": asdict(plan.simulated),
        "at_once": plan.site.at_once,
    }


def _levers_json(answer: Answer) -> Sequence[dict[str, Any]]:
    return [
        {
            "set": list(saving.lever.settings),
            "saved": saving.saved,
            "fleet": asdict(saving.fleet) if saving.fleet else None,
        }
        for saving in answer.savings
    ]
