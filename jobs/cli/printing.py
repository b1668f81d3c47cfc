"""Prints lines, errors and counts on a console."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.results.examples import Examples
    from manifests.ledger import Tally

CRASHED_CODE = "row.crashed"


def console_for(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr that prints text as it is: ids and paths are no markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def format_share(share: float) -> str:
    """E.g. ``2.5 %``."""
    return f"{100 * share:.1f} %"


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


def print_counts(console: Console, tally: Tally, examples: Examples) -> None:
    """Print how much was filled, what was kept, and the rows by error code, with remedies.

    Args:
        console: where to print.
        tally: the counts.
        examples: of the rows that were counted, or of more of them.
    """
    from jobs.results.status import fidelity_lines
    from manifests.errors import describe

    if examples.largest:
        median, largest = map(format_share, (examples.median_share, examples.largest_share))
        shares = f"median {median}, largest {largest} of the photo (id {examples.largest})"
        console.print(f"  {examples.verb}: {shares}")
    for line in fidelity_lines(tally.by_fidelity, tally.reencoded_reasons):
        console.print(f"  {line}")
    for code, count in sorted((tally.failed + Counter({CRASHED_CODE: tally.crashed})).items()):
        example = f" (e.g. {examples.by_code[code]})" if code in examples.by_code else ""
        console.print(f"  {count:>8}  {code}{example}: {describe(code)}")
