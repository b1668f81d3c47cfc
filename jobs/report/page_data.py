"""The data files of a page: a few columns of each row for the list, all details for the viewer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.pipeline.pending import EXTRA_PREFIX
from jobs.report.listing import Listing
from jobs.report.pictures import Pictures
from jobs.results.detected import masks_of
from jobs.results.examples import filled_shares
from jobs.results.failures import as_json, manifest_row
from jobs.results.recipe_results import RecipeResults

#: Max number of distinct values of a column that is filtered with a menu.
_MAX_CHOICES = 200

#: Longer values are shortened in the list, and searched in this part only.
_MAX_VALUE_LENGTH = 80

#: Column of exported decisions. If the manifest already has it, it comes from an earlier review.
REVIEW = "review"

#: Lineage columns in the details of a photo.
_DETAILS = (
    *("status", "error_code", "error", "error_stage", "image_uri", "output_uri", "flag", "score"),
    *("seconds", "width", "height", "masked_px", "effects_px", "fidelity"),
    *("fidelity_note", "metadata_note", "refine_prompt", "run_id"),
)

#: Fields of a patch in the details, if the lineage has them.
_PATCH_DETAILS = ("refined", "reason", "tries")

#: Row number -> its pictures, for each compared recipe.
Rendered = Mapping[int, Sequence[Pictures | None]]


def picture_folder(results: RecipeResults, name: str) -> str:
    """The folder of a photo's pictures: a hash, since ids are unique only within a recipe."""
    key = "\0".join((results.plan.output, results.hash, name))
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def list_columns(
    listing: Listing, rendered: Rendered
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The columns by which the list is shown, filtered and sorted.

    Returns:
        ``choices``: the values of ``status``, ``error_code``, ``flag`` and some of ``columns``; and
        the columns of all rows, in which texts are empty where there are none.
    """
    tables = [listing.rows] if listing.compared is None else [listing.rows, listing.compared]
    recipes = listing.rows["recipe"].to_pylist()
    names = listing.rows["id"].to_pylist()
    columns: dict[str, list[Any]] = {"id": names, "recipe": recipes}
    choices: dict[str, Any] = {}
    for name in ("status", "error_code", "flag"):
        known: set[str] = set()
        for index, table in enumerate(tables):
            values = [each or "" for each in table[name].to_pylist()]
            columns[_of(name, index)] = values
            known.update(values)
        choices[name] = sorted(known - {""})
    columns["removed"], columns["found"] = _detected(listing.rows["detections"].combine_chunks())
    for index, table in enumerate(tables):
        columns[_of("score", index)] = pc.round(table["score"], 4).to_pylist()
        times = table["seconds"].to_pylist()
        columns[_of("seconds", index)] = [
            None if each is None else round(sum(seconds for _, seconds in each), 2)
            for each in times
        ]
    # None: its size or mask was not read.
    columns["share"] = pc.round(filled_shares(listing.rows), 5).to_pylist()
    columns["picture"] = [
        picture_folder(listing.recipes[recipe], name) if first and first.shown else ""
        for row, (recipe, name) in enumerate(zip(recipes, names, strict=True))
        for first, *_ in [rendered.get(row, [None])]
    ]
    choices["columns"] = []
    for number, name in enumerate(_extra(listing.rows)):
        texts = [_shortened(each) for each in listing.rows[name].to_pylist()]
        found = sorted(set(texts) - {""})
        menu = found if len(found) <= _MAX_CHOICES else None
        choices["columns"].append({"name": name.removeprefix(EXTRA_PREFIX), "values": menu})
        columns[f"column{number}"] = texts
    return choices, columns


def _detected(column: pa.ListArray) -> tuple[list[int | None], list[int | None]]:
    """How many detections of each row are removed, and how many there are; None: not searched."""
    counts = pc.list_value_length(column)
    removed = np.zeros(len(column), np.int64)
    rows = pc.list_parent_indices(column).to_numpy()
    np.add.at(removed, rows, pc.struct_field(pc.list_flatten(column), "removed").to_numpy(False))
    return pc.if_else(pc.is_valid(counts), pa.array(removed), None).to_pylist(), counts.to_pylist()


def details(
    listing: Listing, start: int, stop: int, rendered: Rendered
) -> Iterator[dict[str, Any]]:
    """The details of rows ``start`` to ``stop``, see ``site/viewer.js``.

    ``line`` is the manifest row as JSON text, so that browsers do not round its numbers. If the
    recipe detects, ``marked`` is the same without masks and RLE, ``masks`` are its mask
    files with that of what was detected, ``own`` those without, and ``rle`` its own RLE masks.
    """
    rows = _dicts(listing.rows, start, stop)
    others: Sequence[dict[str, Any] | None] = [None] * len(rows)
    if listing.compared is not None:
        others = _dicts(listing.compared, start, stop)
    extra = _extra(listing.rows)
    for number, (row, other) in enumerate(zip(rows, others, strict=True), start):
        extra_values = {name.removeprefix(EXTRA_PREFIX): row[name] for name in extra}
        extra_values.pop(REVIEW, None)
        pictures = rendered.get(number, [None, None])
        shown = [_row_details(row, listing.recipes[row["recipe"]], row["recipe"], pictures[0])]
        if other and other["id"] is not None:
            shown.append(_row_details(other, listing.recipes[1], 1, pictures[1]))
        full = manifest_row(row, []) | extra_values
        searched = _correction_fields(row, full) if listing.recipes[row["recipe"]].detects else {}
        yield {"line": as_json(full), "results": shown} | searched


def _correction_fields(row: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    """What a corrected manifest's row is made of."""
    rest = {name: value for name, value in full.items() if name not in ("mask", "rle")}
    own = full["mask"] or []
    return {"marked": as_json(rest), "masks": masks_of(row), "own": own, "rle": full.get("rle")}


def _row_details(
    row: Mapping[str, Any], results: RecipeResults, index: int, pictures: Pictures | None
) -> dict[str, Any]:
    values = {name: row[name] for name in _DETAILS if row[name] is not None}
    values["recipe"] = index
    values["patches"] = [
        {"region": list(patch["region"].values())}
        | {name: patch[name] for name in _PATCH_DETAILS if patch.get(name) is not None}
        for patch in row["patches"] or []
    ]
    if row["detections"] is not None:
        values["detections"] = row["detections"]
    if pictures:
        values["pictures"] = asdict(pictures) | {"folder": picture_folder(results, row["id"])}
    return values


def _dicts(table: pa.Table, start: int, stop: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.slice(start, stop - start).to_pylist(
        maps_as_pydicts="strict"
    )
    return rows


def _of(name: str, side: int) -> str:
    """The name of a column, for the first or second side."""
    return f"{name}2" if side else name


def _extra(rows: pa.Table) -> list[str]:
    return [name for name in rows.column_names if name.startswith(EXTRA_PREFIX)]


def _shortened(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else as_json(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[: _MAX_VALUE_LENGTH - 1]}…"
