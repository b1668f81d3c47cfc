"""Computes an estimate and prints it as tables or JSON: parts, fleets, savings of one change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from cluster.pools import Pools
from jobs.estimate.fleet import Fleet, Site, fastest, in_time, is_possible, site_of
from jobs.estimate.seconds import Catalog, Part, parts_of
from jobs.pipeline.placement import with_batch_sizes
from stages.pipeline import steps as steps_of
from stages.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Question:
    """The input of an estimate; see `catalog-cleanup estimate --help`."""

    recipe: Recipe
    catalog: Catalog
    pools: Pools
    prices: Mapping[str, float] | None = None
    deadline_s: float | None = None
    spot_loss_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """The result of an estimate.

    Attributes:
        parts: of the job, with the seconds of each step.
        site: the available nodes.
        fastest: the fleet that finishes first on them.
        in_time: the smallest fleet for the deadline; None: no deadline, or no fleet meets it.
        savings: (settings, effect on the result, fleet or None, share of the cost saved).
    """

    parts: Sequence[Part]
    site: Site
    fastest: Fleet
    in_time: Fleet | None
    savings: Sequence[tuple[tuple[str, ...], str, Fleet | None, float]]

    @property
    def meets_deadline(self) -> bool:
        """Whether the nodes needed for the deadline are available."""
        return self.in_time is not None and is_possible(self.in_time, self.site)


def estimate(question: Question) -> Estimate:
    """Compute the estimate.

    Raises:
        ClusterError: as :func:`jobs.estimate.fleet.site_of` and
            :func:`jobs.estimate.seconds.parts_of`.
    """
    recipe, rows = with_batch_sizes(question.recipe, question.pools), question.catalog.rows
    parts, site = _job(question, recipe)
    best = fastest(parts, site, rows)
    deadline = question.deadline_s
    chosen = in_time(parts, site, rows, deadline) if deadline else None
    savings = []
    for settings, effect in changes(recipe):
        changed, there = _job(question, recipe.with_options(settings))
        fleet = (
            in_time(changed, there, rows, deadline) if deadline else fastest(changed, there, rows)
        )
        saved = 1 - fleet.cost_usd / (chosen or best).cost_usd if fleet else 0.0
        savings.append((settings, effect, fleet, saved))
    savings.sort(key=lambda each: -each[3])
    return Estimate(parts, site, best, chosen, savings)


def _job(question: Question, recipe: Recipe) -> tuple[list[Part], Site]:
    steps = steps_of(recipe, "output")
    site = site_of(
        question.pools,
        steps,
        question.catalog.rows,
        prices=question.prices,
        spot_loss_rate=question.spot_loss_rate,
    )
    has_gpus = any(each.group.gpus for each in site.nodes.values())
    return parts_of(steps, recipe, question.catalog, has_gpus=has_gpus), site


def changes(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], str]]:
    """Settings that make a recipe cheaper, each with its effect on the result."""
    refine, remove = recipe.refiner, recipe.remove
    if refine:
        if refine.size_px > 768:
            yield ("refine.size_px=768",), "coarser texture where crops are large"
        if refine.steps > 4:
            yield (f"refine.steps={round(0.6 * refine.steps)}",), "rougher texture"
        if not refine.compile:
            yield ("refine.compile=true",), "none; actors start a minute later"
        if not getattr(refine, "fp8", True):
            yield ("refine.fp8=true", "refine.compile=true"), "small differences; needs torchao"
        if refine.when == "always" and remove:
            yield ("refine.when=auto",), "fills on smooth ground are not refined"
        if remove:
            yield ("refine.when=never",), "fills stay soft"


def format_duration(seconds: float) -> str:
    """E.g. ``40 s``, ``12 min``, ``7.9 h``, ``39.0 days``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 4 * 86400 else f"{seconds / 86400:.1f} days"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount < 100 else f"${amount:,.0f}"


def _nodes(fleet: Fleet) -> str:
    return ", ".join(f"{count:,} x {name}" for name, count in sorted(fleet.nodes.items()))


def show(console: Console, question: Question, result: Estimate) -> None:
    """Print an estimate as tables."""
    catalog = question.catalog
    basis = f"{catalog.pilot.rows:,} rows of a pilot run" if catalog.pilot else "defaults only"
    size = f"{catalog.megapixels:.1f} megapixels each"
    basis_line = f"{catalog.rows:,} photos, {size}; seconds from {basis}."
    console.print(basis_line, *_verdict(question, result), sep="\n", markup=False, highlight=False)
    table = _table("pool", "steps", "s per photo", "slowest step")
    for part in result.parts:
        names = " ▸ ".join(step.name for step in part.steps)
        table.add_row(part.pool, names, f"{part.seconds:.3f}", part.slowest.name)
    console.print(table)
    table = _table("", "nodes", "time", "start, ramp, losses", "cost", "GPU hours")
    for name, fleet in (("fastest", result.fastest), ("for the deadline", result.in_time)):
        if fleet:
            split = (fleet.start_s, fleet.ramp_s, fleet.lost_s)
            table.add_row(
                name,
                _nodes(fleet),
                format_duration(fleet.seconds),
                ", ".join(map(format_duration, split)),
                _dollars(fleet.cost_usd),
                f"{fleet.gpu_hours:,.0f}",
            )
    console.print(table)
    table = _table("one change", "nodes", "time", "cost", "saves", "effect on the result")
    for settings, effect, fleet, saved in result.savings:
        cells = ["none meets the deadline", "", "", ""]
        if fleet:
            time, cost = format_duration(fleet.seconds), _dollars(fleet.cost_usd)
            cells = [_nodes(fleet), time, cost, f"{saved:.0%}"]
        table.add_row(" ".join(settings), *cells, effect)
    console.print(table)
    console.print("The source of each default is in jobs/estimate/defaults.toml.", highlight=False)


def _verdict(question: Question, result: Estimate) -> Iterator[str]:
    part = result.parts[(result.in_time or result.fastest).bottleneck]
    if question.deadline_s:
        deadline, fleet = format_duration(question.deadline_s), result.in_time
        if fleet is None:
            started = format_duration(result.fastest.start_s)
            yield f"No number of nodes meets {deadline}: the first photo starts after {started}."
        elif result.meets_deadline:
            yield f"The deadline of {deadline} needs {_nodes(fleet)}."
        else:
            needed = format_duration(result.fastest.seconds)
            yield (
                f"The deadline of {deadline} needs {_nodes(fleet)}, more than available: "
                f"the available nodes need {needed}."
            )
    yield f"The bottleneck is {part.slowest.name}, in the pool {part.pool}."


def _table(*names: str) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def as_json(question: Question, result: Estimate) -> dict[str, Any]:
    """The estimate as JSON values."""
    return {
        "rows": question.catalog.rows,
        "megapixels": question.catalog.megapixels,
        "pilot_rows": question.catalog.pilot.rows if question.catalog.pilot else 0,
        "recipe": question.recipe.name,
        "deadline_s": question.deadline_s,
        "meets_deadline": result.meets_deadline if question.deadline_s else None,
        "parts": [
            {"pool": part.pool, "seconds": part.seconds, "slowest": part.slowest.name}
            | {"steps": {step.name: step.seconds for step in part.steps}}
            for part in result.parts
        ],
        "fastest": asdict(result.fastest),
        "for_deadline": asdict(result.in_time) if result.in_time else None,
        "changes": [
            {"set": list(settings), "saved": saved, "fleet": asdict(fleet) if fleet else None}
            for settings, _, fleet, saved in result.savings
        ],
    }
