"""What a run shows while it works: a bar on a terminal, plain lines when piped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: A log that is read later wants few lines; a person watching it wants some.
_SECONDS_PER_LINE = 10.0


class Meter(Protocol):
    """Is told what has ended."""

    def advance(self, ok: int, failed: int) -> None:
        """So many more rows have ended."""
        ...


@contextmanager
def meter(console: Console, total: int) -> Iterator[Meter]:
    """Show progress within the block, in the way that suits the console.

    Args:
        console: where to.
        total: rows to be done in this run.
    """
    if not console.is_terminal:
        yield Lines(console, total)
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
        yield _Bar(bar, bar.add_task("", total=total, failed=0))


class _Bar:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task, self._failed = bar, task, 0

    def advance(self, ok: int, failed: int) -> None:
        self._failed += failed
        self._bar.update(self._task, advance=ok + failed, failed=self._failed)


class Lines:
    """A line now and then.

    Args:
        console: where to.
        total: rows to be done.
        clock: seconds, as ``time.monotonic``.
    """

    def __init__(
        self, console: Console, total: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._total, self._clock = console, total, clock
        self._ended = self._failed = 0
        self._printed = clock()
        self._first: tuple[float, int] | None = None  # when work began, and what had ended by then

    def advance(self, ok: int, failed: int) -> None:
        """So many more rows have ended."""
        self._ended += ok + failed
        self._failed += failed
        now = self._clock()
        if self._first is None:  # actors take a while to start; that is not their pace
            self._first = (now, self._ended)
        if now - self._printed < _SECONDS_PER_LINE:
            return
        self._printed = now
        self._console.print(
            f"{self._ended}/{self._total} done, {self._failed} failed{self._pace(*self._first)}",
            highlight=False,
        )

    def _pace(self, began: float, ended_then: int) -> str:
        seconds, rows = self._clock() - began, self._ended - ended_then
        if not (seconds and rows):
            return ""
        left = (self._total - self._ended) * seconds / rows
        return f", {rows / seconds:.1f} photos/s, {left:.0f} s left"
