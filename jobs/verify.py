"""Check results against their sources, file by file: the promise put to the proof."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from manifests.errors import DestinationError, RowError
from manifests.files import Place
from manifests.ledger import Ledger
from manifests.plan import load_plan
from manifests.runs import latest_by_recipe
from manifests.schema import OK, LineageRow
from stages import prepare
from stages.compare import Comparison, compare
from stages.masks import distance_outside
from stages.photo import Photo
from stages.recipe import Recipe
from stages.storage import read

#: Coding a photo again moves its samples by a few levels of 255 on average; more is another photo.
_MOST_LEVELS = 12


@dataclass(frozen=True, slots=True)
class Verdict:
    """One result held against its source.

    Attributes:
        id: of the row.
        fidelity: what the lineage says is kept.
        found: what is; None if it could not be looked at.
        problem: what does not hold; empty if all does.
    """

    id: str
    fidelity: str
    found: Comparison | None
    problem: str


def verify(output: str, sample: int | None = None) -> Iterator[Verdict]:
    """Check the finished rows of the recipe that ran last in an output folder.

    Args:
        output: path or URI of a run's results.
        sample: only so many rows, evenly drawn; None: all of them.

    Raises:
        DestinationError: ``output.not_found``: there is no run there.
    """
    output = Place.of(output).uri
    plan = load_plan(output)
    done = list(latest_by_recipe(output).values())
    if plan is None or not done:
        raise DestinationError("output.not_found", f"There is no run at {output}.")
    record = done[-1]
    recipe = Recipe.from_table(record.facts["recipe"], source=f"run {record.run_id}")
    ledger = Ledger(output, record.facts["recipe_hash"])
    numbers = list(range(plan.shards))
    if sample is not None:
        random.Random(0).shuffle(numbers)
    left = sample if sample is not None else plan.rows
    columns = [f.name for f in fields(LineageRow)]
    for shard in numbers:
        for row in ledger.latest(shard, columns).to_pylist(maps_as_pydicts="strict"):
            if left > 0 and row["status"] == OK:
                left -= 1
                yield _verdict(LineageRow(**row), recipe)


def _verdict(row: LineageRow, recipe: Recipe) -> Verdict:
    assert row.output_uri is not None
    fidelity = row.fidelity or ""
    try:
        photo = Photo(LineageRow(row.id, image_uri=row.image_uri, mask_uri=row.mask_uri))
        photo.lineage.marks = row.marks
        prepare.fetch(recipe)(photo)
        source, result = photo.original, read(row.output_uri, "image")
        if photo.lineage.image_sha256 != row.image_sha256:
            return Verdict(row.id, fidelity, None, "the source has changed since")
        is_stored = hashlib.sha256(result).hexdigest() == row.output_sha256
        prepare.decode(recipe)(photo)
        prepare.mask(recipe)(photo)
        assert photo.region is not None
        height, width = photo.region.shape
        changed = distance_outside(photo.region) < recipe.mask.feather_for(width, height) + 1
        found = compare(source, result, changed, marked=recipe.metadata.mark_edit)
    except RowError as error:
        return Verdict(row.id, fidelity, None, str(error))
    problem = _problem(found, row, recipe)
    if not is_stored:
        problem = ", ".join(filter(None, ["not the file that was stored", problem]))
    return Verdict(row.id, fidelity, found, problem)


def _problem(found: Comparison, row: LineageRow, recipe: Recipe) -> str:
    """What of the promise does not hold, and was not told."""
    told = row.metadata_note or ""
    untold = [name for name in found.differing if f"{name.split()[0]} dropped" not in told]
    problems = []
    if row.fidelity != "identical" and found.outside == "whole file identical":
        problems.append("nothing was cleaned")
    if found.levels > _MOST_LEVELS:
        problems.append("another picture")
    elif not found.kept and row.fidelity != "reencoded":
        problems.append("samples outside the mask changed")
    if found.stale:
        problems.append("the old picture still shows")
    if untold and recipe.output.format == "source":
        problems.append("metadata changed")
    return ", ".join(problems)


def _told(differing: list[str]) -> str:
    return f"differs: {', '.join(differing)}" if differing else "identical"


def show(console: Console, output: str, sample: int | None = None) -> int:
    """Print the verdicts as a table.

    Returns:
        0 if all of the promise holds for all files, else 2.
    """
    table = Table(
        Column("id", overflow="fold"),
        "format",
        "outside the mask",
        "metadata",
        "previews",
        "",
        box=SIMPLE,
    )
    verdicts = list(verify(output, sample))
    for each in verdicts:
        found = each.found
        row = (
            (found.format, found.outside, _told(found.differing), found.previews)
            if found
            else ("", "", "", "")
        )
        verdict = f"[red]{escape(each.problem)}" if each.problem else f"[green]{each.fidelity}"
        table.add_row(escape(each.id), *map(escape, row), verdict)
    console.print(table)
    bad = sum(bool(each.problem) for each in verdicts)
    again = sum(each.fidelity == "reencoded" and not each.problem for each in verdicts)
    console.print(
        f"{len(verdicts)} looked at: {len(verdicts) - bad - again} kept all outside the mask, "
        f"{again} coded again, as their rows say, {bad} did not hold.",
        highlight=False,
    )
    return 2 if bad else 0
