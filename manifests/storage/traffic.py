"""Counts the bytes that this process reads and writes, and its retries, for metrics."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Literal

#: ``read_bytes`` of photos and masks, ``written_bytes`` of results, and ``retries`` of requests to
#: S3, excluding boto3's own.
Kind = Literal["read_bytes", "written_bytes", "retries"]

_total: Counter[Kind] = Counter()
_lock = threading.Lock()


def count(kind: Kind, amount: int = 1) -> None:
    """Add to the totals; thread-safe."""
    with _lock:
        _total[kind] += amount


def total() -> Counter[Kind]:
    """The totals since the process started."""
    with _lock:
        return _total.copy()
