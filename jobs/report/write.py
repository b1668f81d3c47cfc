"""Write the review page of an output folder: one folder that opens from disk or from a bucket.

::

    report/index.html  *.css  *.js        the page: site/
    report/data/page.js                   what it is about, its choices, its summaries
    report/data/rows-NNNN.js              the list, in columns
    report/data/details-NNNN.js           all that is told of each row, loaded when one is looked at
    report/pictures/<key>/*.webp          of those rows that have pictures

Data are scripts, since a page that is opened from disk may load no other files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import resources
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.progress import track

from jobs.report import SAMPLE
from jobs.report.data import Listing, choose, list_pairs, list_rows, select_runs
from jobs.report.pictures import Pictures, draw
from jobs.report.records import REVIEW, Drawn, details, list_columns, picture_folder
from jobs.report.summary import meaning
from jobs.results.recipe_runs import RecipeRun
from manifests.errors import CatalogCleanupError, RecipeError
from manifests.runs import records
from manifests.storage.place import Place

_SITE = resources.files("jobs.report") / "site"

#: Rows in a file of the list, and in one of details, which is loaded when a row is looked at.
ROWS_PER_FILE, DETAILS_PER_FILE = 10_000, 250

#: Photos drawn at once: each takes a core, and some hundred MB if it is large.
_DRAWERS = min(os.cpu_count() or 1, 8)

#: So many rows are Python's at a time.
_DRAWN_TOGETHER = 256


def write_report(
    output: str,
    console: Console,
    *,
    sample: int = SAMPLE,
    only: Collection[str] = (),
    recipe: str | None = None,
    compare: str | None = None,
) -> str:
    """Write ``<output>/report/index.html`` and all that it needs, from the lineage.

    Args:
        output: path or URI of a folder with results.
        console: where progress goes.
        sample: so many photos get pictures, see :func:`choose`; 0: all.
        only: list rows of these statuses, or ``flagged``; empty: all.
        recipe: name, label or hash of the recipe to show; None: all that were run, or where
            something is compared, the last one.
        compare: another output folder, or another recipe of this one, to show beside the first.

    Returns:
        The page's path or URI.

    Raises:
        OutputError: ``output.not_found``, or ``output.not_writable``.
        RecipeError: ``recipe.not_found``: it was not run there, or there is nothing to compare.
    """
    place = Place.of(output)
    if compare is None:
        listing = list_rows(select_runs(output, recipe), only)
    else:
        listing = list_pairs(*_pair(output, recipe, compare), only)
    folder = place / "report"
    drawn = _draw(listing, choose(listing.rows, sample), folder, console)
    choices, columns = list_columns(listing, drawn)
    count, stamp = listing.rows.num_rows, f"{datetime.now(UTC):%Y%m%d%H%M%S}"
    files = {"rows": 0, "details": 0}
    for start in range(0, count, ROWS_PER_FILE):
        part = {name: each[start : start + ROWS_PER_FILE] for name, each in columns.items()}
        _script(folder, f"rows-{files['rows']:04d}", "rows", files["rows"], part)
        files["rows"] += 1
    for start in range(0, count, DETAILS_PER_FILE):
        told = list(details(listing, start, min(start + DETAILS_PER_FILE, count), drawn))
        _script(folder, f"details-{files['details']:04d}", "details", files["details"], told)
        files["details"] += 1
    page = {
        "title": place.name,
        "output": place.uri,
        "madeAt": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "version": version("catalog-cleanup"),
        "stamp": stamp,
        "review": REVIEW,
        "count": count,
        "drawn": len(drawn),
        "files": files["rows"],
        "detailsPerFile": DETAILS_PER_FILE,
        "only": sorted(only),
        "compared": listing.compared is not None,
        "sides": [_side(listing, index) for index in range(len(listing.sides))],
        "meanings": {code: meaning(code) for code in choices["code"]},
    }
    _script(folder, "page", "begin", page | choices)
    for file in sorted(_SITE.iterdir(), key=lambda file: file.name == "index.html"):
        text = file.read_text("utf-8").replace("{{stamp}}", stamp)  # or a browser shows old files
        _store(folder / file.name, text.encode())
    return (folder / "index.html").uri


def _pair(output: str, recipe: str | None, compare: str) -> tuple[RecipeRun, RecipeRun]:
    """The side to look at, and the one to hold against it."""
    same = [side for side in select_runs(output) if side.is_called(compare)]
    second = (same or select_runs(compare))[-1]
    firsts = [
        side
        for side in select_runs(output, recipe)
        if (side.plan.output, side.hash) != (second.plan.output, second.hash)
    ]
    if not firsts:
        raise RecipeError(
            "recipe.not_found", f"There is no second recipe at {output} to compare with {compare}."
        )
    return firsts[-1], second


def _side(listing: Listing, index: int) -> dict[str, Any]:
    side = listing.sides[index]
    runs = records(side.plan.output)
    return {
        "name": side.recipe.name,
        "label": side.label,
        "output": side.plan.output,
        "planned": side.plan.rows,
        "summary": listing.summaries[index].told(runs),
    }


def _draw(listing: Listing, rows: Sequence[int], folder: Place, console: Console) -> Drawn:
    """Draw these rows, of each side that has them."""
    beside = 1 if listing.compared is None else 2
    drawn: dict[int, list[Pictures | None]] = {row: [None] * beside for row in rows}
    made = track(
        _draw_rows(listing, rows, folder),
        "pictures",
        len(rows) * beside,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for row, index, pictures in made:
        drawn[row][index] = pictures
    return drawn


def _draw_rows(
    listing: Listing, rows: Sequence[int], folder: Place
) -> Iterator[tuple[int, int, Pictures]]:
    """Row, 0 or 1 for the second side, and what was drawn."""
    tables = [listing.rows] if listing.compared is None else [listing.rows, listing.compared]
    with ThreadPoolExecutor(_DRAWERS) as pool:
        for start in range(0, len(rows), _DRAWN_TOGETHER):
            some = rows[start : start + _DRAWN_TOGETHER]
            for index, table in enumerate(tables):
                found = table.take(some).to_pylist(maps_as_pydicts="strict")
                work = [
                    (number, row, listing.sides[index or row["side"]])
                    for number, row in zip(some, found, strict=True)
                    if row["id"] is not None
                ]
                made = pool.map(lambda each: _drawn(each[1], each[2], folder), work)
                for (number, _, _), pictures in zip(work, made, strict=True):
                    yield number, index, pictures


def _drawn(row: dict[str, Any], side: RecipeRun, folder: Place) -> Pictures:
    """Draw one row, whatever its files are."""
    if (row["error_code"] or "").startswith("row."):
        return Pictures(problem="Not drawn: it may do to this process what it did to another.")
    own = folder / "pictures" / picture_folder(side, row["id"])
    try:
        return draw(
            row,
            side.recipe,
            side.plan.output,
            side.label,
            lambda name, data: _store(own / name, data),
        )
    except CatalogCleanupError:
        raise
    except Exception as error:  # a row must never cost another, whatever a library raises
        return Pictures(problem=f"Not drawn: {type(error).__name__}: {error}")


def _script(folder: Place, name: str, call: str, *values: object) -> None:
    """Store data as a script that hands them to the page."""
    told = (
        json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
        for value in values
    )
    _store(folder / "data" / f"{name}.js", f"review.{call}({','.join(told)});\n".encode())


def _store(place: Place, data: bytes) -> None:
    """Store a file; on disk without flushing it, since a page can be made again."""
    place.write(data, flush=False)
