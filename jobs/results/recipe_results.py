"""The results of each recipe in an output folder: the entry point for reading results."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from jobs.pipeline.pending import extra_schema
from manifests.errors import OutputError
from manifests.ledger import Ledger
from manifests.planning.plan import Plan, load_plan
from manifests.runs import RunRecord, latest_by_recipe
from manifests.storage.path import StoragePath
from stages.recipe import Recipe, label_of

#: Threads that read shards, since reading from S3 is mostly waiting.
READ_THREADS = 16

#: Number of values of :func:`id_hash`.
ID_HASHES = 2**32


def id_hash(name: str) -> int:
    """The hash by which rows are sampled: the same rows for each recipe, and each time."""
    return zlib.crc32(name.encode())


@dataclass(frozen=True)
class RecipeResults:
    """The results of one recipe in one output folder.

    Attributes:
        plan: the planned manifest of the folder.
        record: of the recipe's most recent run there.
    """

    plan: Plan
    record: RunRecord

    @property
    def hash(self) -> str:
        """The recipe's hash when it ran; a later version of the program may compute another one."""
        return str(self.record.content["recipe_hash"])

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.record.content["recipe"]["name"])

    @property
    def label(self) -> str:
        """The recipe's label when it ran."""
        return label_of(self.name, self.hash)

    @property
    def detects(self) -> bool:
        """Whether the recipe searches for what is to be removed."""
        return bool(self.record.content["recipe"].get("detect"))

    @property
    def cleans(self) -> bool:
        """Whether the recipe removes or refines; else it only detects."""
        return any(self.record.content["recipe"].get(name) for name in ("remove", "refine"))

    @property
    def ledger(self) -> Ledger:
        """The ledger of its rows."""
        return Ledger(self.plan.output, self.hash)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe as it was run, without options that this version of the program lacks.

        Raises:
            RecipeError: ``recipe.invalid``: this version lacks its method, or refuses a value.
        """
        return Recipe.from_record(self.record.content["recipe"], f"run {self.record.run_id}")

    @cached_property
    def extra(self) -> list[str]:
        """The manifest's extra columns, by their names in the lineage."""
        return list(extra_schema(self.plan.shard_file(0).read_table().schema).names)

    def is_called(self, wanted: str) -> bool:
        """Whether ``wanted`` is the recipe's name, label, hash, or a prefix of its hash."""
        is_hash = len(wanted) >= 4 and self.hash.startswith(wanted)
        return is_hash or wanted in (self.name, self.label)


@contextmanager
def reading_runs(output: str) -> Iterator[None]:
    """Translate errors of looking for runs in an output folder.

    Raises:
        OutputError: ``output.not_found``: it is a file, no path, or cannot be read.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise OutputError("output.not_found", f"There is no run at {output}: {error}.") from None


def results_by_recipe(output: str) -> list[RecipeResults]:
    """The results of each recipe in an output folder, those of the most recent one last.

    Args:
        output: path or URI.

    Raises:
        OutputError: ``output.not_found``: there is no run, or it cannot be read.
    """
    with reading_runs(output):
        plan = load_plan(StoragePath.of(output).uri)
        runs = latest_by_recipe(plan.output).values() if plan else ()
    if plan is None or not runs:
        raise OutputError("output.not_found", f"There is no run at {output}.")
    return [RecipeResults(plan, record) for record in runs]
