"""What benchmarks print, a line as each figure is found, and write as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

#: Characters of a column.
_WIDTH = 11


def show(
    found: Iterable[T], columns: Mapping[str, Callable[[T], str]], json_: Path | None, first: int
) -> Sequence[T]:
    """Print a line for each figure, as it is found.

    Args:
        found: figures; the work may be done as they are asked for.
        columns: heading -> text of a figure.
        json_: receives all of them, written anew with each.
        first: characters of the first column.

    Returns:
        The figures.
    """
    widths = [first] + [_WIDTH] * (len(columns) - 1)
    typer.echo(_line(columns, widths))
    rows: list[T] = []
    for row in found:
        rows.append(row)
        typer.echo(_line([text(row) for text in columns.values()], widths))
        if json_:  # each time: what is measured may take hours, and end early
            written: list[dict[str, Any]] = [asdict(each) for each in rows]
            json_.write_text(json.dumps(written, indent=2))
    return rows


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    texts = list(zip(cells, widths, strict=True))
    (head, width), rest = texts[0], texts[1:]
    return f"{head:{width}}" + "".join(f"{text:>{width}}" for text, width in rest)
