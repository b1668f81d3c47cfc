"""What every actor of a run is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from manifests.ledger import Ledger, RetryPolicy
from manifests.planning.plan import Plan
from manifests.runs import RunRecord
from stages.recipe import Recipe
from stages.steps.base import Step
from stages.traits import Pool

#: Each has at least what those before it have.
_POOLS: tuple[Pool, ...] = ("cpu", "small_gpu", "large_gpu")


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run, as its actors see it.

    Attributes:
        plan: what is to be done, and where results go.
        extra: types of the manifest's other columns.
        recipe: how.
        policy: which rows are still to be done; its run_id is stamped on each lineage row.
        record: of the run; somebody may ask it to stop.
        steps: makes the recipe's steps; called in the actor, since models do not travel.
        has_gpus: whether steps run in the pools that they name, or all in the CPUs' one.
        check_inputs: whether actors look for photos whose files changed since they were done.
        isolated: whether each photo gets a process of its own, for all steps.
    """

    plan: Plan
    extra: pa.Schema
    recipe: Recipe
    policy: RetryPolicy
    record: RunRecord
    steps: Callable[[Recipe, str], Sequence[Step]]
    has_gpus: bool = False
    check_inputs: bool = False
    isolated: bool = False

    @property
    def ledger(self) -> Ledger:
        """Where its rows are recorded."""
        return Ledger(self.plan.output, self.recipe.hash)

    def groups(self) -> list[tuple[Pool, list[Step]]]:
        """Neighbouring steps of one pool, together: each group becomes one pool of actors."""
        steps = self.steps(self.recipe, self.plan.output)
        return grouped(steps, has_gpus=self.has_gpus, isolated=self.isolated)


def grouped(
    steps: Sequence[Step], *, has_gpus: bool, isolated: bool = False
) -> list[tuple[Pool, list[Step]]]:
    """Neighbouring steps of one pool, together, as :meth:`RunSpec.groups` tells them."""
    if not has_gpus:
        return [("cpu", list(steps))]
    if isolated:
        return [(max((step.pool for step in steps), key=_POOLS.index), list(steps))]
    return [(pool, list(group)) for pool, group in groupby(steps, key=lambda step: step.pool)]
