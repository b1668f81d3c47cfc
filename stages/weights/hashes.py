"""Hashes of weights, each computed once per node regardless of the number of actors.

A hash is cached in the process and on disk for as long as name, size and modification time of
every file stay the same.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock

from manifests.errors import OutputError
from manifests.storage.place import Place

_memo: dict[str, str] = {}


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


def cached_hash(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file or folder from the cache, or compute it with :func:`compute_hash`.

    Args:
        path: a file or folder.
        algorithm: a name that hashlib knows.

    Raises:
        OSError: it cannot be read.
    """
    path = path.resolve()
    if cached := _recall(_key(path, algorithm)):
        return cached
    with ExitStack() as stack:  # so that only one of 100 actors reads 24 GB
        with suppress(OSError):  # without a lock, all of them do
            stack.enter_context(node_lock(hashlib.sha256(str(path).encode()).hexdigest()[:24]))
        key = _key(path, algorithm)
        return _recall(key) or _keep(key, compute_hash(path, algorithm))


def compute_hash(path: Path, algorithm: str = "sha256") -> str:
    """Hash a file, or a folder by the sorted relative names and hashes of its files.

    Every byte is read; the cache is not used. Hidden files do not count, since tools store
    metadata in them.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    whole = hashlib.new(algorithm)
    for name, each in files_in(path):
        whole.update(f"{name}\0{compute_hash(each, algorithm)}\n".encode())
    return whole.hexdigest()


def remember(path: Path, algorithm: str, value: str) -> None:
    """Cache a hash that was computed before the file or folder was moved to ``path``."""
    _keep(_key(path.resolve(), algorithm), value)


def files_in(path: Path) -> list[tuple[str, Path]]:
    """List the file, or the folder's visible files, with relative names, sorted by name."""
    if not path.is_dir():
        return [("", path)]
    found = ((each.relative_to(path), each) for each in path.rglob("*") if each.is_file())
    seen = ((name, each) for name, each in found if not any(p[0] == "." for p in name.parts))
    return sorted((name.as_posix(), each) for name, each in seen)


def _key(path: Path, algorithm: str) -> str:
    """Compute the cache key, which changes when a file is added, removed or written to."""
    stats = ((name, each.stat()) for name, each in files_in(path))
    lines = (f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for name, stat in stats)
    return hashlib.sha256(f"{path}\0{algorithm}\n{''.join(lines)}".encode()).hexdigest()


def _note(key: str) -> Path:
    return cache_folder() / "hashes" / key


def _recall(key: str) -> str:
    """Return the cached hash; empty: none."""
    if key not in _memo:
        with suppress(OSError, ValueError):
            _memo[key] = _note(key).read_text("ascii")
    return _memo.get(key, "")


def _keep(key: str, value: str) -> str:
    """Cache a value, on disk if possible, else in this process only; return it."""
    _memo[key] = value
    with suppress(OutputError):
        Place.of(str(_note(key))).write(value.encode(), flush=False)
    return value
