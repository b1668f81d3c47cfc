"""Hashes of weights, each computed once per node regardless of the number of actors.

A file's hash is cached on disk, and in the process, as long as its name, size and modification time
stay the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

from filelock import BaseFileLock, FileLock

from manifests.errors import OutputError
from manifests.storage.path import StoragePath
from stages.method_options import FolderPart


def in_part(name: str, part: FolderPart) -> bool:
    """Whether a file of a folder belongs to a part; ``model_index.json`` belongs to both."""
    is_text = name.startswith(("text_encoder", "tokenizer"))
    return not part or name == "model_index.json" or is_text == (part == "text")


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


def cached_hash(path: Path, part: FolderPart = "") -> str:
    """Compute what :func:`compute_hash` does, but read files only if they changed.

    Raises:
        OSError: it cannot be read.
    """
    path = path.resolve()
    if path.is_dir():
        return _hash_of_folder(path, part, cached_hash)
    stat = path.stat()
    key = f"{path}\n{stat.st_size}\n{stat.st_mtime_ns}"
    return _noted_hash(path, hashlib.sha256(key.encode()).hexdigest())


@cache
def _noted_hash(path: Path, key: str) -> str:
    """Read the note with this key, or hash the file and write the note if possible."""
    note = cache_folder() / "hashes" / key
    with ExitStack() as stack:  # so that only one of 100 actors reads 24 GB
        with suppress(OSError):  # without a lock, all of them do
            stack.enter_context(node_lock(key[:24]))
        with suppress(OSError, ValueError):
            return note.read_text("ascii")
        value = compute_hash(path)
        with suppress(OutputError):
            StoragePath.of(str(note)).write(value.encode(), flush=False)
        return value


def compute_hash(path: Path) -> str:
    """Compute the SHA-256 of a file, or of the sorted names and hashes of a folder's files.

    Every byte is read; the cache is not used. Hidden files do not count, since tools store
    metadata in them.
    """
    if path.is_dir():
        return _hash_of_folder(path, "", compute_hash)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_of_folder(path: Path, part: FolderPart, hash_of: Callable[[Path], str]) -> str:
    whole = hashlib.sha256()
    for name, each in files_in(path, part):
        whole.update(f"{name}\0{hash_of(each)}\n".encode())
    return whole.hexdigest()


def files_in(path: Path, part: FolderPart = "") -> list[tuple[str, Path]]:
    """List the file, or the visible files of a folder's part: relative names, sorted, and paths."""
    if not path.is_dir():
        return [("", path)]
    found = ((each.relative_to(path), each) for each in path.rglob("*") if each.is_file())
    seen = ((name, each) for name, each in found if not any(p[0] == "." for p in name.parts))
    named = ((name.as_posix(), each) for name, each in seen)
    return sorted((name, each) for name, each in named if in_part(name, part))
