"""Find ids that are repeated anywhere in a manifest, with 17 bytes of memory for each.

Ids that look alike are the same: letters with accents can be spelled as one character or as several
(Unicode's normal forms NFC and NFD), and some storages, such as a Mac's, take both for one name.
Upper and lower case are different, as they are in object stores.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: What a row's id is in the manifest: the only one, the first of several, or a further one. Of ids
#: that look alike each spelling has a first.
UNIQUE, FIRST, REPEATED = 0, 1, 2

#: Longer ids, which cannot be used anyway, are shortened to a hash first.
_MAX_HASHED_BYTES = 200

#: So many ids at a time keep the working memory, of some 30 bytes for a byte, small.
_IDS_PER_BATCH = 1 << 14


class IdHashes:
    """128 bits for each id, in the order of the manifest.

    Two multilinear hashes of 64 bits, with random factors that are drawn anew for each object (D.
    Lemire and O. Kaser, Strongly Universal String Hashing is Fast, 2014): for any two different
    ids, chosen by whomever, both are equal with a probability of less than 2**-100. So equal hashes
    are taken for equal ids.
    """

    def __init__(self) -> None:
        random = np.random.default_rng()
        self._factors = random.integers(0, 2**64, (2, _MAX_HASHED_BYTES), np.uint64)
        self._secret = secrets.token_bytes()
        self._hashes: tuple[list[npt.NDArray[np.uint64]], ...] = ([], [])
        self._respelled: list[npt.NDArray[np.bool_]] = []

    def add(self, ids: pa.StringArray) -> None:
        """Take in the ids of further rows; none may be null or empty."""
        given = ids
        if not pc.all(pc.string_is_ascii(ids)).as_py():
            ids = pc.utf8_normalize(ids, form="NFC")
        self._respelled.append(pc.not_equal(given, ids).to_numpy(zero_copy_only=False))
        for start in range(0, len(ids), _IDS_PER_BATCH):
            data, starts = self._bytes(ids.slice(start, _IDS_PER_BATCH))
            lengths = np.diff(starts, append=len(data))
            position = np.arange(len(data)) - np.repeat(starts, lengths)
            values = data.astype(np.uint64) + np.uint64(1)  # so that a NUL at the end counts
            for factors, hashes in zip(self._factors, self._hashes, strict=True):
                hashes.append(np.add.reduceat(values * factors[position], starts))

    def _bytes(self, ids: pa.StringArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """All ids in one, and where each begins."""
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
        """Tell of each row whether its id is :data:`UNIQUE`, :data:`FIRST` or :data:`REPEATED`."""
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
    """True at each place where all columns have the same value as at the next."""
    found = np.zeros(len(columns[0]), np.bool_)
    found[:-1] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return found
