"""The data files of a page: a few columns of each row for the list, all details for the viewer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from jobs.report.data import EXTRA, Listing
from jobs.report.pictures import Pictures
from jobs.results.failures import as_json, manifest_row
from jobs.results.recipe_runs import RecipeRun

#: Max number of distinct values of a column that is filtered with a menu.
_MAX_CHOICES = 200

#: Longer values are shortened in the list, and searched in this part only.
_MAX_VALUE_LENGTH = 80

#: Column of exported marks. If the manifest already has it, it comes from an earlier review.
REVIEW = "review"

#: Lineage column -> name in the details of a photo.
_DETAILS = {
    "status": "status",
    "error_code": "code",
    "error": "error",
    "error_stage": "errorStage",
    "image_uri": "image",
    "output_uri": "output",
    "flag": "flag",
    "score": "score",
    "seconds": "seconds",
    "width": "width",
    "height": "height",
    "masked_px": "maskedPx",
    "fidelity": "fidelity",
    "fidelity_note": "fidelityNote",
    "metadata_note": "metadataNote",
    "refine_prompt": "prompt",
    "run_id": "run",
}

#: Fields of a patch in the details, if the lineage has them.
_PATCH_DETAILS = ("refined", "reason", "tries")

#: Row number -> its pictures, for each side that is shown.
Drawn = Mapping[int, Sequence[Pictures | None]]


def picture_folder(side: RecipeRun, name: str) -> str:
    """The folder of a photo's pictures: a hash, since ids are unique only within a recipe."""
    key = "\0".join((side.plan.output, side.hash, name))
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def list_columns(listing: Listing, drawn: Drawn) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The columns by which the list is shown, filtered and sorted.

    Returns:
        ``choices``: the values of ``status``, ``code``, ``flag`` and some of ``columns``, which are
        stored as indices (-1: none); and the columns of all rows.
    """
    tables = [listing.rows] if listing.compared is None else [listing.rows, listing.compared]
    sides = listing.rows["side"].to_pylist()
    names = listing.rows["id"].to_pylist()
    columns: dict[str, list[Any]] = {"id": names, "side": sides}
    choices: dict[str, Any] = {}
    for name, ours in (("status", "status"), ("code", "error_code"), ("flag", "flag")):
        values = [table[ours].to_pylist() for table in tables]
        known = sorted({each for some in values for each in some if each})
        choices[name] = known
        for index, some in enumerate(values):
            columns[_of(name, index)] = _numbers(some, known)
    for index, table in enumerate(tables):
        columns[_of("score", index)] = [_rounded(each, 4) for each in table["score"].to_pylist()]
        times = table["seconds"].to_pylist()
        columns[_of("seconds", index)] = [
            None if each is None else round(sum(seconds for _, seconds in each), 2)
            for each in times
        ]
    columns["picture"] = [
        picture_folder(listing.sides[side], name) if _has_icon(drawn.get(row)) else ""
        for row, (side, name) in enumerate(zip(sides, names, strict=True))
    ]
    choices["columns"] = []
    for number, name in enumerate(_extra(listing.rows)):
        texts = [_shortened(each) for each in listing.rows[name].to_pylist()]
        known = sorted(set(filter(None, texts)))
        is_choice = len(known) <= _MAX_CHOICES
        choices["columns"].append(
            {"name": name.removeprefix(EXTRA), "values": known if is_choice else None}
        )
        columns[f"column{number}"] = _numbers(texts, known) if is_choice else texts
    return choices, columns


def details(listing: Listing, start: int, stop: int, drawn: Drawn) -> Iterator[dict[str, Any]]:
    """The details of rows ``start`` to ``stop``, see ``site/viewer.js``.

    ``line`` is the manifest row as JSON text, so that browsers do not round its numbers.
    """
    rows = _dicts(listing.rows, start, stop)
    others: Sequence[dict[str, Any] | None] = [None] * len(rows)
    if listing.compared is not None:
        others = _dicts(listing.compared, start, stop)
    extra = _extra(listing.rows)
    for number, (row, other) in enumerate(zip(rows, others, strict=True), start):
        extra_values = {name.removeprefix(EXTRA): row[name] for name in extra}
        extra_values.pop(REVIEW, None)
        pictures = drawn.get(number, [None, None])
        shown = [_side_details(row, listing.sides[row["side"]], row["side"], pictures[0])]
        if other and other["id"] is not None:
            shown.append(_side_details(other, listing.sides[1], 1, pictures[1]))
        yield {
            "line": as_json(manifest_row(row, []) | extra_values),
            "sides": shown,
        }


def _side_details(
    row: Mapping[str, Any], side: RecipeRun, index: int, pictures: Pictures | None
) -> dict[str, Any]:
    values = {name: row[ours] for ours, name in _DETAILS.items() if row[ours] is not None}
    values["side"] = index
    values["patches"] = [
        {"region": list(patch["region"].values())}
        | {name: patch[name] for name in _PATCH_DETAILS if patch.get(name) is not None}
        for patch in row["patches"] or []
    ]
    if pictures:
        values["pictures"] = asdict(pictures) | {"folder": picture_folder(side, row["id"])}
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
    return [name for name in rows.column_names if name.startswith(EXTRA)]


def _has_icon(pictures: Sequence[Pictures | None] | None) -> bool:
    return bool(pictures and pictures[0] and pictures[0].shown)


def _numbers(values: Sequence[str | None], known: Sequence[str]) -> list[int]:
    places = {value: place for place, value in enumerate(known)}
    return [places.get(value, -1) if value else -1 for value in values]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _shortened(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else as_json(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[: _MAX_VALUE_LENGTH - 1]}…"
