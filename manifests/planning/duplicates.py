"""Finds duplicate ids in a manifest, with 17 bytes of memory per id.

Ids are compared in Unicode's normal form NFC. Accented letters can be encoded as one character or
as several (NFC and NFD), and some file systems, such as a Mac's, treat both as one name. Case
counts, as in object stores.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: Kinds of ids: unique, the first of several, or a repeated one. Among ids that are equal only
#: after normalization, each encoding has a first one.
UNIQUE, FIRST, REPEATED = 0, 1, 2

#: Longer ids, which are invalid anyway, are replaced by a digest first.
_MAX_HASHED_BYTES = 200

#: Number of ids hashed at a time; working memory is some 30 times their size.
_IDS_PER_BATCH = 1 << 14


class IdHashes:
    """Hashes of 128 bits for each id, in the order of the manifest.

    Each consists of two multilinear hashes of 64 bits, whose factors are random for each instance
    (D. Lemire and O. Kaser, Strongly Universal String Hashing is Fast, 2014). For any two different
    ids, even malicious ones, the probability that both are equal is less than 2**-100. So equal
    hashes are treated as equal ids.
    """

    def __init__(self) -> None:
        random = np.random.default_rng()
        self._factors = random.integers(0, 2**64, (2, _MAX_HASHED_BYTES), np.uint64)
        self._secret = secrets.token_bytes()
        self._hashes: tuple[list[npt.NDArray[np.uint64]], ...] = ([], [])
        self._respelled: list[npt.NDArray[np.bool_]] = []

    def add(self, ids: pa.StringArray) -> None:
        """Add the ids of further rows; none may be null or empty."""
        original = ids
        if not pc.all(pc.string_is_ascii(ids)).as_py():
            ids = pc.utf8_normalize(ids, form="NFC")
        self._respelled.append(pc.not_equal(original, ids).to_numpy(zero_copy_only=False))
        for start in range(0, len(ids), _IDS_PER_BATCH):
            data, starts = self._bytes(ids.slice(start, _IDS_PER_BATCH))
            lengths = np.diff(starts, append=len(data))
            position = np.arange(len(data)) - np.repeat(starts, lengths)
            values = data.astype(np.uint64) + np.uint64(1)  # so that a trailing NUL counts
            for factors, hashes in zip(self._factors, self._hashes, strict=True):
                hashes.append(np.add.reduceat(values * factors[position], starts))

    def _bytes(self, ids: pa.StringArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """The bytes of all ids, concatenated, and the start of each."""
        too_long = pc.greater(pc.binary_length(ids), _MAX_HASHED_BYTES)
        if pc.any(too_long).as_py():
            short = [self._digest(each) for each in ids.filter(too_long).to_pylist()]
            ids = pc.replace_with_mask(ids, too_long, pa.array(short, pa.string()))
        _, offsets, data = ids.buffers()
        starts = np.frombuffer(offsets, np.int32)[ids.offset : ids.offset + len(ids) + 1]
        return np.frombuffer(data, np.uint8)[starts[0] : starts[-1]], starts[:-1] - starts[0]

    def _digest(self, name: str) -> str:
        return hashlib.blake2b(name.encode(), key=self._secret).hexdigest()

    def find(self) -> npt.NDArray[np.uint8]:
        """Classify each row's id as :data:`UNIQUE`, :data:`FIRST` or :data:`REPEATED`."""
        first, second = (
            np.concatenate([*hashes, np.empty(0, np.uint64)]) for hashes in self._hashes
        )
        kinds = np.full(len(first), UNIQUE, np.uint8)
        order = np.argsort(first)
        before_equal = _equals_next(first[order])
        rows = order[before_equal | np.roll(before_equal, 1)]  # few, in most manifests
        del order
        respelled = np.concatenate([*self._respelled, np.empty(0, np.bool_)])[rows]
        by_id = np.lexsort((rows, respelled, second[rows], first[rows]))
        rows, respelled = rows[by_id], respelled[by_id]
        before_equal = _equals_next(first[rows], second[rows])
        after_equal = np.roll(before_equal, 1)
        same_spelling = np.roll(_equals_next(first[rows], second[rows], respelled), 1)
        kinds[rows[before_equal | after_equal]] = FIRST
        kinds[rows[same_spelling]] = REPEATED
        return kinds


def _equals_next(*columns: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True at each index where all columns have the same value as at the next index."""
    equal = np.zeros(len(columns[0]), np.bool_)
    equal[:-1] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return equal
