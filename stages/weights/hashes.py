"""Hashes of weights, each computed once per node however many actors ask.

What was hashed is remembered in the process and, beside the cached weights, on disk, for as long as
name, size and modification time of every file stay the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_memo: dict[tuple[str, str, str], str] = {}


def cache_folder() -> Path:
    """The node's folder for weights: ``CATALOG_CLEANUP_CACHE``, or one in the home folder."""
    chosen = os.environ.get("CATALOG_CLEANUP_CACHE")
    return Path(chosen).absolute() if chosen else Path.home() / ".cache" / "catalog-cleanup"


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file or folder as :func:`read` makes it, or as it is remembered.

    Args:
        path: what to hash.
        algorithm: a name that hashlib knows.

    Raises:
        OSError: it cannot be read.
    """
    path = path.resolve()
    if known := _remembered(path, algorithm):
        return known
    with _lock(path):  # so that of 100 actors one reads 24 GB
        if known := _remembered(path, algorithm):
            return known
        state = _state(path)
        value = read(path, algorithm)
        _keep(path, algorithm, value, state)
        return value


def read(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file, or of a folder: over the sorted relative names and hashes of its files.

    Every byte is read, whatever is remembered. Hidden files do not count, since tools leave their
    notes in them.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    whole = hashlib.new(algorithm)
    for name, each in files_in(path):
        whole.update(f"{name}\0{read(each, algorithm)}\n".encode())
    return whole.hexdigest()


def remember(path: Path, algorithm: str, value: str) -> None:
    """Have :func:`digest` know what was hashed elsewhere, before it was moved to its place."""
    path = path.resolve()
    _keep(path, algorithm, value, _state(path))


def files_in(path: Path) -> list[tuple[str, Path]]:
    """The file, or the folder's files that are not hidden, with relative names, by name."""
    if not path.is_dir():
        return [("", path)]
    found = ((each.relative_to(path), each) for each in path.rglob("*") if each.is_file())
    seen = ((name, each) for name, each in found if not any(p[0] == "." for p in name.parts))
    return sorted((name.as_posix(), each) for name, each in seen)


def _state(path: Path) -> str:
    """Changes when a file is added, removed or written to."""
    stats = ((name, each.stat()) for name, each in files_in(path))
    lines = (f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for name, stat in stats)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _remembered(path: Path, algorithm: str) -> str | None:
    state = _state(path)
    key = (str(path), algorithm, state)
    if key not in _memo:
        note = _read_note(path)
        if note["state"] != state or algorithm not in note["hashes"]:
            return None
        _memo[key] = note["hashes"][algorithm]
    return _memo[key]


def _keep(path: Path, algorithm: str, value: str, state: str) -> None:
    """Remember; where nothing can be written, in this process only."""
    _memo[str(path), algorithm, state] = value
    note = _read_note(path)
    hashes = note["hashes"] if note["state"] == state else {}
    content = {"path": str(path), "state": state, "hashes": hashes | {algorithm: value}}
    place = _note(path)
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(content, file)
        Path(name).replace(place)


def _note(path: Path) -> Path:
    name = hashlib.sha256(str(path).encode()).hexdigest()[:24]
    return cache_folder() / "hashes" / f"{name}.json"


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(_note(path).read_text("utf-8"))
        return {"state": note["state"], "hashes": dict(note["hashes"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"state": "", "hashes": {}}


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time hash it; without filelock, or a place for it, all may."""
    lock = None
    with suppress(ImportError, OSError):
        from filelock import FileLock  # of the extra, which this must do without

        _note(path).parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_note(path).with_suffix(".lock"))
        lock.acquire()
    try:
        yield
    finally:
        if lock:
            lock.release()
