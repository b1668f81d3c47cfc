"""Prints lines, errors and counts on a console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.printing import print_line

if TYPE_CHECKING:
    from rich.console import Console

    from manifests.ledger import Tally


def console_for(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr."""
    from rich.console import Console

    return Console(stderr=stderr)


def print_error(code: str, message: str) -> None:
    """Print one error line on stderr: ``error CODE: MESSAGE``."""
    console = console_for(stderr=True)
    print_line(console, "error ", "red", end="")
    print_line(console, f"{code}: {message}")


def print_finding(console: Console, state: str, text: str) -> None:
    """Print the result of a check as one line; its state is ``ok``, ``note`` or ``bad``."""
    colours = {"ok": "green", "note": "yellow", "bad": "red"}
    print_line(console, f"{state:5}", colours[state], end="")
    print_line(console, text)


def print_counts(console: Console, tally: Tally) -> None:
    """Print what was kept outside the masks, and the rows by error code, with remedies."""
    from jobs.results.status import fidelity_lines
    from manifests.errors import describe

    for line in fidelity_lines(tally.by_fidelity, tally.reencoded_reasons):
        print_line(console, f"  {line}")
    for code, count in sorted(tally.failed.items()):
        print_line(console, f"  {count:>8}  {code}: {describe(code)}")
