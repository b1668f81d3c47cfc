"""What a storage must be able to do, and how the URIs are split that name its objects."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs


@dataclass(frozen=True, slots=True)
class Content:
    """What was read.

    Attributes:
        data: the whole file or object.
        version: changes when it is stored again: see the lineage's ``image_version``.
    """

    data: bytes
    version: str


class Storage(Protocol):
    """Whole objects by URI, and a file system of pyarrow's to list, rename, delete and read parts.

    Methods raise an ``OSError`` where the object or its folder is to blame, by the subclasses
    ``FileNotFoundError``, ``PermissionError`` and ``ArchivedError`` if it is that; a StorageError
    where the storage is. What is written becomes visible whole or not at all, and outlives a power
    failure.
    """

    @property
    def filesystem(self) -> fs.FileSystem:
        """The same storage for pyarrow."""
        ...

    def path(self, uri: str) -> str:
        """The path on :attr:`filesystem` of a URI, without a trailing slash."""
        ...

    def uri(self, path: str) -> str:
        """The URI of a path on :attr:`filesystem`."""
        ...

    def fetch(self, uri: str) -> Content:
        """The whole object, and its version."""
        ...

    def versions(self, uris: Collection[str]) -> dict[str, str]:
        """Versions of many objects, without those that are missing; in S3 perhaps without ids."""
        ...

    def write(self, uri: str, data: bytes | pa.Buffer, *, flush: bool = True) -> None:
        """Store the object; without ``flush``, a power failure may lose it where disks cache."""
        ...

    def create(self, uri: str, data: bytes) -> bool:
        """Store an object if there is none yet: of several that try, with different data, one does.

        Returns:
            Whether the object is the caller's now.
        """
        ...

    def open_output(self, uri: str) -> AbstractContextManager[IO[bytes]]:
        """Write the object in pieces: it is stored when the block ends without an error."""
        ...

    def upload(self, path: Path, uri: str) -> None:
        """Store a copy of a large local file."""
        ...


def scheme_of(uri: str) -> str:
    """``s3`` of ``s3://…``, in lower case; empty for a path."""
    head, separator, _ = uri.partition("://")
    return head.lower() if separator else ""


def local_path(uri: str) -> Path:
    """The path of a local path or ``file://`` URI."""
    return Path(unquote(urlsplit(uri).path) if scheme_of(uri) == "file" else uri)
