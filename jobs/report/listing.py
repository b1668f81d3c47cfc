"""Selects and orders the lineage rows that a page lists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.pipeline.pending import EXTRA_PREFIX
from jobs.report.summary import Summary
from jobs.results.recipe_results import (
    ID_HASHES,
    READ_THREADS,
    RecipeResults,
    id_hash,
    results_by_recipe,
)
from manifests.errors import RecipeError
from manifests.schema import OK, lineage_schema

#: Max number of rows that a page lists, see :func:`sample_rows`; its summary counts all rows.
MAX_ROWS = 100_000


def select_recipes(output: str, wanted: str | None = None) -> list[RecipeResults]:
    """The recipes that were run on an output folder, the most recent one last.

    Args:
        output: path or URI.
        wanted: name, label, hash or prefix of a hash; None: all recipes.

    Raises:
        OutputError: ``output.not_found``.
        RecipeError: ``recipe.not_found``: no recipe matches.
    """
    recipes = results_by_recipe(output)
    found = [results for results in recipes if wanted is None or results.is_called(wanted)]
    if not found:
        labels = ", ".join(results.label for results in recipes)
        raise RecipeError(
            "recipe.not_found", f"No run at {output} had a recipe {wanted!r}; there are {labels}."
        )
    return found


@dataclass(frozen=True, slots=True)
class Listing:
    """The rows of a page.

    Attributes:
        recipes: the recipes. With ``compared``, the two that are shown side by side.
        rows: by id, then by recipe; the lineage's columns, the manifest's with :data:`EXTRA_PREFIX`
            before their names, and ``recipe``, an index of ``recipes``.
        compared: the second recipe's rows of the same ids in the same order, null where there is
            none; None: no comparison.
        summaries: of all rows of each recipe, including rows that are not listed.
    """

    recipes: Sequence[RecipeResults]
    rows: pa.Table
    compared: pa.Table | None
    summaries: Sequence[Summary]


def list_rows(
    recipes: Sequence[RecipeResults], only: Collection[str], max_rows: int = MAX_ROWS
) -> Listing:
    """List the rows of several recipes, one after another for each id.

    Args:
        recipes: at least one recipe.
        only: statuses, or ``flagged``: list only such rows; empty: all rows.
        max_rows: max number of rows, see :func:`sample_rows`.
    """
    share = min(max_rows / max(sum(results.plan.rows for results in recipes), 1), 1.0)
    summaries = [Summary(results.hash) for results in recipes]
    tables = []
    for index, (results, summary) in enumerate(zip(recipes, summaries, strict=True)):
        rows = _read(results, summary, lambda rows: _listed(rows, only, share))
        tables.append(rows.append_column("recipe", pa.array(np.full(rows.num_rows, index))))
    rows = pa.concat_tables(tables, promote_options="permissive")
    rows = rows.sort_by([("id", "ascending"), ("recipe", "ascending")])
    return Listing(recipes, rows.take(sample_rows(rows, max_rows)), None, summaries)


def list_pairs(
    first: RecipeResults, second: RecipeResults, only: Collection[str], max_rows: int = MAX_ROWS
) -> Listing:
    """List the rows of one recipe, with the rows of another recipe for the same ids.

    Args:
        first: the recipe whose ids are listed.
        second: the recipe to compare with.
        only: as in :func:`list_rows`, for the first.
        max_rows: likewise.
    """
    listing = list_rows([first], only, max_rows)
    ids = listing.rows["id"].combine_chunks()
    summary = Summary(second.hash)
    others = _read(second, summary, lambda rows: pc.is_in(rows["id"], value_set=ids).to_numpy())
    positions = pc.index_in(ids, value_set=others["id"].combine_chunks())
    return Listing(
        [first, second], listing.rows, others.take(positions), [*listing.summaries, summary]
    )


def sample_rows(rows: pa.Table, sample: int) -> list[int]:
    """Select rows: flagged ones first, then failed ones, then an even sample of the others.

    At most half of them are failed rows, unless there are not enough others.

    Args:
        rows: as in a :class:`Listing`.
        sample: number of rows; 0: all.

    Returns:
        Row numbers, ascending.
    """
    if sample <= 0 or sample >= rows.num_rows:
        return list(range(rows.num_rows))
    order = np.argsort(_hashes(rows["id"]), kind="stable")
    is_flagged, is_ok = _is_flagged(rows)[order], _is_ok(rows)[order]
    flagged, good = order[is_flagged], order[~is_flagged & is_ok]
    bad = order[~is_flagged & ~is_ok][: max(sample // 2, sample - len(flagged) - len(good))]
    return sorted(int(row) for row in np.concatenate([flagged, bad, good])[:sample])


def _read(
    results: RecipeResults, summary: Summary, select: Callable[[pa.Table], npt.NDArray[np.bool_]]
) -> pa.Table:
    """Read the chosen rows of a recipe, shard by shard; the summary counts all of its rows."""
    ledger, extra = results.ledger, results.extra
    ours = {field.name: field.type for field in lineage_schema()}
    columns = [*(name for name in ours if name not in extra), *extra]
    chosen = []
    with ThreadPoolExecutor(READ_THREADS) as pool:
        tables = pool.map(lambda shard: ledger.latest(shard, columns), range(results.plan.shards))
        for table in tables:
            rows = _align_columns(table, ours, extra)
            summary.add(rows)
            chosen.append(rows.filter(pa.array(select(rows))))
    return pa.concat_tables(chosen, promote_options="permissive").combine_chunks()


def _align_columns(
    rows: pa.Table, ours: Mapping[str, pa.DataType], extra: Collection[str]
) -> pa.Table:
    """All lineage columns, null if an earlier version had none, and the manifest's, prefixed."""
    found = {name for name in rows.column_names if name not in extra}
    columns = {
        name: rows[name] if name in found else pa.nulls(rows.num_rows, kind)
        for name, kind in ours.items()
    }
    theirs = {EXTRA_PREFIX + name: rows[name] for name in extra if name in rows.column_names}
    return pa.table(columns | theirs)


def _listed(rows: pa.Table, only: Collection[str], share: float) -> npt.NDArray[np.bool_]:
    """Which rows may be listed: all flagged or failed ones, and a share of the others."""
    is_flagged = _is_flagged(rows)
    listed = is_flagged | ~_is_ok(rows) | (share == 1)
    if share < 1:
        listed |= _hashes(rows["id"]) < share * ID_HASHES
    if only:
        listed &= pc.is_in(rows["status"], value_set=pa.array(only, pa.string())).to_numpy() | (
            is_flagged & ("flagged" in only)
        )
    return listed


def _is_ok(rows: pa.Table) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.equal(rows["status"], OK).to_numpy(), np.bool_)


def _is_flagged(rows: pa.Table) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_valid(rows["flag"]).to_numpy(), np.bool_)


def _hashes(ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.array([id_hash(name) for name in ids.to_pylist()], np.int64)
