"""Prints lines, errors and counts on a console."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from manifests.ledger import Tally


def console_for(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr that prints text as it is: ids and paths are no markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_error(code: str, message: str) -> None:
    """Print one error line on stderr: ``error CODE: MESSAGE``."""
    console = console_for(stderr=True)
    console.print("error ", style="red", end="")
    console.print(f"{code}: {message}")


def print_finding(console: Console, state: str, text: str) -> None:
    """Print the result of a check as one line; its state is ``ok``, ``note`` or ``bad``."""
    colours = {"ok": "green", "note": "yellow", "bad": "red"}
    console.print(f"{state:5}", style=colours[state], end="")
    console.print(text)


def print_counts(console: Console, tally: Tally) -> None:
    """Print what was kept outside the masks, and the rows by error code, with remedies."""
    from jobs.results.status import fidelity_lines
    from manifests.errors import meaning

    for line in fidelity_lines(tally.by_fidelity, tally.reencoded_reasons):
        console.print(f"  {line}")
    for code, count in sorted(tally.failed.items()):
        console.print(f"  {count:>8}  {code}: {meaning(code)}")
