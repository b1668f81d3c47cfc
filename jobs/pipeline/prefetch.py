"""Waiting beside computing: storage is read ahead and written behind in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from stages.photo import Photo


def prefetch(
    photos: Iterable[Photo], work: Callable[[Photo], None], *, threads: int, max_bytes: int
) -> Iterator[Photo]:
    """Work on photos in threads, while the caller is busy with those that were done.

    Args:
        photos: taken as room allows.
        work: in place, and thread-safe.
        threads: how many photos are worked on, or wait to be taken, at most.
        max_bytes: with files of this size in waiting, no further photo is begun.

    Yields:
        The photos, in their order.
    """
    waiting: deque[Future[Photo]] = deque()
    source = iter(photos)

    def do(photo: Photo) -> Photo:
        work(photo)
        return photo

    def has_room() -> bool:
        held = sum(each.result().file_bytes for each in waiting if _is_fine(each))
        return len(waiting) < threads and held < max_bytes

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


def _is_fine(future: Future[Photo]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
