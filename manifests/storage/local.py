"""Files on local disks and network file systems, written atomically."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import pyarrow as pa
from pyarrow import fs

from manifests.storage import local_path
from manifests.storage.path import Content, StoragePath, storing

_file_system = fs.LocalFileSystem()


@dataclass(frozen=True, slots=True)
class LocalPath(StoragePath):
    """A path on this machine; see :class:`manifests.storage.path.StoragePath` for the methods."""

    @classmethod
    def of(cls, uri: str) -> Self:
        """Make one from a path or ``file://`` URI, ``.`` and ``..`` resolved."""
        path = local_path(uri).absolute()
        return cls(str(path.resolve() if ".." in path.parts else path))

    @property
    def uri(self) -> str:
        """The path itself."""
        return self.path

    def info(self) -> fs.FileInfo:
        """Type, size and time of the last change."""
        return _file_system.get_file_info(self.path)

    def _list(self) -> Iterable[tuple[str, bool]]:
        try:
            with os.scandir(self.path) as found:
                return [(each.name, each.is_dir()) for each in found]
        except FileNotFoundError:
            return []

    def walk(self) -> Iterator[str]:
        """Yield the paths of all files below this folder; links to folders are followed."""
        return _walk(self.path, "", frozenset())

    def fetch(self) -> Content:
        """Read a file; devices and pipes, which may never end, are rejected."""
        _version_of_file(self.path)  # before opening it, since opening a pipe blocks
        with Path(self.path).open("rb") as file:
            return Content(file.read(), _version_of(os.fstat(file.fileno())))

    def open_input(self) -> pa.NativeFile:
        """Open the file for reading."""
        return pa.OSFile(self.path)

    def delete(self) -> None:
        """Delete the file."""
        Path(self.path).unlink()

    def rename(self, name: str) -> None:
        """Rename the file within its folder."""
        Path(self.path).rename((self.parent / name).path)

    def write(self, data: bytes | pa.Buffer, *, flush: bool = True) -> None:
        """Replace the file."""
        with storing(self.uri), _replacing(Path(self.path), flush=flush) as file:
            file.write(data)

    def create(self, data: bytes) -> bool:
        """Store the file if there is none yet, and return whether that was so."""
        with storing(self.uri):
            try:
                with _replacing(Path(self.path), move=_link) as file:
                    file.write(data)
            except FileExistsError:
                return False
        return True

    def upload(self, source: Path) -> None:
        """Copy a local file here."""
        with storing(self.uri), _replacing(Path(self.path)) as target, source.open("rb") as file:
            shutil.copyfileobj(file, target, 1 << 20)


def _walk(folder: str, prefix: str, above: frozenset[str]) -> Iterator[str]:
    """Yield the paths of the files below ``folder``, each after ``prefix``.

    Args:
        folder: path of the folder.
        prefix: empty, or the folder's path as it is to be named, with a slash at its end.
        above: the real paths of the folders that contain it; a link to one of them is a circle.
    """
    above |= {os.path.realpath(folder)}
    with os.scandir(folder) as found:
        entries = [(f"{each.name}/" if each.is_dir() else each.name, each.path) for each in found]
    for name, path in sorted(entries):  # with the slash, in the order of the whole paths, as in S3
        if name.startswith("."):
            continue
        if not name.endswith("/"):
            yield prefix + name
        elif os.path.realpath(path) not in above:
            yield from _walk(path, prefix + name, above)


def versions(uris: Iterable[str]) -> dict[str, str]:
    """The version of each file: its size, and the ns of its last change."""
    known = {}
    for uri in uris:
        with suppress(OSError, ValueError):
            known[uri] = _version_of_file(LocalPath.of(uri).path)
    return known


def _version_of_file(path: str) -> str:
    status = Path(path).stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder", path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a file, but a device or a pipe", path)
    return _version_of(status)


def _version_of(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextmanager
def _replacing(
    path: Path, *, flush: bool = True, move: Callable[[Path, Path], object] = os.replace
) -> Iterator[IO[bytes]]:
    """Write to a temporary file, flush it, rename it to ``path``, and flush the folder.

    Args:
        path: the file.
        flush: whether the file and its name are on disk afterwards.
        move: moves the temporary file to ``path``.

    Raises:
        OSError: it cannot be stored; the temporary file is removed.
    """
    _make_folder(path.parent)
    temporary = path.parent / f".tmp-{uuid.uuid4().hex}"
    try:
        with temporary.open("xb") as file:
            yield file
            if flush:
                _flush(file)
        move(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if flush:
        _flush_folder(path.parent)


def _link(temporary: Path, path: Path) -> None:
    """Move a file, unless there is one of the new name.

    Raises:
        FileExistsError: there is one.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        path.open("xb").close()  # empty for a moment, but ours
        temporary.replace(path)
    else:
        temporary.unlink()


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
