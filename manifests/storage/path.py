"""Files and folders of a storage, by their paths."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from manifests.errors import OutputError
from manifests.storage import scheme_of


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a file or object.

    Attributes:
        data: the whole file or object.
        version: changes when it is stored again; see the lineage's ``image_version``.
    """

    data: bytes
    version: str


@dataclass(frozen=True, slots=True)
class StoragePath(ABC):
    """The path of a file or folder in a storage, which need not exist.

    Reading raises an ``OSError`` if the file or its folder is the cause, where possible the
    subclass ``FileNotFoundError``, ``PermissionError`` or ``ArchivedError``. Writing raises
    OutputError ``output.not_writable``; it is atomic and survives a power failure. In S3 every
    method may raise a StorageError: see :func:`manifests.storage.s3.retries.request`.

    Attributes:
        path: absolute, or ``bucket/key``; without a trailing slash.
    """

    path: str

    @classmethod
    def of(cls, uri: str) -> StoragePath:
        """Make one from a local path, ``file://`` or ``s3://`` URI.

        Raises:
            ValueError: the URI has another scheme, or is empty.
        """
        if not uri.strip():
            raise ValueError("the path is empty")
        match scheme_of(uri):
            case "" | "file":
                from manifests.storage.local import LocalPath

                return LocalPath.of(uri)
            case "s3":
                from manifests.storage.s3.objects import S3Path

                return S3Path.of(uri)
        raise ValueError(f"{uri} is neither a local path nor file:// nor s3://")

    def __truediv__(self, name: str) -> Self:
        return type(self)(posixpath.join(self.path, name))

    @property
    @abstractmethod
    def uri(self) -> str:
        """The absolute path, or ``s3://bucket/key``."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> Self:
        """The folder that contains it."""
        return type(self)(posixpath.dirname(self.path))

    @abstractmethod
    def info(self) -> fs.FileInfo:
        """Type (file, folder or not found), size and time of the last change."""

    def files(self) -> list[Self]:
        """The files of this folder, sorted by name, without hidden and unfinished ones."""
        return self.children()[0]

    def folders(self) -> list[Self]:
        """The subfolders of this folder, sorted by name, without hidden ones."""
        return self.children()[1]

    def children(self) -> tuple[list[Self], list[Self]]:
        """The files and the subfolders of this folder, from one listing."""
        children: tuple[list[Self], list[Self]] = ([], [])
        for name, is_folder in sorted(self._list()):
            if not name.startswith((".", "_")):
                children[is_folder].append(self / name)
        return children

    @abstractmethod
    def _list(self) -> Iterable[tuple[str, bool]]:
        """The names of what this folder contains, and whether it is a folder; nothing if it does
        not exist.
        """

    @abstractmethod
    def walk(self) -> Iterator[str]:
        """Yield the paths, below this folder, of all files in it and its subfolders, sorted.

        Hidden files and folders are left out. Names that are not UTF-8 contain surrogates.

        Raises:
            FileNotFoundError: there is no such folder; in S3 it is empty instead.
        """

    @abstractmethod
    def fetch(self) -> Content:
        """Read the whole file, and its version."""

    def read(self) -> bytes:
        """Read the whole file."""
        return self.fetch().data

    @abstractmethod
    def open_input(self) -> pa.NativeFile:
        """Open the file for reading in parts, in any order."""

    @abstractmethod
    def delete(self) -> None:
        """Delete the file."""

    @abstractmethod
    def rename(self, name: str) -> None:
        """Rename the file within its folder."""

    @abstractmethod
    def write(self, data: bytes | pa.Buffer, *, flush: bool = True) -> None:
        """Store the file; without ``flush``, a power failure may lose it."""

    def publish(self, data: bytes, run_id: str) -> None:  # noqa: ARG002 - see S3
        """Store a run's result.

        Raises:
            OutputError: ``output.in_use``: a later run stored one; only S3 can tell.
        """
        self.write(data)

    @abstractmethod
    def create(self, data: bytes) -> bool:
        """Store a file if there is none yet. Of callers with different data, only one succeeds.

        Returns:
            Whether the stored file is the caller's.
        """

    @abstractmethod
    def upload(self, source: Path) -> None:
        """Store a copy of a large local file."""

    def write_table(self, table: pa.Table) -> None:
        """Store a table as Parquet, as :meth:`write` does."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write(sink.getvalue())

    def read_table(self, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some of its columns, in one request."""
        return pq.ParquetFile(pa.BufferReader(self.read())).read(columns)


@contextmanager
def storing(uri: str) -> Iterator[None]:
    """Translate errors of writing a file.

    Raises:
        OutputError: ``output.not_writable``.
    """
    try:
        yield
    except OSError as error:
        raise OutputError("output.not_writable", f"Cannot store {uri}: {error}.") from error
