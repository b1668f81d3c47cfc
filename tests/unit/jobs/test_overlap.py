"""Storage is read ahead of the computing and written behind it, within bounds."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.pipeline.io_threads import run_ahead
from manifests.errors import StorageError
from manifests.schema import LineageRow
from stages.device_lock import DEVICE_LOCK
from stages.models.devices import BatchLimit, run_in_batches
from stages.photo import Photo
from stages.steps.base import run_steps

_MIB = 1 << 20


def photos(count: int) -> Iterator[Photo]:
    for number in range(count):
        yield Photo(LineageRow(id=str(number)))


def test_photos_are_worked_on_beside_the_caller_and_come_in_order() -> None:
    together = threading.Barrier(4, timeout=30)  # broken unless four are at work at once

    def work(photo: Photo) -> None:
        if int(photo.lineage.id) < 4:
            together.wait()

    found = run_ahead(photos(20), work, threads=4, max_bytes=_MIB)
    assert [photo.lineage.id for photo in found] == [str(n) for n in range(20)]


def test_no_more_photos_are_read_ahead_than_threads() -> None:
    begun: list[str] = []
    made = run_ahead(
        photos(20), lambda photo: begun.append(photo.lineage.id), threads=3, max_bytes=_MIB
    )
    next(made)
    assert len(begun) <= 3
    list(made)
    assert len(begun) == 20


@pytest.mark.parametrize("taken", [1, 20])
def test_no_thread_outlives_the_block_whether_it_was_taken_whole_or_given_up(taken: int) -> None:
    """An actor that has nothing to do has no threads, which could delay the end of its process."""
    before = set(threading.enumerate())
    made = run_ahead(photos(20), lambda _: None, threads=3, max_bytes=_MIB)
    for _ in range(taken):
        next(made)
    assert set(threading.enumerate()) > before
    next(made, None) if taken == 20 else made.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) == before


def test_no_more_bytes_are_read_ahead_than_there_is_room_for() -> None:
    done: list[str] = []

    def one_after_the_other() -> Iterator[Photo]:
        for number, photo in enumerate(photos(20)):
            while len(done) < number:
                time.sleep(0.001)
            yield photo

    def work(photo: Photo) -> None:
        photo.original = bytes(_MIB)
        done.append(photo.lineage.id)

    made = run_ahead(one_after_the_other(), work, threads=8, max_bytes=2 * _MIB)
    for taken, _ in enumerate(made):
        assert len(done) <= taken + 2
    assert len(done) == 20


def test_an_error_that_is_no_rows_reaches_the_caller_in_its_turn() -> None:
    def work(photo: Photo) -> None:
        if photo.lineage.id == "2":
            raise StorageError("storage.unreachable", "S3 is gone.")

    made = run_ahead(photos(5), work, threads=4, max_bytes=_MIB)
    assert [next(made).lineage.id, next(made).lineage.id] == ["0", "1"]
    with pytest.raises(StorageError):
        next(made)


_TWO_THREADS = """
import sys, threading, time
from jobs.pipeline.limits import time_limit

def gets_on() -> None:
    while True:
        with time_limit(60):
            time.sleep(0.01)

threading.Thread(target=gets_on, daemon=True).start()
with time_limit(0.5):
    sys.stdout.write("begun")
    sys.stdout.flush()
    while True:
        pass
"""


def test_a_thread_that_hangs_ends_its_process_though_another_gets_on() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _TWO_THREADS], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "begun")
    assert ended.stderr.startswith("Timeout (0:00:00"), "its stacks are in the log"


def test_two_blocks_share_a_gpu_and_are_prepared_and_judged_beside_it() -> None:
    """One's photos are judged while the other's are computed; never are both computed at once."""
    computing, together = threading.Lock(), threading.Barrier(2, timeout=30)

    def compute(batch: Sequence[int]) -> Sequence[int]:
        assert computing.acquire(blocking=False), "the device holds one batch"
        if batch[0]:
            together.wait()  # broken unless the other one is judged meanwhile
        computing.release()
        return batch

    def work(number: int) -> None:
        run_in_batches(compute, [number], BatchLimit(1))
        if not number:
            together.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [0, 1]))


def test_a_step_takes_no_longer_because_it_waited_for_the_device() -> None:
    """Else estimates from a pilot would count the GPU's time twice."""
    begun, held_s = threading.Event(), 0.3

    def hold(_: Photo) -> None:
        with DEVICE_LOCK:
            begun.set()
            time.sleep(held_s)

    def wait(_: Photo) -> None:
        begun.wait()
        with DEVICE_LOCK:
            pass

    holding, waiting = photos(2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run_steps, [holding], [("refine", hold)])
        pool.submit(run_steps, [waiting], [("refine", wait)]).result()
        first.result()
    assert waiting.lineage.seconds["refine"] < held_s <= holding.lineage.seconds["refine"]
