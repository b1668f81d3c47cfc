"""What a run shows while it works: a bar on a terminal, plain lines when piped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
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
def meter(console: Console, total: int, done: int) -> Iterator[Meter]:
    """Show progress within the block, in the way that suits the console.

    Args:
        console: where to.
        total: rows in all.
        done: rows that an earlier run has done.
    """
    if not console.is_terminal:
        yield _Lines(console, total, done)
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
        task = bar.add_task("", total=total, completed=done, failed=0)
        yield _Bar(bar, task)


class _Bar:
    def __init__(self, bar: Progress, task: int) -> None:
        self._bar, self._task, self._failed = bar, bar.tasks[task].id, 0

    def advance(self, ok: int, failed: int) -> None:
        self._failed += failed
        self._bar.update(self._task, advance=ok + failed, failed=self._failed)


class _Lines:
    def __init__(self, console: Console, total: int, done: int) -> None:
        self._console, self._total, self._done = console, total, done
        self._ended = self._failed = 0
        self._printed = time.monotonic()
        self._first: tuple[float, int] | None = None  # when work began, and what had ended by then

    def advance(self, ok: int, failed: int) -> None:
        self._ended += ok + failed
        self._failed += failed
        now = time.monotonic()
        if self._first is None:
            self._first = (now, self._ended)
        if now - self._printed < _SECONDS_PER_LINE:
            return
        self._printed = now
        rate = (self._ended - self._first[1]) / (now - self._first[0])
        left = self._total - self._done - self._ended
        pace = f", {rate:.1f} photos/s, {left / rate:.0f} s left" if rate else ""
        self._console.print(
            f"{self._done + self._ended}/{self._total} done, {self._failed} failed{pace}",
            highlight=False,
        )
