"""Finds duplicate ids in a manifest, with 17 bytes of memory per id.

Ids are compared in Unicode's normal form NFC. Accented letters can be encoded as one character or
as several (NFC and NFD), and some file systems, such as a Mac's, treat both as one name. Case
counts, as in object stores.
"""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: Kinds of ids: unique, the first of several, or a repeated one. Among ids that are equal only
#: after normalization, each encoding has a first one.
UNIQUE, FIRST, REPEATED = 0, 1, 2


class IdHashes:
    """Hashes of 128 bits for each id, in the order of the manifest.

    Each consists of two hashes of 64 bits by SipHash (J.-P. Aumasson and D. Bernstein, SipHash: a
    fast short-input PRF, 2012), whose keys are random for each instance. So two different ids, even
    malicious ones, practically never have equal hashes: equal hashes are treated as equal ids.
    """

    def __init__(self) -> None:
        self._keys = (secrets.token_hex(8), secrets.token_hex(8))
        self._hashes: tuple[list[npt.NDArray[np.uint64]], ...] = ([], [])
        self._respelled: list[npt.NDArray[np.bool_]] = []

    def add(self, ids: pa.StringArray) -> None:
        """Add the ids of further rows; none may be null or empty."""
        from pandas.util import hash_array  # pandas takes 0.4 s to load

        original = ids
        if not pc.all(pc.string_is_ascii(ids)).as_py():
            ids = pc.utf8_normalize(ids, form="NFC")
        self._respelled.append(pc.not_equal(original, ids).to_numpy(zero_copy_only=False))
        names = ids.to_numpy(zero_copy_only=False)
        for key, hashes in zip(self._keys, self._hashes, strict=True):
            hashes.append(hash_array(names, hash_key=key, categorize=False))

    def find(self) -> npt.NDArray[np.uint8]:
        """Classify each row's id as :data:`UNIQUE`, :data:`FIRST` or :data:`REPEATED`."""
        import pandas as pd

        first, second = (
            np.concatenate([*hashes, np.empty(0, np.uint64)]) for hashes in self._hashes
        )
        respelled = np.concatenate([*self._respelled, np.empty(0, np.bool_)])
        kinds = np.full(len(first), UNIQUE, np.uint8)
        order = np.argsort(first)
        is_equal = np.zeros(len(first) + 1, np.bool_)  # to the next in order
        is_equal[1:-1] = np.diff(first[order]) == 0
        rows = np.sort(order[is_equal[1:] | is_equal[:-1]])  # few, in most manifests
        del order
        ids = pd.DataFrame({"first": first[rows], "second": second[rows], "as": respelled[rows]})
        kinds[rows[ids.duplicated(["first", "second"], keep=False)]] = FIRST
        kinds[rows[ids.duplicated()]] = REPEATED
        return kinds
