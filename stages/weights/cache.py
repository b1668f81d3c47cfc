"""The node's cache of weights: each entry is complete or absent, downloaded once, and verified.

The first process that needs an entry downloads it under a file lock, verifies it, and then writes
its ``entry.json``: without that there is no entry. The others wait.

Hashes of weights, wherever these are, are computed once per node regardless of the number of
actors. A hash is cached on disk, and in the process, for as long as name, size and modification
time of every file stay the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import BaseFileLock, FileLock

from manifests.errors import OutputError, WeightsError
from manifests.storage import scheme_of
from manifests.storage.place import Place
from stages.weights.download import DOWNLOADERS

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """Downloaded weights in a folder of the cache.

    Attributes:
        path: the file or folder of weights, in the entry's own folder; delete that to download the
            weights again.
        source: the URI they were downloaded from.
        sha256: their hash when they were downloaded.
    """

    path: Path
    source: str
    sha256: str

    @classmethod
    def read(cls, folder: Path) -> Entry | None:
        """Read the entry in a folder; None: there is none, or its content was deleted."""
        try:
            facts = json.loads((folder / "entry.json").read_text("utf-8"))
            entry = cls(folder / facts["file"], facts["source"], facts["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return entry if entry.path.exists() else None


def entry_folder(name: str, identity: str) -> Path:
    """Return the folder for this identity: each hash or source has its own folder."""
    digits = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return cache_folder() / f"{name or 'weights'}-{digits}"


def entries() -> list[Entry]:
    """List all entries of this node's cache."""
    candidates = (Entry.read(each.parent) for each in sorted(cache_folder().glob("*/entry.json")))
    return [entry for entry in candidates if entry]


def ensure(folder: Path, sources: Sequence[str], sha256: str) -> Entry:
    """Return the entry of a folder; download it from the first working source if it is missing.

    Args:
        folder: see :func:`entry_folder`.
        sources: URIs for :data:`stages.weights.download.DOWNLOADERS`, tried in order.
        sha256: the required hash; empty: the hash when it was downloaded.

    Raises:
        OSError: no source works, or the cache cannot be written.
        WeightsError: ``weights.wrong_hash``, ``weights.gated`` or ``model.not_installed``.
    """
    entry = Entry.read(folder)
    if not entry:
        with node_lock(folder.name):
            entry = Entry.read(folder) or _fill(folder, sources, sha256)
    check(entry.path, sha256 or entry.sha256)
    return entry


def check(path: Path, sha256: str, *, label: str = "", read_all: bool = False) -> None:
    """Compare a file or folder with a hash.

    Args:
        path: the file or folder.
        sha256: the hash it must have.
        label: its name in the error; empty: the path.
        read_all: read every byte even if size and modification time are unchanged.

    Raises:
        WeightsError: ``weights.wrong_hash``.
    """
    found = compute_hash(path) if read_all else cached_hash(path)
    if found != sha256:
        problem = f"{label or path}: sha256 {found}, not {sha256} as expected."
        raise WeightsError("weights.wrong_hash", problem)


def _fill(folder: Path, sources: Sequence[str], sha256: str) -> Entry:
    """Download and verify; a killed process leaves no ``entry.json``, and so no entry."""
    try:
        source, path = _download_any(sources, folder)
        if sha256:
            check(path, sha256, label=source)
        entry = Entry(path, source, cached_hash(path))
        facts = {"source": source, "sha256": entry.sha256, "file": path.name}
        (folder / "entry.json").write_text(json.dumps(facts, indent=2))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _log.info("%s is in %s", path.name, folder)
    return entry


def _download_any(sources: Sequence[str], folder: Path) -> tuple[str, Path]:
    """Download from the first source that works; return it and the file or folder."""
    problems: list[OSError | WeightsError] = []
    for source in sources:
        shutil.rmtree(folder, ignore_errors=True)  # left by an earlier source or a killed process
        folder.mkdir(parents=True)
        _log.info("fetching %s", source)
        try:
            return source, DOWNLOADERS[scheme_of(source)](source, folder)
        except (OSError, WeightsError) as error:
            problems.append(error)
    for problem in problems:
        if isinstance(problem, WeightsError):
            raise problem
    texts = (f"{source}: {error}" for source, error in zip(sources, problems, strict=True))
    raise OSError("; ".join(texts))


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
