"""Folders of tables, on disk or in S3, and how a local file is stored so that it stays whole."""

from __future__ import annotations

import errno
import os
import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from manifests.errors import DestinationError


@dataclass(frozen=True, slots=True)
class Place:
    """A path on one of pyarrow's file systems.

    In S3 every method may raise a StorageError: see :func:`.s3.retries.request`. Large
    files are read as ``place.filesystem.open_input_stream(place.path, compression=None)``.

    Attributes:
        filesystem: pyarrow's for disks, :class:`manifests.storage.s3.filesystem.S3Handler` for S3.
        path: absolute, or ``bucket/key``; without a trailing slash.
    """

    filesystem: fs.FileSystem
    path: str

    @classmethod
    def of(cls, uri: str) -> Place:
        """Find the place of a local path, ``file://`` or ``s3://`` URI.

        Raises:
            ValueError: another scheme, or nothing.
        """
        if not uri.strip():
            raise ValueError("the path is empty")
        scheme, separator, rest = uri.partition("://")
        scheme = scheme.lower()
        if not separator:
            return cls(fs.LocalFileSystem(), os.path.normpath(Path(uri).absolute()))
        if scheme == "file":
            return cls(fs.LocalFileSystem(), unquote(urlsplit(uri).path).rstrip("/"))
        if scheme == "s3":
            return cls(_s3(), rest.rstrip("/"))
        raise ValueError(f"{uri} is neither a local path nor file:// nor s3://")

    def __truediv__(self, name: str) -> Place:
        return Place(self.filesystem, posixpath.join(self.path, name))

    @property
    def uri(self) -> str:
        """Absolute path, or ``s3://bucket/key``."""
        return self.path if self.is_local else f"s3://{self.path}"

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's disks."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> Place:
        """The folder that holds it."""
        return Place(self.filesystem, posixpath.dirname(self.path))

    def kind(self) -> fs.FileType:
        """File, folder or nothing."""
        return self.filesystem.get_file_info(self.path).type

    def files(self) -> list[Place]:
        """The files right in this folder, by name; hidden and unfinished ones left out."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        found = [
            Place(self.filesystem, info.path)
            for info in self.filesystem.get_file_info(selector)
            if info.type == fs.FileType.File and not info.base_name.startswith((".", "_"))
        ]
        return sorted(found, key=lambda place: place.path)

    def folders(self) -> list[Place]:
        """The folders right in this folder, by name; hidden ones left out."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        found = [
            Place(self.filesystem, info.path.rstrip("/"))
            for info in self.filesystem.get_file_info(selector)
            if info.type == fs.FileType.Directory and not info.base_name.startswith((".", "_"))
        ]
        return sorted(found, key=lambda place: place.path)

    def modified_ns(self) -> int | None:
        """When the file was last written, by the storage's own clock; None if there is none."""
        try:
            if self.is_local:
                return Path(self.path).stat().st_mtime_ns
            from manifests.storage.s3 import objects

            return int(objects.head(self.uri).modified.timestamp() * 1e9)
        except FileNotFoundError:
            return None

    def read(self) -> bytes:
        """The whole file."""
        if self.is_local:
            return Path(self.path).read_bytes()
        from manifests.storage.s3 import objects

        return objects.get(self.uri)[0]

    def delete(self) -> None:
        """Remove the file."""
        self.filesystem.delete_file(self.path)

    def rename(self, name: str) -> None:
        """Give the file another name in its folder."""
        self.filesystem.move(self.path, (self.parent / name).path)

    def create(self, data: bytes) -> bool:
        """Store a file if there is none yet: of several that try, with data of their own, one does.

        Raises:
            DestinationError: ``output.not_writable``.
        """
        try:
            if self.is_local:
                return _create_file(Path(self.path), data)
            from manifests.storage.s3 import objects

            return objects.create(self.uri, data)
        except OSError as error:
            raise self._not_writable(error) from error

    def write(self, data: bytes | pa.Buffer) -> None:
        """Store a file so that readers see all of it or nothing, and no power cut changes that.

        Raises:
            DestinationError: ``output.not_writable``.
        """
        try:
            if self.is_local:
                write_file(Path(self.path), data)
            else:
                from manifests.storage.s3 import objects

                objects.put(self.uri, bytes(data))
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> DestinationError:
        return DestinationError("output.not_writable", f"Cannot store {self.uri}: {error}.")

    @contextmanager
    def open_output(self) -> Iterator[IO[bytes]]:
        """Write the file piece by piece: it is there when the block has ended without an error."""
        if self.is_local:
            with replacing(Path(self.path)) as file:
                yield file
            return
        from manifests.storage.s3 import objects

        with tempfile.NamedTemporaryFile() as pieces:
            yield pieces
            pieces.flush()
            objects.upload(Path(pieces.name), self.uri)

    def write_table(self, table: pa.Table) -> None:
        """Store a table as Parquet, as :meth:`write` does."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write(sink.getvalue())

    def read_table(self, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some of its columns; in S3 by one request."""
        if not self.is_local:
            return pq.ParquetFile(pa.BufferReader(self.read())).read(columns)
        with self.filesystem.open_input_file(self.path) as file:
            return pq.ParquetFile(file).read(columns)


@cache
def _s3() -> fs.PyFileSystem:
    from manifests.storage.s3.filesystem import S3Handler

    return fs.PyFileSystem(S3Handler())


def write_file(path: Path, data: bytes | pa.Buffer) -> None:
    """Store a local file, as :func:`replacing` does."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Store what is written to a file beside ``path``: flushed to disk, renamed, the name flushed.

    Raises:
        OSError: it cannot be stored; nothing is left of it.
    """
    _make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _flush_folder(path.parent)


def _create_file(path: Path, data: bytes) -> bool:
    _make_folder(path.parent)
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    _flush_folder(path.parent)
    return True


def _make_folder(path: Path) -> None:
    """Make a folder and those above it; each new one's name is flushed to disk, too."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _flush_folder(path.parent)


def _flush_folder(path: Path) -> None:
    """Flush a folder's names to disk, where its file system can do that."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # as network file systems answer
            raise
    finally:
        os.close(handle)


@cache
def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
