"""Prints text on a console as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def print_line(console: Console, text: str, style: str | None = None, end: str = "\n") -> None:
    """Print text without markup, highlighting or line breaks."""
    console.print(text, style=style, end=end, highlight=False, markup=False, soft_wrap=True)
