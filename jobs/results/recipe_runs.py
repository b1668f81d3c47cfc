"""What recipes made in an output folder: where all that reads results begins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jobs.pipeline.pending import extra_schema
from manifests.errors import OutputError
from manifests.ledger import Ledger
from manifests.planning.plan import Plan, load_plan
from manifests.runs import RunRecord, latest_by_recipe
from manifests.storage.place import Place
from stages.recipe import Recipe, label_of


@dataclass(frozen=True)
class RecipeRun:
    """What one recipe made in one output folder.

    Attributes:
        plan: of the folder.
        record: of the recipe's last run there.
    """

    plan: Plan
    record: RunRecord

    @property
    def hash(self) -> str:
        """The recipe's, as it was when it ran: a later version may compute another one."""
        return str(self.record.facts["recipe_hash"])

    @property
    def label(self) -> str:
        """The recipe's, likewise."""
        return label_of(self.record.facts["recipe"]["name"], self.hash)

    @property
    def ledger(self) -> Ledger:
        """Its rows."""
        return Ledger(self.plan.output, self.hash)

    @cached_property
    def recipe(self) -> Recipe:
        """As that run had it."""
        return Recipe.from_table(self.record.facts["recipe"], f"run {self.record.run_id}")

    @cached_property
    def extra(self) -> list[str]:
        """The manifest's other columns, by their names in the lineage."""
        return list(extra_schema(self.plan.shard(0).read_table().schema).names)

    def is_called(self, wanted: str) -> bool:
        """Whether this is the recipe's name, its label, its hash, or the beginning of that."""
        is_hash = len(wanted) >= 4 and self.hash.startswith(wanted)
        return is_hash or wanted in (self.recipe.name, self.label)


def recipe_runs(output: str) -> list[RecipeRun]:
    """The recipes that were run on an output folder, the last one at the end.

    Args:
        output: path or URI.

    Raises:
        OutputError: ``output.not_found``: there is none.
    """
    plan = load_plan(Place.of(output).uri)
    runs = latest_by_recipe(plan.output).values() if plan else ()
    if plan is None or not runs:
        raise OutputError("output.not_found", f"There is no run at {output}.")
    return [RecipeRun(plan, record) for record in runs]
