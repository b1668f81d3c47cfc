"""Hashes of weights, each computed once per node regardless of the number of actors.

A hash is cached on disk, and in the process, for as long as name, size and modification time of
every file stay the same.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

from filelock import BaseFileLock, FileLock

from manifests.errors import OutputError
from manifests.storage.place import Place


def cache_folder() -> Path:
    """The node's folder for weights: ``CATALOG_CLEANUP_CACHE``, or one in the home folder."""
    chosen = os.environ.get("CATALOG_CLEANUP_CACHE")
    return Path(chosen).absolute() if chosen else Path.home() / ".cache" / "catalog-cleanup"


def node_lock(name: str) -> BaseFileLock:
    """Return the lock of this name, shared by all processes of this node.

    Raises:
        OSError: the lock's folder cannot be created.
    """
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


def cached_hash(path: Path) -> str:
    """Return the SHA-256 of a file or folder from the cache, or :func:`compute_hash`.

    Raises:
        OSError: it cannot be read.
    """
    path = path.resolve()
    return _noted_hash(path, _key(path))


@cache
def _noted_hash(path: Path, key: str) -> str:
    """Read the note with this key, or hash the file or folder and write the note if possible."""
    note = cache_folder() / "hashes" / key
    with ExitStack() as stack:  # so that only one of 100 actors reads 24 GB
        with suppress(OSError):  # without a lock, all of them do
            stack.enter_context(node_lock(key[:24]))
        with suppress(OSError, ValueError):
            return note.read_text("ascii")
        value = compute_hash(path)
        with suppress(OutputError):
            Place.of(str(note)).write(value.encode(), flush=False)
        return value


def compute_hash(path: Path) -> str:
    """Compute the SHA-256 of a file, or of the sorted names and hashes of a folder's files.

    Every byte is read; the cache is not used. Hidden files do not count, since tools store
    metadata in them.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for name, each in files_in(path):
        whole.update(f"{name}\0{compute_hash(each)}\n".encode())
    return whole.hexdigest()


def files_in(path: Path) -> list[tuple[str, Path]]:
    """List the file, or the folder's visible files, with relative names, sorted by name."""
    if not path.is_dir():
        return [("", path)]
    found = ((each.relative_to(path), each) for each in path.rglob("*") if each.is_file())
    seen = ((name, each) for name, each in found if not any(p[0] == "." for p in name.parts))
    return sorted((name.as_posix(), each) for name, each in seen)


def _key(path: Path) -> str:
    """Compute the cache key, which changes when a file is added, removed or written to."""
    stats = ((name, each.stat()) for name, each in files_in(path))
    lines = (f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for name, stat in stats)
    return hashlib.sha256(f"{path}\n{''.join(lines)}".encode()).hexdigest()
