"""Paths in a storage: manifests, tables and records of runs."""

from __future__ import annotations

import posixpath
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from manifests.errors import OutputError
from manifests.storage import storage_of
from manifests.storage.base import Storage


@dataclass(frozen=True, slots=True)
class Place:
    """A path of a file or folder, which need not exist.

    In S3 every method may raise a StorageError: see :func:`manifests.storage.s3.retries.request`.
    Large files are read as ``place.filesystem.open_input_stream(place.path, compression=None)``.

    Attributes:
        storage: the storage it is in.
        path: absolute, or ``bucket/key``; without a trailing slash.
    """

    storage: Storage
    path: str

    @classmethod
    def of(cls, uri: str) -> Place:
        """Make a place from a local path, ``file://`` or ``s3://`` URI.

        Raises:
            ValueError: the URI has another scheme, or is empty.
        """
        if not uri.strip():
            raise ValueError("the path is empty")
        storage = storage_of(uri)
        return cls(storage, storage.path(uri))

    def __truediv__(self, name: str) -> Place:
        return Place(self.storage, posixpath.join(self.path, name))

    @property
    def filesystem(self) -> fs.FileSystem:
        """The pyarrow file system that :attr:`path` refers to."""
        return self.storage.filesystem

    @property
    def uri(self) -> str:
        """The absolute path, or ``s3://bucket/key``."""
        return self.storage.uri(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> Place:
        """The folder that contains it."""
        return Place(self.storage, posixpath.dirname(self.path))

    def kind(self) -> fs.FileType:
        """Whether it is a file, a folder or not found."""
        return self.filesystem.get_file_info(self.path).type

    def files(self) -> list[Place]:
        """The files of this folder, sorted by name, without hidden and unfinished ones."""
        return self._children(fs.FileType.File)

    def folders(self) -> list[Place]:
        """The subfolders of this folder, sorted by name, without hidden ones."""
        return self._children(fs.FileType.Directory)

    def _children(self, kind: fs.FileType) -> list[Place]:
        selector = fs.FileSelector(self.path, allow_not_found=True)
        children = [
            Place(self.storage, info.path.rstrip("/"))
            for info in self.filesystem.get_file_info(selector)
            if info.type == kind and not info.base_name.startswith((".", "_"))
        ]
        return sorted(children, key=lambda place: place.path)

    def modified_ns(self) -> int | None:
        """When the file was last written, in ns by the storage's clock; None if it is missing."""
        modified: int | None = self.filesystem.get_file_info(self.path).mtime_ns
        return modified

    def read(self) -> bytes:
        """Read the whole file."""
        return self.storage.fetch(self.uri).data

    def delete(self) -> None:
        """Delete the file."""
        self.filesystem.delete_file(self.path)

    def rename(self, name: str) -> None:
        """Rename the file within its folder."""
        self.filesystem.move(self.path, (self.parent / name).path)

    def create(self, data: bytes) -> bool:
        """Store a file if there is none yet: see :meth:`manifests.storage.base.Storage.create`.

        Raises:
            OutputError: ``output.not_writable``.
        """
        try:
            return self.storage.create(self.uri, data)
        except OSError as error:
            raise self._not_writable(error) from error

    def write(self, data: bytes | pa.Buffer, *, flush: bool = True) -> None:
        """Store a file: see :meth:`manifests.storage.base.Storage.write`.

        Raises:
            OutputError: ``output.not_writable``.
        """
        try:
            self.storage.write(self.uri, data, flush=flush)
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> OutputError:
        return OutputError("output.not_writable", f"Cannot store {self.uri}: {error}.")

    def open_output(self) -> AbstractContextManager[IO[bytes]]:
        """Open the file for writing; it is stored when the block ends without an error."""
        return self.storage.open_output(self.uri)

    def write_table(self, table: pa.Table) -> None:
        """Store a table as Parquet, as :meth:`write` does."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write(sink.getvalue())

    def read_table(self, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some of its columns, in one request."""
        return pq.ParquetFile(pa.BufferReader(self.read())).read(columns)
