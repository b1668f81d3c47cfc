"""Limits on an actor's process: what no exception can stop ends the process, not the run.

The rows it had in flight are taken up later, each in a process of its own; see ``passes.py``.
"""

from __future__ import annotations

import faulthandler
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STDERR = 2  # a file descriptor: inside Ray's workers it leads to their log


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End the process, with a traceback in its log, if the block takes longer.

    It is watched by a thread in C, which needs no lock of Python's: endless loops in libraries are
    ended, too.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def limit_memory(mib: int) -> None:
    """Let the process take so much more memory than it has now; then allocations fail.

    Of private memory, in which pixels are; shared memory, as Ray's object store, does not count.
    Nothing is limited where the kernel cannot.
    """
    if not sys.platform.startswith("linux"):
        return
    limit = _private_bytes() + (mib << 20)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _private_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("VmData:"))
    return int(kib) << 10
