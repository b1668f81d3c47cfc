"""Reads from and writes to storage in threads, while the caller computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from stages.photo import Photo


def run_ahead(
    photos: Iterable[Photo], work: Callable[[Photo], None], *, threads: int, max_bytes: int
) -> Iterator[Photo]:
    """Process photos in threads, ahead of the caller that consumes them.

    Args:
        photos: consumed as there is room.
        work: changes a photo in place; must be thread-safe.
        threads: max number of photos in progress or waiting.
        max_bytes: total size of waiting files at which no further photo is started.

    Yields:
        The photos, in the given order.
    """
    waiting: deque[Future[Photo]] = deque()
    source = iter(photos)

    def do(photo: Photo) -> Photo:
        work(photo)
        return photo

    def has_room() -> bool:
        waiting_bytes = sum(each.result().file_bytes for each in waiting if _has_succeeded(each))
        return len(waiting) < threads and waiting_bytes < max_bytes

    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                while has_room() and (photo := next(source, None)) is not None:
                    waiting.append(pool.submit(do, photo))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _has_succeeded(future: Future[Photo]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
