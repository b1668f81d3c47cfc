"""Access to files in local folders and in S3.

::

    base        the interface of a storage, and parsing of URIs
    local, s3/  the storages
    place       a path in a storage: manifests, tables, records of runs
    row_files   the files of a row: reads photos and masks, writes results
    traffic     counts the bytes read and written

To add a storage, write a class with the methods of :class:`manifests.storage.base.Storage`, and
add its scheme here. There is none for HTTP, so that a manifest cannot trigger requests (SSRF).
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

from manifests.storage.base import Storage, scheme_of
from manifests.storage.local import LocalStorage

#: The schemes of inputs, as users name them; ``file`` includes plain paths.
Scheme = Literal["file", "s3"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


def storage_of(uri: str) -> Storage:
    """The storage of a local path, ``file://`` or ``s3://`` URI; one instance per process.

    Raises:
        ValueError: the URI has another scheme.
    """
    match scheme_of(uri):
        case "" | "file":
            return _local()
        case "s3":
            return _s3()
    raise ValueError(f"{uri} is neither a local path nor file:// nor s3://")


_local = cache(LocalStorage)


@cache
def _s3() -> Storage:
    from manifests.storage.s3.storage import S3Storage

    return S3Storage()
