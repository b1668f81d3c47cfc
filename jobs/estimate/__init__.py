"""Estimates nodes, time and cost of a catalog: rows x seconds / actors.

::

    lineage of a pilot run ─┐
    defaults.toml ──────────┴▶ seconds.py: s per photo, step by step, grouped as a run groups them
    --pools, deploy files ───▶ fleet.py: nodes, actors, start-up, ramp, spot losses, time, cost
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cluster.pools import PoolsOptions
from jobs.estimate.fleet import Fleet, Workload
from jobs.estimate.seconds import Basis, Part
from manifests.errors import RecipeError
from stages.pipeline import steps
from stages.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Change:
    """Settings of the recipe, their effect on the result, and the share of the cost they save."""

    set: Sequence[str]
    effect: str
    saved: float
    fleet: Fleet


@dataclass(frozen=True, slots=True)
class Estimate:
    """The result of an estimate.

    Attributes:
        parts: the step groups of the job, with the seconds of each step.
        fleet: the smallest one for the deadline, maybe with more nodes than available; without a
            deadline, or if no number of nodes meets it, the fastest one on the available nodes.
        meets_deadline: whether the nodes needed for it are available; None: no deadline.
        changes: of the recipe that save something, the best one first.
        assumed: steps, and other figures, that nobody measured.
    """

    parts: Sequence[Part]
    fleet: Fleet
    meets_deadline: bool | None
    changes: Sequence[Change]
    assumed: Sequence[str]


def estimate(
    recipe: Recipe,
    basis: Basis,
    rows: int,
    pools: PoolsOptions,
    *,
    prices: Mapping[str, float] | None = None,
    deadline_s: float | None = None,
    spot_loss_rate: float = 0.0,
) -> Estimate:
    """Estimate a job; see `catalog-cleanup estimate --help`.

    Raises:
        ClusterError: ``cluster.too_small``, ``cluster.bad_prices``, ``cluster.no_figure``.
    """
    job_of = partial(
        Workload.of,
        basis=basis,
        rows=rows,
        pools=pools,
        prices=prices,
        spot_loss_rate=spot_loss_rate,
    )
    job = job_of(recipe, steps=steps(recipe, "output"))
    in_time = job.smallest_for(deadline_s) if deadline_s else None
    fleet, changes = in_time or job.fastest(), []
    for settings, effect in _cheaper_settings(recipe):
        try:
            changed = recipe.with_options(settings)
        except RecipeError:  # not with this method
            continue
        other = job_of(changed, steps=steps(changed, "output"))
        cheaper = other.smallest_for(deadline_s) if deadline_s and in_time else other.fastest()
        if cheaper and cheaper.cost_usd < fleet.cost_usd:
            saved = 1 - cheaper.cost_usd / fleet.cost_usd
            changes.append(Change(settings, effect, saved, cheaper))
    changes.sort(key=lambda each: -each.saved)
    assumed = [step for part in job.parts for step in part.assumed]
    assumed += ["start of nodes and actors", "spot losses"]
    assumed += ["prices"] if prices is None else []
    meets_deadline = bool(in_time and job.has_available(in_time.nodes)) if deadline_s else None
    return Estimate(job.parts, fleet, meets_deadline, changes, assumed)


def _cheaper_settings(recipe: Recipe) -> Sequence[tuple[Sequence[str], str]]:
    """Settings that may make a recipe cheaper, each with its effect on the result."""
    if not recipe.refiner:
        return ()
    return (
        (["refine.when=never"], "fills stay soft"),
        (["refine.when=auto"], "fills on smooth backgrounds are not refined"),
        ([f"refine.steps={round(0.6 * recipe.refiner.steps)}"], "rougher texture"),
        (["refine.reference=none"], "the model sees no reference picture"),
        (["refine.size_px=768"], "coarser texture where crops are large"),
        (["refine.fp8=true"], "small differences; needs torchao"),
    )
