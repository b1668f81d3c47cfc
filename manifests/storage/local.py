"""Files on local disks and network file systems, written atomically."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import pyarrow as pa
from pyarrow import fs

from manifests.storage.base import Content, local_path


@dataclass(frozen=True)
class LocalStorage:
    """Files, by path or ``file://`` URI."""

    filesystem = fs.LocalFileSystem()

    def path(self, uri: str) -> str:
        """The absolute path, ``.`` and ``..`` resolved."""
        return os.path.normpath(local_path(uri).absolute())

    def uri(self, path: str) -> str:
        """The path itself."""
        return path

    def fetch(self, uri: str) -> Content:
        """Read a file; devices and pipes, which may never end, are rejected."""
        path = local_path(uri)
        _version_of_file(path, uri)  # before opening it, since opening a pipe blocks
        with path.open("rb") as file:
            return Content(file.read(), _version_of(os.fstat(file.fileno())))

    def versions(self, uris: Collection[str]) -> dict[str, str]:
        """The version of each file: its size, and the ns of its last change."""
        versions = {}
        for uri in uris:
            with suppress(OSError, ValueError):
                versions[uri] = _version_of_file(local_path(uri), uri)
        return versions

    def write(self, uri: str, data: bytes | pa.Buffer, *, flush: bool = True) -> None:
        """See :class:`manifests.storage.base.Storage`."""
        with _replacing(local_path(uri), flush=flush) as file:
            file.write(data)

    def create(self, uri: str, data: bytes) -> bool:
        """See :class:`manifests.storage.base.Storage`."""
        path = local_path(uri)
        _make_folder(path.parent)
        try:
            with path.open("xb") as file:
                file.write(data)
                _flush(file)
        except FileExistsError:
            return False
        _flush_folder(path.parent)
        return True

    @contextmanager
    def open_output(self, uri: str) -> Iterator[IO[bytes]]:
        """See :class:`manifests.storage.base.Storage`."""
        with _replacing(local_path(uri)) as file:
            yield file

    def upload(self, path: Path, uri: str) -> None:
        """See :class:`manifests.storage.base.Storage`."""
        with path.open("rb") as source, self.open_output(uri) as target:
            shutil.copyfileobj(source, target, 1 << 20)


def _version_of_file(path: Path, uri: str) -> str:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder", uri)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a file, but a device or a pipe", uri)
    return _version_of(status)


def _version_of(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextmanager
def _replacing(path: Path, *, flush: bool = True) -> Iterator[IO[bytes]]:
    """Write to a temporary file, flush it, rename it to ``path``, and flush the folder.

    Raises:
        OSError: it cannot be stored; the temporary file is removed.
    """
    _make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if flush:
                _flush(file)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if flush:
        _flush_folder(path.parent)


def _make_folder(path: Path) -> None:
    """Create a folder and its parents; flush each new folder's name to disk, too."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _flush_folder(path.parent)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """Flush a folder's entries to disk, if its file system supports that."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # from network file systems
            raise
    finally:
        os.close(handle)


@cache
def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
