"""Hashes of weights, each computed once per node however many actors ask.

A hash is remembered in the process and, beside the cached weights, on disk, for as long as name,
size and modification time of every file stay the same.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock

from manifests.storage.files import write_file

_memo: dict[str, str] = {}


def cache_folder() -> Path:
    """The node's folder for weights: ``CATALOG_CLEANUP_CACHE``, or one in the home folder."""
    chosen = os.environ.get("CATALOG_CLEANUP_CACHE")
    return Path(chosen).absolute() if chosen else Path.home() / ".cache" / "catalog-cleanup"


def node_lock(name: str) -> BaseFileLock:
    """The lock of this name, which all processes of this node share.

    Raises:
        OSError: there is no place for it.
    """
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


def cached_hash(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file or folder as :func:`compute_hash` makes it, or as it is remembered.

    Args:
        path: what to hash.
        algorithm: a name that hashlib knows.

    Raises:
        OSError: it cannot be read.
    """
    path = path.resolve()
    if known := _recall(_key(path, algorithm)):
        return known
    with ExitStack() as stack:  # so that of 100 actors one reads 24 GB
        with suppress(OSError):  # without a place for the lock, all may
            stack.enter_context(node_lock(hashlib.sha256(str(path).encode()).hexdigest()[:24]))
        key = _key(path, algorithm)
        return _recall(key) or _keep(key, compute_hash(path, algorithm))


def compute_hash(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file, or of a folder: over the sorted relative names and hashes of its files.

    Every byte is read, whatever is remembered. Hidden files do not count, since tools leave their
    notes in them.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    whole = hashlib.new(algorithm)
    for name, each in files_in(path):
        whole.update(f"{name}\0{compute_hash(each, algorithm)}\n".encode())
    return whole.hexdigest()


def remember(path: Path, algorithm: str, value: str) -> None:
    """Let :func:`cached_hash` know what was hashed elsewhere, before it was moved to its place."""
    _keep(_key(path.resolve(), algorithm), value)


def files_in(path: Path) -> list[tuple[str, Path]]:
    """The file, or the folder's files that are not hidden, with relative names, by name."""
    if not path.is_dir():
        return [("", path)]
    found = ((each.relative_to(path), each) for each in path.rglob("*") if each.is_file())
    seen = ((name, each) for name, each in found if not any(p[0] == "." for p in name.parts))
    return sorted((name.as_posix(), each) for name, each in seen)


def _key(path: Path, algorithm: str) -> str:
    """Changes when a file is added, removed or written to; the name of the note on disk."""
    stats = ((name, each.stat()) for name, each in files_in(path))
    lines = (f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for name, stat in stats)
    return hashlib.sha256(f"{path}\0{algorithm}\n{''.join(lines)}".encode()).hexdigest()


def _note(key: str) -> Path:
    return cache_folder() / "hashes" / key


def _recall(key: str) -> str:
    """The hash that is remembered; empty: none."""
    if key not in _memo:
        with suppress(OSError, ValueError):
            _memo[key] = _note(key).read_text("ascii")
    return _memo.get(key, "")


def _keep(key: str, value: str) -> str:
    """Remember; where nothing can be written, in this process only. Returns the value."""
    _memo[key] = value
    with suppress(OSError):
        write_file(_note(key), value.encode())
    return value
