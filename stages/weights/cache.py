"""The node's cache of weights: each entry is complete or absent, downloaded once, and verified.

The first process that needs an entry downloads it under a file lock, verifies it, and then writes
its ``entry.json``: without that there is no entry. The others wait.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import WeightsError
from manifests.storage import scheme_of
from stages.method_options import FolderPart
from stages.weights.download import DOWNLOADERS
from stages.weights.hashes import cache_folder, cached_hash, compute_hash, node_lock

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


def get_or_download(
    folder: Path, sources: Sequence[str], sha256: str, part: FolderPart = ""
) -> Entry:
    """Return the entry of a folder; download it from the first working source if it is missing.

    Args:
        folder: see :func:`entry_folder`.
        sources: URIs for :data:`stages.weights.download.DOWNLOADERS`, tried in order.
        sha256: the required hash; empty: the hash when it was downloaded.
        part: what to download of a diffusers folder.

    Raises:
        OSError: no source works, or the cache cannot be written.
        WeightsError: ``weights.wrong_hash``, ``weights.gated`` or ``model.not_installed``.
    """
    entry = Entry.read(folder)
    if not entry:
        with node_lock(folder.name):
            entry = Entry.read(folder) or _download(folder, sources, sha256, part)
    verify_hash(entry.path, sha256 or entry.sha256)
    return entry


def verify_hash(path: Path, sha256: str, *, label: str = "", read_all: bool = False) -> None:
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


def _download(folder: Path, sources: Sequence[str], sha256: str, part: FolderPart) -> Entry:
    """Download and verify; a killed process leaves no ``entry.json``, and so no entry."""
    try:
        source, path = _download_any(sources, folder, part)
        if sha256:
            verify_hash(path, sha256, label=source)
        entry = Entry(path, source, cached_hash(path))
        facts = {"source": source, "sha256": entry.sha256, "file": path.name}
        (folder / "entry.json").write_text(json.dumps(facts, indent=2))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _log.info("%s is in %s", path.name, folder)
    return entry


def _download_any(sources: Sequence[str], folder: Path, part: FolderPart) -> tuple[str, Path]:
    """Download from the first source that works; return it and the file or folder."""
    problems: list[OSError | WeightsError] = []
    for source in sources:
        shutil.rmtree(folder, ignore_errors=True)  # left by an earlier source or a killed process
        folder.mkdir(parents=True)
        _log.info("fetching %s", source)
        try:
            return source, DOWNLOADERS[scheme_of(source)](source, folder, part)
        except (OSError, WeightsError) as error:
            problems.append(error)
    for problem in problems:
        if isinstance(problem, WeightsError):
            raise problem
    texts = (f"{source}: {error}" for source, error in zip(sources, problems, strict=True))
    raise OSError("; ".join(texts))
