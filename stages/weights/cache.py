"""The node's cache of weights: each entry is complete or absent, downloaded once, and verified.

The first process that needs an entry downloads it under a file lock into a temporary folder, and
moves that into place after verification. The others wait.
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
from stages.weights.catalogue import Pin
from stages.weights.download import GatedError, download
from stages.weights.hashes import cache_folder, cached_hash, compute_hash, node_lock, remember

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """Downloaded weights in a folder of the cache.

    Attributes:
        path: the file or folder of weights, in the entry's own folder.
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

    @property
    def folder(self) -> Path:
        """The entry's folder; delete it to download the weights again."""
        return self.path.parent


def entry_folder(name: str, identity: str) -> Path:
    """Return the folder for this identity: each hash or source has its own folder."""
    digits = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return cache_folder() / f"{name or 'weights'}-{digits}"


def entries() -> list[Entry]:
    """List all entries of this node's cache."""
    candidates = (Entry.read(each.parent) for each in sorted(cache_folder().glob("*/entry.json")))
    return [entry for entry in candidates if entry]


def ensure(folder: Path, sources: Sequence[str], pin: Pin | None) -> Entry:
    """Return the entry of a folder; download it from the first working source if it is missing.

    Args:
        folder: see :func:`entry_folder`.
        sources: URIs for :func:`stages.weights.download.download`, tried in order.
        pin: the required hash; None: the hash when it was downloaded.

    Raises:
        OSError: no source works, or the cache cannot be written.
        WeightsError: ``weights.wrong_hash`` or ``model.not_installed``.
    """
    entry = Entry.read(folder)
    if not entry:
        with node_lock(folder.name):
            entry = Entry.read(folder) or _fill(folder, sources, pin)
    check(entry.path, pin or ("sha256", entry.sha256))
    return entry


def check(path: Path, expected: Pin, *, label: str = "", read_all: bool = False) -> None:
    """Compare a file or folder with a hash.

    Args:
        path: the file or folder.
        expected: the hash it must have.
        label: its name in the error; empty: the path.
        read_all: read every byte even if size and modification time are unchanged.

    Raises:
        WeightsError: ``weights.wrong_hash``.
    """
    algorithm, digits = expected
    found = compute_hash(path, algorithm) if read_all else cached_hash(path, algorithm)
    if found != digits:
        problem = f"{label or path}: {algorithm} {found}, not {digits} as expected."
        raise WeightsError("weights.wrong_hash", problem)


def _fill(folder: Path, sources: Sequence[str], pin: Pin | None) -> Entry:
    """Download, verify, then move into place, so that a killed process leaves no partial entry.

    Raises:
        OSError: no source works.
        WeightsError: ``weights.wrong_hash``.
    """
    temporary = folder.with_name(f".tmp-{folder.name}")
    try:
        source, path = _download_any(sources, temporary)
        if pin:
            check(path, pin, label=source, read_all=True)
        sha256 = pin[1] if pin and pin[0] == "sha256" else compute_hash(path)
        facts = {"source": source, "sha256": sha256, "file": path.name}
        (temporary / "entry.json").write_text(json.dumps(facts, indent=2))
        shutil.rmtree(folder, ignore_errors=True)  # an entry whose content somebody deleted
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    entry = Entry(folder / path.name, source, sha256)
    remember(entry.path, "sha256", sha256)
    _log.info("%s is in %s", path.name, folder)
    return entry


def _download_any(sources: Sequence[str], folder: Path) -> tuple[str, Path]:
    """Download from the first source that works; return it and the file or folder."""
    problems: list[OSError] = []
    for source in sources:
        shutil.rmtree(folder, ignore_errors=True)  # left by an earlier source or a killed process
        folder.mkdir(parents=True)
        try:
            return source, download(source, folder)
        except OSError as error:
            problems.append(error)
    text = "; ".join(f"{source}: {error}" for source, error in zip(sources, problems, strict=True))
    is_gated = any(isinstance(error, GatedError) for error in problems)
    raise (GatedError if is_gated else OSError)(text or "no source is listed")
