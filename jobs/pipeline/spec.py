"""The specification of a run, which every actor receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from itertools import groupby
from typing import Any

import pyarrow as pa

from jobs.pipeline.supervisor import SupervisorClient
from manifests.ledger import IDENTITY_COLUMNS, Ledger, RetryPolicy
from manifests.planning.plan import Plan
from manifests.schema import LineageRow
from stages.method_options import Pool
from stages.recipe import Recipe
from stages.steps.base import Step
from stages.steps.fetch import build_fetch_again

#: In ascending order of resources.
_POOLS: tuple[Pool, ...] = ("cpu", "small_gpu", "large_gpu")


@dataclass(frozen=True, slots=True)
class RunSpec:
    """The specification of a run.

    Attributes:
        plan: the planned manifest, and where results go.
        extra: schema of the manifest's extra columns.
        recipe: the recipe to apply.
        retry_policy: which recorded rows count as ended; its run_id is written to each lineage row.
        build_steps: makes the recipe's steps; called in the actor, since no model is serialised.
        has_gpus: whether steps run in the pools that they name; else all run in the CPU pool.
        check_inputs: whether actors check for photos whose files changed since they ended.
        one_by_one: whether actors process one photo at a time.
        isolated: whether each photo runs in its own process, with all steps.
        repeats_internal_errors: whether photos that end with ``internal.error`` are not recorded,
            so that a later pass repeats them elsewhere.
        supervisor: the supervisor of the run.
        recipe_hash: of the recipe; it takes milliseconds, so it is computed once.
    """

    plan: Plan
    extra: pa.Schema
    recipe: Recipe
    retry_policy: RetryPolicy
    build_steps: Callable[[Recipe, str], Sequence[Step]]
    has_gpus: bool = False
    check_inputs: bool = False
    one_by_one: bool = False
    isolated: bool = False
    repeats_internal_errors: bool = False
    supervisor: SupervisorClient = field(default_factory=SupervisorClient)
    recipe_hash: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute the recipe's hash."""
        object.__setattr__(self, "recipe_hash", self.recipe.hash)

    @property
    def ledger(self) -> Ledger:
        """The ledger in which its rows are recorded."""
        return Ledger(self.plan.output, self.recipe_hash)

    def lineage_of(self, row: Mapping[str, Any], **more: Any) -> LineageRow:
        """A lineage row of this run.

        Args:
            row: has the columns :data:`manifests.ledger.IDENTITY_COLUMNS`.
            more: further columns.
        """
        return LineageRow(
            **{name: row[name] for name in IDENTITY_COLUMNS},
            recipe_name=self.recipe.name,
            recipe_hash=self.recipe_hash,
            package_version=_package_version(),
            run_id=self.retry_policy.run_id,
            **more,
        )

    def step_groups(self) -> list[tuple[Pool, list[Step]]]:
        """Neighbouring steps of the same pool; each step group becomes one pool of actors.

        If there are several, the last one begins with the step ``fetch_again``.
        """
        steps = self.build_steps(self.recipe, self.plan.output)
        groups = group_steps(steps, has_gpus=self.has_gpus, isolated=self.isolated)
        if len(groups) > 1:  # files are not sent with their photos
            pool, last = groups[-1]
            again = Step("fetch_again", pool, lambda: build_fetch_again(self.recipe), is_io=True)
            groups[-1] = pool, [again, *last]
        return groups


@cache
def _package_version() -> str:
    return version("catalog-cleanup")


def group_steps(
    steps: Sequence[Step], *, has_gpus: bool, isolated: bool = False
) -> list[tuple[Pool, list[Step]]]:
    """Group neighbouring steps of the same pool, see :meth:`RunSpec.step_groups`."""
    if not has_gpus:
        return [("cpu", list(steps))]
    if isolated:
        return [(max((step.pool for step in steps), key=_POOLS.index), list(steps))]
    return [(pool, list(group)) for pool, group in groupby(steps, key=lambda step: step.pool)]
