"""Counts the bytes that this process reads and writes, and its retries, for metrics."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(slots=True)
class Traffic:
    """The totals of a process.

    Attributes:
        read_bytes: of photos and masks.
        written_bytes: of results.
        retries: requests to S3 that were retried, excluding boto3's own retries.
    """

    read_bytes: int = 0
    written_bytes: int = 0
    retries: int = 0


_total = Traffic()
_lock = threading.Lock()


def count(*, read_bytes: int = 0, written_bytes: int = 0, retries: int = 0) -> None:
    """Add to the totals; thread-safe."""
    with _lock:
        _total.read_bytes += read_bytes
        _total.written_bytes += written_bytes
        _total.retries += retries


def total() -> Traffic:
    """The totals since the process started."""
    with _lock:
        return replace(_total)
