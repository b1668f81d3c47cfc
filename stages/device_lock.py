"""The process's device, which computes for one thread at a time."""

from __future__ import annotations

import threading
import time


class DeviceLock:
    """A lock that counts how long threads wait for it; a thread may take it again."""

    def __init__(self) -> None:
        self._lock, self._waits = threading.RLock(), threading.local()

    def __enter__(self) -> None:
        started = time.perf_counter()
        self._lock.acquire()
        self._waits.seconds = self._waited_s + time.perf_counter() - started

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def _waited_s(self) -> float:
        return float(getattr(self._waits, "seconds", 0.0))

    def clock_s(self) -> float:
        """A clock of this thread, in s, that stands still while it waits for the device."""
        return time.perf_counter() - self._waited_s


#: Held while a network computes, so that one thread's photos are prepared, judged and sent while
#: another's are computed, and the device holds one batch.
DEVICE_LOCK = DeviceLock()
