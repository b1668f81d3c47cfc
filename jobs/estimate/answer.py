"""The answer to what a catalog will take: fleets, the simulation beside them, and the levers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.pools import Pools
from jobs import clean
from jobs.estimate.calibration import Calibration, Figure
from jobs.estimate.capacity import Fleet, Site, in_time, is_possible, limited, most, site_of
from jobs.estimate.catalog import Catalog
from jobs.estimate.levers import Lever, levers
from jobs.estimate.simulation import Simulated, simulate
from jobs.estimate.work import Part, parts_of, photos_per_block
from jobs.placing import batched
from stages.recipe import Recipe

#: A fleet that the simulation finds too slow is enlarged, so often.
_ENLARGED = 4


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        recipe: how the photos are cleaned.
        catalog: the photos.
        pools: as a run would be given them; their nodes are those that there may be.
        calibration: of the steps.
        prices: type of nodes -> dollars for an hour; None: the calibration's.
        deadline_s: until when all is to be done, s from the command; None: whenever.
        losses_per_hour: of each node; None: the calibration's.
        seed: of the simulation.
    """

    recipe: Recipe
    catalog: Catalog
    pools: Pools
    calibration: Calibration
    prices: Mapping[str, float] | None = None
    deadline_s: float | None = None
    losses_per_hour: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A fleet, where it is, and what the simulation says of it."""

    fleet: Fleet
    site: Site
    simulated: Simulated


@dataclass(frozen=True, slots=True)
class Saving:
    """What a lever would do, by arithmetic.

    Attributes:
        lever: which.
        fleet: the one that would then be needed; None: even so, nothing is done in time.
        saved: of the money, 0 to 1; under 0: it costs more.
    """

    lever: Lever
    fleet: Fleet | None
    saved: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What it will take.

    Attributes:
        parts: of the job, with the time that each step takes.
        block: photos that travel together.
        at_most: with no more nodes than there may be, as fast as they can.
        in_time: for the deadline; None: none was asked for, or no number of nodes would do.
        is_possible: there may be as many nodes as the deadline takes, and the simulation agrees.
        savings: of each lever, the greatest first.
        figures: name -> figure of the calibration, those that were used.
    """

    parts: Sequence[Part]
    block: int
    at_most: Plan
    in_time: Plan | None
    is_possible: bool
    savings: Sequence[Saving]
    figures: Mapping[str, Figure]

    @property
    def chosen(self) -> Plan:
        """For the deadline if it can be met, else the fastest that there may be."""
        return self.in_time if self.in_time and self.is_possible else self.at_most


def answer(question: Question) -> Answer:
    """Answer it.

    Raises:
        ClusterError: ``cluster.too_small``, ``cluster.bad_prices`` or ``cluster.bad_calibration``:
            see :func:`jobs.estimate.capacity.site_of` and :func:`jobs.estimate.work.parts_of`.
    """
    recipe, rows = batched(question.recipe, question.pools), question.catalog.rows
    site = _site(question, recipe)
    parts, block = _parts(question, recipe, site)
    fleet = most(parts, site, rows, block)
    at_most = Plan(fleet, site, simulate(parts, site, rows, block, question.seed))
    plan = _for_deadline(question, parts, site, block)
    possible = plan is not None and is_possible(plan.fleet, site)
    possible = possible and plan is not None and _is_in_time(plan, question)
    chosen = plan if plan and question.deadline_s else at_most
    return Answer(
        parts,
        block,
        at_most,
        plan,
        possible,
        _savings(question, recipe, chosen),
        _figures(question, parts, site),
    )


def _site(question: Question, recipe: Recipe) -> Site:
    return site_of(
        question.pools,
        question.calibration,
        question.prices,
        question.losses_per_hour,
        steps=clean.steps(recipe, "output"),
        rows=question.catalog.rows,
    )


def _parts(question: Question, recipe: Recipe, site: Site) -> tuple[list[Part], int]:
    has_gpus = any(each.group.gpus for each in site.nodes)
    parts = parts_of(recipe, question.catalog, question.calibration, has_gpus=has_gpus)
    return parts, photos_per_block(recipe, question.catalog)


def _is_in_time(plan: Plan, question: Question) -> bool:
    return question.deadline_s is None or plan.simulated.seconds <= question.deadline_s


def _for_deadline(question: Question, parts: Sequence[Part], site: Site, block: int) -> Plan | None:
    """The fleet for the deadline, enlarged until the simulation is in time, too.

    Where nodes that come step by step would be too late, all are asked for at once.
    """
    if question.deadline_s is None:
        return None
    rows, aim_s, plan = question.catalog.rows, question.deadline_s, None
    for _ in range(_ENLARGED):
        for at_once in (site.at_once, True):
            here = replace(site, at_once=at_once)
            fleet = in_time(parts, here, rows, block, aim_s)
            if fleet:
                break
        if not fleet:
            return plan
        small = limited(here, fleet, parts)
        plan = Plan(fleet, here, simulate(parts, small, rows, block, question.seed))
        if _is_in_time(plan, question):
            break
        aim_s *= 0.99 * question.deadline_s / plan.simulated.seconds
    return plan


def _savings(question: Question, recipe: Recipe, plan: Plan) -> list[Saving]:
    found = []
    for lever in levers(recipe):
        pulled = lever.pulled(recipe)
        site = replace(_site(question, pulled), at_once=plan.site.at_once)
        parts, block = _parts(question, pulled, site)
        if question.deadline_s:
            fleet = in_time(parts, site, question.catalog.rows, block, question.deadline_s)
        else:
            fleet = most(parts, site, question.catalog.rows, block)
        saved = 1 - fleet.cost_usd / plan.fleet.cost_usd if fleet and plan.fleet.cost_usd else 0.0
        found.append(Saving(lever, fleet, saved))
    return sorted(found, key=lambda saving: -saving.saved)


def _figures(question: Question, parts: Sequence[Part], site: Site) -> dict[str, Figure]:
    """Those that the answer rests on, by their names in a calibration file."""
    known = question.calibration
    names = {name for part in parts for step in part.steps for name in step.figures}
    found: dict[str, Figure] = {f"steps.{name}": known.steps[name] for name in sorted(names)}
    pools = list(dict.fromkeys(part.pool for part in parts))
    for pool in pools:
        found[f"actor_start_s.{pool}"] = known.actor_start_s[pool]
    for pool in dict.fromkeys(each.pool for each in site.nodes):
        found[f"node_start_s.{pool}"] = known.node_start_s[pool]
        if question.prices is None:
            found[f"price.{pool}"] = known.price[pool]
    run = {"driver_start_s", "idle_s"}
    if question.losses_per_hour is None:
        run.add("losses_per_hour")
    if question.recipe.refiner and question.recipe.judge and question.recipe.judge.attempts > 1:
        run.add("tried_again")
    if question.recipe.refiner and question.catalog.smooth_share is None:
        run.add("smooth")
    return found | {f"run.{name}": known.run[name] for name in sorted(run)}
