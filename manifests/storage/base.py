"""The interface of a storage, and parsing of URIs."""

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
    """The content of a file or object.

    Attributes:
        data: the whole file or object.
        version: changes when it is stored again; see the lineage's ``image_version``.
    """

    data: bytes
    version: str


class Storage(Protocol):
    """Reads and writes whole objects by URI; its pyarrow file system lists, renames and deletes.

    Methods raise an ``OSError`` if the object or its folder is the cause, where possible the
    subclass ``FileNotFoundError``, ``PermissionError`` or ``ArchivedError``, and a StorageError if
    the storage is. Writes are atomic and survive a power failure.
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
        """Versions of many objects; missing ones are left out, and S3 may omit version ids."""
        ...

    def write(self, uri: str, data: bytes | pa.Buffer, *, flush: bool = True) -> None:
        """Store the object; without ``flush``, a power failure may lose it."""
        ...

    def create(self, uri: str, data: bytes) -> bool:
        """Store an object if there is none yet. Of callers with different data, only one succeeds.

        Returns:
            Whether the stored object is the caller's.
        """
        ...

    def open_output(self, uri: str) -> AbstractContextManager[IO[bytes]]:
        """Open the object for writing; it is stored when the block ends without an error."""
        ...

    def upload(self, path: Path, uri: str) -> None:
        """Store a copy of a large local file."""
        ...


def scheme_of(uri: str) -> str:
    """The scheme of a URI in lower case, such as ``s3``; empty for a path."""
    head, separator, _ = uri.partition("://")
    return head.lower() if separator else ""


def local_path(uri: str) -> Path:
    """The path of a local path or ``file://`` URI."""
    return Path(unquote(urlsplit(uri).path) if scheme_of(uri) == "file" else uri)
