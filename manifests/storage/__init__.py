"""Where files lie: local folders and S3.

::

    base        what a storage must be able to do, and how URIs are split
    local, s3/  the storages
    place       a path in a storage: manifests, tables, records of runs
    row_files   the files of a row: photos and masks are read, results written
    traffic     how many bytes that took

To add a storage, write a class with the methods of :class:`manifests.storage.base.Storage`, and
enter its scheme here. There is none for HTTP: a manifest must not make this program request
addresses of a stranger's choice.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

from manifests.storage.base import Storage, scheme_of
from manifests.storage.local import LocalStorage

#: Where inputs may lie, as users name it; ``file`` stands for paths, too.
Scheme = Literal["file", "s3"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


def storage_of(uri: str) -> Storage:
    """The storage of a local path, ``file://`` or ``s3://`` URI, one for each process.

    Raises:
        ValueError: another scheme.
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
