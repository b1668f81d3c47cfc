"""What the processes of a run take, Ray's among them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

_LOOK_EVERY_S = 0.25

#: What a process is, by what its name begins with.
_KINDS = {"ray::": "actors", "raylet": "raylet", "gcs_server": "gcs"}


@dataclass(slots=True)
class Usage:
    """Of processes of one kind.

    Attributes:
        cpu_seconds: by process id, user and system.
        peak_mib: by process id, the most memory it held, shared memory included.
        looks: when they were looked at, in s since the epoch, and what all had taken of CPUs.
    """

    cpu_seconds: dict[int, float] = field(default_factory=dict)
    peak_mib: dict[int, float] = field(default_factory=dict)
    looks: list[tuple[float, float]] = field(default_factory=list)

    @property
    def all_cpu_seconds(self) -> float:
        """Of all of them."""
        return sum(self.cpu_seconds.values())

    @property
    def most_mib(self) -> float:
        """Of the largest of them."""
        return max(self.peak_mib.values(), default=0.0)

    def cpu_between(self, begin: float, end: float) -> float:
        """What all of them took of CPUs between two times, in s, about."""
        times, taken = zip(*self.looks, strict=True)
        return float(np.interp(end, times, taken) - np.interp(begin, times, taken))


@contextmanager
def watched() -> Iterator[dict[str, Usage]]:
    """Look at this process and its descendants, within the block; Linux only.

    Yields:
        Kind -> usage: ``driver`` (this process, from the block's begin on), ``actors`` (all of
        Ray's workers), ``raylet``, ``gcs`` and ``others``.
    """
    found = {kind: Usage() for kind in ("driver", *_KINDS.values(), "others")}
    ended = threading.Event()
    own = psutil.Process()
    before = _cpu_seconds(own)

    def look() -> None:
        found["driver"].cpu_seconds[own.pid] = _cpu_seconds(own) - before
        found["driver"].peak_mib[own.pid] = peak_mib()
        for process in own.children(recursive=True):
            with suppress(psutil.Error, OSError, ValueError):
                usage = found[_kind(process)]
                usage.cpu_seconds[process.pid] = _cpu_seconds(process)
                usage.peak_mib[process.pid] = peak_mib(process.pid)
        for usage in found.values():
            usage.looks.append((time.time(), usage.all_cpu_seconds))

    def go_on_looking() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            look()

    thread = threading.Thread(target=go_on_looking)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        look()


def _kind(process: psutil.Process) -> str:
    # Ray's workers set their title, not the name of their program.
    title = " ".join(process.cmdline()) or process.name()
    names = (title, os.path.basename(title.split(" ")[0]))  # noqa: PTH119 - a title is no path
    matches = (kind for start, kind in _KINDS.items() if any(n.startswith(start) for n in names))
    return next(matches, "others")


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def peak_mib(pid: int | str = "self") -> float:
    """The most memory that a process has held; Linux only.

    ``getrusage`` would begin with what the parent held when it started this process.

    Raises:
        OSError: there is no such process.
        ValueError: it has ended, and nobody took note of it yet.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    kib = status.partition("VmHWM:")[2].split(maxsplit=1)
    if not kib:
        raise ValueError(f"Process {pid} has ended.")
    return int(kib[0]) / 1024
