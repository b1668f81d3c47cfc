"""What this process has read, written and asked for again, for whoever watches."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(slots=True)
class Traffic:
    """Totals of a process.

    Attributes:
        read_bytes: of photos and masks.
        written_bytes: of results.
        retries: requests to S3 that were made again, boto3's own not included.
    """

    read_bytes: int = 0
    written_bytes: int = 0
    retries: int = 0


_total = Traffic()
_lock = threading.Lock()


def count(*, read_bytes: int = 0, written_bytes: int = 0, retries: int = 0) -> None:
    """Add to the totals; from any thread."""
    with _lock:
        _total.read_bytes += read_bytes
        _total.written_bytes += written_bytes
        _total.retries += retries


def total() -> Traffic:
    """The totals since the process began."""
    with _lock:
        return replace(_total)
