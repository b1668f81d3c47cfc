"""Progress of a run: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Interval between progress lines in a pipe.
_LINE_INTERVAL_S = 10.0


def format_count(count: float, noun: str) -> str:
    """E.g. ``1 photo``, ``1,234,567 photos``, ``0.5 GPU``."""
    number = f"{count:,.0f}" if count == int(count) else f"{count:g}"
    return f"{number} {noun}" if 0 < count <= 1 else f"{number} {noun}s"


@contextmanager
def meter(console: Console, total: int) -> Iterator[Callable[[int, int], None]]:
    """Show progress within the block; yields a function that counts further ok and failed rows.

    Args:
        console: where to print.
        total: number of rows to process in this run.
    """
    if not console.is_terminal:
        yield Lines(console, total).advance
        return
    columns = (
        TextColumn("cleaning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total, failed=0)

        def advance(ok: int, failed: int) -> None:
            failed_before = bar.tasks[task].fields["failed"]
            bar.update(task, advance=ok + failed, failed=failed_before + failed)

        yield advance


class Lines:
    """Prints a line of progress every 10 s.

    Args:
        console: where to print.
        total: number of rows to process.
        clock: seconds, as ``time.monotonic``.
    """

    def __init__(
        self, console: Console, total: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._total, self._clock = console, total, clock
        self._ended = self._failed = 0
        self._printed = clock()
        self._first: tuple[float, int] | None = None  # time of the first rows, and their number

    def advance(self, ok: int, failed: int) -> None:
        """Count further finished rows."""
        self._ended += ok + failed
        self._failed += failed
        now = self._clock()
        if self._first is None:  # the start-up of actors does not count for the rate
            self._first = (now, self._ended)
        if now - self._printed < _LINE_INTERVAL_S:
            return
        self._printed = now
        self._console.print(
            f"{self._ended}/{self._total} done, {self._failed} failed{self._rate(*self._first)}",
        )

    def _rate(self, since: float, ended_then: int) -> str:
        seconds, rows = self._clock() - since, self._ended - ended_then
        if not (seconds and rows):
            return ""
        left = (self._total - self._ended) * seconds / rows
        return f", {rows / seconds:.1f} photos/s, {left:.0f} s left"
