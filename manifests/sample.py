"""Some rows of a manifest, chosen at random, and how many it has; read in parts, as for a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from manifests.duplicates import UNIQUE
from manifests.errors import ManifestError
from manifests.formats import format_of
from manifests.read import ManifestFile, read_parts
from manifests.rows import check_rows


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows as a shard has them, but that ids may be there twice.

    Attributes:
        rows: some, as many as asked for if there are so many.
        count: of all rows.
    """

    rows: Sequence[dict[str, Any]]
    count: int


def count_rows(files: Sequence[ManifestFile]) -> int:
    """How many rows there are; Parquet tells it without being read.

    Raises:
        ManifestError: as :func:`manifests.read.read_parts`, and ``manifest.empty``.
    """
    return _refuse_none(sum(map(_count, files)), files)


def _count(place: ManifestFile) -> int:
    if format_of(place) != ".parquet":
        return sum(part.table.num_rows for part in read_parts(place, marks=False))
    try:
        with place.filesystem.open_input_file(place.path) as file:
            return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError("manifest.unreadable", f"{place.uri}: {error}.") from None


def sample_rows(files: Sequence[ManifestFile], size: int, seed: int = 0) -> Sample:
    """Choose rows, each as likely as any other: each draws a number, and the smallest win.

    Args:
        files: of the manifest.
        size: how many are chosen.
        seed: of the choice, which stays the same for the same files.

    Raises:
        ManifestError: as :func:`manifests.read.read_parts`, and ``manifest.empty``.
    """
    lottery = _Lottery(size, seed)
    for place in files:
        for part in read_parts(place, keep=lottery.draw):
            kinds = np.full(part.table.num_rows, UNIQUE, np.uint8)
            rows = check_rows(part.table, place.base, pa.schema([]), kinds)
            lottery.add(rows.to_pylist())
    return Sample([row for _, row in lottery.winners], _refuse_none(lottery.count, files))


class _Lottery:
    """Draws among rows that come part by part; of those that cannot win, none are kept."""

    def __init__(self, size: int, seed: int) -> None:
        self.count = 0
        self.winners: list[tuple[float, dict[str, Any]]] = []
        self._size, self._random = size, np.random.default_rng(seed)
        self._drawn: npt.NDArray[np.float64] = np.empty(0)

    def draw(self, rows: int) -> npt.NDArray[np.int64]:
        """Which of further rows may win, ascending."""
        self.count += rows
        drawn = self._random.random(rows)
        last = self.winners[-1][0] if len(self.winners) >= self._size else 1.0
        best = np.argsort(drawn)[: self._size]
        best = np.sort(best[drawn[best] < last])
        self._drawn = drawn[best]
        return best

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take in the rows that were drawn last."""
        self.winners += zip(self._drawn.tolist(), rows, strict=True)
        self.winners.sort(key=lambda each: each[0])
        del self.winners[self._size :]


def _refuse_none(count: int, files: Sequence[ManifestFile]) -> int:
    if not count:
        names = ", ".join(place.uri for place in files)
        raise ManifestError("manifest.empty", f"{names}: there are no rows.")
    return count
