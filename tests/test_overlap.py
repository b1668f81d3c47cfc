"""Storage is read ahead of the computing and written behind it, within bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from jobs.overlap import overlapped
from manifests.errors import StorageError
from manifests.schema import LineageRow
from stages.photo import Photo

_MIB = 1 << 20


def photos(count: int) -> Iterator[Photo]:
    for number in range(count):
        yield Photo(LineageRow(id=str(number)))


def test_photos_are_worked_on_beside_the_caller_and_come_in_order() -> None:
    together = threading.Barrier(4, timeout=30)  # broken unless four are at work at once

    def work(photo: Photo) -> None:
        if int(photo.lineage.id) < 4:
            together.wait()

    found = overlapped(photos(20), work, threads=4, most_bytes=_MIB)
    assert [photo.lineage.id for photo in found] == [str(n) for n in range(20)]


def test_no_more_is_read_ahead_than_there_is_room_for() -> None:
    begun: list[str] = []

    def work(photo: Photo) -> None:
        photo.original = bytes(_MIB)
        begun.append(photo.lineage.id)

    made = overlapped(photos(20), work, threads=3, most_bytes=100 * _MIB)
    next(made)
    assert len(begun) <= 3
    made.close()
    begun.clear()
    for taken, photo in enumerate(overlapped(photos(20), work, threads=8, most_bytes=2 * _MIB)):
        assert photo.file_bytes == _MIB
        # Those that were begun before the size of the first was known, and then one at a time.
        assert len(begun) <= max(8, taken + 1 + 8)
    assert len(begun) == 20


def test_an_error_that_is_no_rows_reaches_the_caller_in_its_turn() -> None:
    def work(photo: Photo) -> None:
        if photo.lineage.id == "2":
            raise StorageError("storage.unreachable", "S3 is gone.")

    made = overlapped(photos(5), work, threads=4, most_bytes=_MIB)
    assert [next(made).lineage.id, next(made).lineage.id] == ["0", "1"]
    with pytest.raises(StorageError):
        next(made)
