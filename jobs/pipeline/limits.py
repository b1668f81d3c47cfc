"""Time and memory limits of an actor's process; exceeding the time limit ends the process.

Its rows in flight are done later, each in its own process; see ``passes.py``.
"""

from __future__ import annotations

import faulthandler
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import psutil

_STDERR = 2  # a file descriptor: inside Ray's workers it leads to their log


_lock = Lock()
_deadlines: list[float] = []


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End the process, with a traceback in its log, if the block takes longer, in any thread.

    A C thread watches it without Python's GIL, so that endless loops in libraries end, too.
    """
    deadline = time.monotonic() + seconds
    with _lock:
        _deadlines.append(deadline)
        _watch()
    try:
        yield
    finally:
        with _lock:
            _deadlines.remove(deadline)
            _watch()


def _watch() -> None:
    """Watch for the next deadline: there is one timer for all threads."""
    if not _deadlines:
        faulthandler.cancel_dump_traceback_later()
        return
    left = max(min(_deadlines) - time.monotonic(), 1e-3)
    faulthandler.dump_traceback_later(left, exit=True, file=_STDERR)


def limit_memory(mib: int) -> None:
    """Limit the memory that the process can allocate from now on; further allocations fail.

    Only private memory counts, which holds the pixels, and not shared memory such as Ray's object
    store. Only Linux supports this.

    Args:
        mib: max additional memory, MiB.
    """
    if not sys.platform.startswith("linux"):
        return
    limit = psutil.Process().memory_info().data + (mib << 20)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
