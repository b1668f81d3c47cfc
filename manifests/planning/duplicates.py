"""Finds duplicate ids in a manifest, with 17 bytes of memory per id, and more per duplicate.

Ids are compared in Unicode's normal form NFC. Accented letters can be encoded as one character or
as several (NFC and NFD), and some file systems, such as a Mac's, treat both as one name. Case
counts, as in object stores.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests.errors import RowError
from manifests.reading.formats import MAX_EXAMPLES, list_some
from manifests.reading.read import Source, read_parts

#: Kinds of ids: unique, the first of several, or a repeated one. Among ids that are equal only
#: after normalization, each encoding has a first one.
UNIQUE, FIRST, REPEATED = 0, 1, 2


@dataclass(frozen=True)
class Ids:
    """The ids of a manifest.

    Attributes:
        kinds: of each row's id.
        shared: numbers of the rows that share their id with others, ascending.
        groups: of each of these, a number that stands for its id.
        labels: of each of these, how an error names it.
    """

    kinds: npt.NDArray[np.uint8]
    shared: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    labels: pa.StringArray = field(default_factory=lambda: pa.array([], pa.string()))

    def errors(self, first: int, count: int) -> pa.StringArray:
        """The errors ``id.duplicate`` of some consecutive rows; null for a unique id, and empty for
        a repeated one, whose row is not planned.
        """
        start, stop = np.searchsorted(self.shared, [first, first + count])
        rows = self.shared[start:stop]
        is_shared = np.zeros(count, np.bool_)
        is_shared[rows - first] = True
        texts = [
            self._error(start + n) if kind == FIRST else ""
            for n, kind in enumerate(self.kinds[rows].tolist())
        ]
        nulls = pa.nulls(count, pa.string())
        return pc.replace_with_mask(nulls, pa.array(is_shared), pa.array(texts, pa.string()))

    def _error(self, position: int) -> str:
        """The error of a row, by its position in :attr:`shared`."""
        order, ends = self._by_group
        group = self.groups[position]
        members = order[ends[group] : ends[group + 1]]
        some = members[: MAX_EXAMPLES + 1].tolist()
        shown = (self.labels[each].as_py() for each in some if each != position)
        others = list_some(shown, len(members) - 1)
        return str(RowError("id.duplicate", f"The id is also that of {others}."))

    @cached_property
    def _by_group(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Positions in :attr:`shared`, sorted by group; and where each group begins and ends."""
        ends = np.cumsum([0, *np.bincount(self.groups)])
        return np.argsort(self.groups, kind="stable"), ends


class IdHashes:
    """Hashes of 128 bits for each id, in the order of the manifest.

    Each consists of two hashes of 64 bits by SipHash (J.-P. Aumasson and D. Bernstein, SipHash: a
    fast short-input PRF, 2012), whose keys are random for each instance. So two different ids, even
    malicious ones, practically never have equal hashes: equal hashes are treated as equal ids.
    """

    def __init__(self) -> None:
        self._keys = (secrets.token_hex(8), secrets.token_hex(8))
        self._hashes: tuple[list[npt.NDArray[np.uint64]], ...] = ([], [])
        self._not_nfc: list[npt.NDArray[np.bool_]] = []

    def add(self, ids: pa.StringArray) -> None:
        """Add the ids of further rows; none may be null or empty."""
        from pandas.util import hash_array  # pandas takes 0.4 s to load

        original = ids
        if not pc.all(pc.string_is_ascii(ids)).as_py():
            ids = pc.utf8_normalize(ids, form="NFC")
        self._not_nfc.append(pc.not_equal(original, ids).to_numpy(zero_copy_only=False))
        names = ids.to_numpy(zero_copy_only=False)
        for key, hashes in zip(self._keys, self._hashes, strict=True):
            hashes.append(hash_array(names, hash_key=key, categorize=False))

    def classify(self) -> Ids:
        """Classify each row's id, and find the rows that share one."""
        import pandas as pd

        first, second = (
            np.concatenate([*hashes, np.empty(0, np.uint64)]) for hashes in self._hashes
        )
        not_nfc = np.concatenate([*self._not_nfc, np.empty(0, np.bool_)])
        kinds = np.full(len(first), UNIQUE, np.uint8)
        order = np.argsort(first)
        is_equal = np.zeros(len(first) + 1, np.bool_)  # to the next in order
        is_equal[1:-1] = np.diff(first[order]) == 0
        rows = np.sort(order[is_equal[1:] | is_equal[:-1]])  # few, in most manifests
        del order
        ids = pd.DataFrame({"first": first[rows], "second": second[rows], "as": not_nfc[rows]})
        ids["row"] = rows
        shared = ids[ids.duplicated(["first", "second"], keep=False)]
        kinds[shared["row"]] = FIRST
        kinds[shared["row"][shared.duplicated(["first", "second", "as"])]] = REPEATED
        groups = shared.groupby(["first", "second"], sort=False).ngroup()
        return Ids(kinds, shared["row"].to_numpy(), np.asarray(groups, np.int64))


def with_labels(ids: Ids, files: Sequence[Source]) -> Ids:
    """Name the rows that share their id: by their lines, or the pictures' paths."""
    labels: list[str] = []
    row = 0
    for file in files:
        name = f"{file.path.name}, " if len(files) > 1 else ""
        for part in read_parts(file, marks=False, need_marks=False):
            count = part.table.num_rows
            start, stop = np.searchsorted(ids.shared, [row, row + count])
            lines = part.lines((ids.shared[start:stop] - row).tolist())
            unit = "" if part.unit == "photo" else f"{name}{part.unit} "
            labels += [f"{unit}{line}" for line in lines]
            row += count
    return replace(ids, labels=pa.array(labels, pa.string()))
