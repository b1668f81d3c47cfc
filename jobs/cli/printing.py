"""Printing for people: consoles and error lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console_for(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr."""
    from rich.console import Console

    return Console(stderr=stderr)


def print_error(what: str, message: str) -> None:
    """Print one error line on stderr: ``error CODE: MESSAGE``."""
    console = console_for(stderr=True)
    console.print("error ", style="red", end="")
    console.print(f"{what}: {message}", highlight=False, markup=False, soft_wrap=True)
