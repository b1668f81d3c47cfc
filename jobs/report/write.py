"""Writes the review page of an output folder, which opens from disk or from a bucket.

::

    report/index.html  *.css  *.js        the page: site/
    report/data/page.js                   titles, menus, summaries
    report/data/rows-NNNN.js              the list, in columns
    report/data/details-NNNN.js           details of each row, loaded on demand
    report/pictures/<key>/*.webp          pictures of a photo

Data files are scripts, since a page that is opened from disk can load no other files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import resources
from importlib.metadata import version
from itertools import repeat
from typing import Any

from rich.console import Console
from rich.progress import track

from jobs.report import SAMPLE
from jobs.report.listing import Listing, list_pairs, list_rows, sample_rows, select_recipes
from jobs.report.page_data import REVIEW, Rendered, details, list_columns, picture_folder
from jobs.report.pictures import Pictures, render
from jobs.results.recipe_results import RecipeResults
from manifests.errors import CatalogCleanupError, RecipeError, describe
from manifests.runs import records
from manifests.storage.path import StoragePath

_SITE = resources.files("jobs.report") / "site"

#: Number of rows in a file of the list, and in a file of details, which is loaded on demand.
ROWS_PER_FILE, DETAILS_PER_FILE = 10_000, 250

#: Threads that render pictures: each uses a core, and a few hundred MB for a large photo.
_RENDER_THREADS = min(os.cpu_count() or 1, 8)

#: Number of rows that are converted to Python objects at a time.
_RENDER_BATCH = 256


def write_report(
    output: str,
    console: Console,
    *,
    sample: int = SAMPLE,
    only: Collection[str] = (),
    recipe: str | None = None,
    compare: str | None = None,
) -> str:
    """Write ``<output>/report/index.html`` and its files, from the lineage.

    Args:
        output: path or URI of a folder with results.
        console: where to print progress.
        sample: number of photos with pictures, see :func:`sample_rows`; 0: all.
        only: list rows of these statuses, or ``flagged``; empty: all.
        recipe: name, label or hash of the recipe to show; None: all recipes, or the most recent
            one in a comparison.
        compare: another output folder, or another recipe of this one, to compare with.

    Returns:
        The page's path or URI.

    Raises:
        OutputError: ``output.not_found``, or ``output.not_writable``.
        RecipeError: ``recipe.not_found``: it was not run there, or no other recipe was.
    """
    if compare is None:
        listing = list_rows(select_recipes(output, recipe), only)
    else:
        listing = list_pairs(*_pair(output, recipe, compare), only)
    path = StoragePath.of(output)
    folder = path / "report"
    rendered = _render(listing, sample_rows(listing.rows, sample), folder, console)
    choices, columns = list_columns(listing, rendered)
    count, stamp = listing.rows.num_rows, f"{datetime.now(UTC):%Y%m%d%H%M%S}"
    for number, start in enumerate(range(0, count, ROWS_PER_FILE)):
        part = {name: each[start : start + ROWS_PER_FILE] for name, each in columns.items()}
        _script(folder, f"rows-{number:04d}", "rows", number, part)
    for number, start in enumerate(range(0, count, DETAILS_PER_FILE)):
        some = list(details(listing, start, min(start + DETAILS_PER_FILE, count), rendered))
        _script(folder, f"details-{number:04d}", "details", number, some)
    page = {
        "title": path.name,
        "output": path.uri,
        "madeAt": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "version": version("catalog-cleanup"),
        "stamp": stamp,
        "review": REVIEW,
        "count": count,
        "rendered": len(rendered),
        "files": -(-count // ROWS_PER_FILE),
        "detailsPerFile": DETAILS_PER_FILE,
        "only": sorted(only),
        "detects": any(results.detects for results in listing.recipes),
        "cleans": any(results.cleans for results in listing.recipes),
        "compared": listing.compared is not None,
        "recipes": [_recipe_values(listing, index) for index in range(len(listing.recipes))],
        "meanings": {code: describe(code) for code in choices["error_code"]},
    }
    _script(folder, "page", "begin", page | choices)
    for file in sorted(_SITE.iterdir(), key=lambda file: file.name == "index.html"):
        text = file.read_text("utf-8").replace(
            "{{stamp}}", stamp
        )  # so that browsers do not use cached files
        _store(folder / file.name, text.encode())
    return (folder / "index.html").uri


def _pair(output: str, recipe: str | None, compare: str) -> tuple[RecipeResults, RecipeResults]:
    """The recipe to show, and the one to compare it with."""
    in_output = [results for results in select_recipes(output) if results.is_called(compare)]
    second = (in_output or select_recipes(compare))[-1]
    firsts = [
        results
        for results in select_recipes(output, recipe)
        if (results.plan.output, results.hash) != (second.plan.output, second.hash)
    ]
    if not firsts:
        raise RecipeError(
            "recipe.not_found", f"There is no second recipe at {output} to compare with {compare}."
        )
    return firsts[-1], second


def _recipe_values(listing: Listing, index: int) -> dict[str, Any]:
    results = listing.recipes[index]
    runs = records(results.plan.output)
    return {
        "name": results.name,
        "label": results.label,
        "output": results.plan.output,
        "planned": results.plan.rows,
        "summary": listing.summaries[index].as_values(runs),
    }


def _render(
    listing: Listing, rows: Sequence[int], folder: StoragePath, console: Console
) -> Rendered:
    """Render these rows, for each compared recipe that has them."""
    beside = 1 if listing.compared is None else 2
    rendered: dict[int, list[Pictures | None]] = {row: [None] * beside for row in rows}
    finished = track(
        _render_rows(listing, rows, folder),
        "pictures",
        len(rows) * beside,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for row, index, pictures in finished:
        rendered[row][index] = pictures
    return rendered


def _render_rows(
    listing: Listing, rows: Sequence[int], folder: StoragePath
) -> Iterator[tuple[int, int, Pictures]]:
    """Yield row number, side of the comparison (0 or 1) and pictures."""
    tables = [listing.rows] if listing.compared is None else [listing.rows, listing.compared]
    with ThreadPoolExecutor(_RENDER_THREADS) as pool:
        for start in range(0, len(rows), _RENDER_BATCH):
            some = rows[start : start + _RENDER_BATCH]
            for index, table in enumerate(tables):
                found = table.take(some).to_pylist(maps_as_pydicts="strict")
                work = {n: row for n, row in zip(some, found, strict=True) if row["id"] is not None}
                recipes = [listing.recipes[index or row["recipe"]] for row in work.values()]
                finished = pool.map(_render_row, work.values(), recipes, repeat(folder))
                for number, pictures in zip(work, finished, strict=True):
                    yield number, index, pictures


def _render_row(row: dict[str, Any], results: RecipeResults, folder: StoragePath) -> Pictures:
    """Render one row; errors of its files become its ``problem``."""
    if (row["error_code"] or "").startswith("row."):
        return Pictures(
            problem="Not rendered: this photo ended another process and might end this one."
        )
    own = folder / "pictures" / picture_folder(results, row["id"])
    try:
        return render(
            row,
            results.recipe,
            results.plan.output,
            results.label,
            lambda name, data: _store(own / name, data),
        )
    except CatalogCleanupError:
        raise
    except Exception as error:  # whatever a library raises, one row must not affect others
        return Pictures(problem=f"Not rendered: {type(error).__name__}: {error}")


def _script(folder: StoragePath, name: str, call: str, *values: object) -> None:
    """Store data as a script that passes them to the page."""
    arguments = (
        json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
        for value in values
    )
    _store(folder / "data" / f"{name}.js", f"review.{call}({','.join(arguments)});\n".encode())


def _store(path: StoragePath, data: bytes) -> None:
    """Store a file; not flushed to disk, since a page can be written again."""
    path.write(data, flush=False)
