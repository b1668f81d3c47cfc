"""The node's cache of weights: each entry is whole or absent, downloaded once, and verified.

The first process that needs an entry downloads it under a file lock, into a folder beside it, and
moves that into place once it is verified. The others wait.
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
    """What was downloaded into a folder of the cache.

    Attributes:
        path: the file or folder of weights, in the entry's own folder.
        source: its URI.
        sha256: as it was when it was downloaded.
    """

    path: Path
    source: str
    sha256: str

    @classmethod
    def read(cls, folder: Path) -> Entry | None:
        """The entry in a folder; None: there is none, or its content was deleted."""
        try:
            facts = json.loads((folder / "entry.json").read_text("utf-8"))
            entry = cls(folder / facts["file"], facts["source"], facts["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return entry if entry.path.exists() else None

    @property
    def folder(self) -> Path:
        """What to delete so that it is downloaded again."""
        return self.path.parent


def place(name: str, identity: str) -> Path:
    """The folder for content of this identity: another hash or source gets another one."""
    digits = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return cache_folder() / f"{name or 'weights'}-{digits}"


def entries() -> list[Entry]:
    """All entries of this node's cache."""
    found = (Entry.read(each.parent) for each in sorted(cache_folder().glob("*/entry.json")))
    return [entry for entry in found if entry]


def ensure(folder: Path, sources: Sequence[str], pin: Pin | None) -> Entry:
    """What a folder of the cache is for, downloaded if need be from the first source that has it.

    Args:
        folder: the place.
        sources: as :func:`stages.weights.download.download` takes them.
        pin: the hash it must have; None: the one it had when it was downloaded.

    Raises:
        OSError: no source has it, or the cache cannot be written.
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
        expected: its hash.
        label: names it in the error; empty: its path does.
        read_all: read every byte, also where size and time say that nothing changed.

    Raises:
        WeightsError: ``weights.wrong_hash``.
    """
    algorithm, digits = expected
    found = compute_hash(path, algorithm) if read_all else cached_hash(path, algorithm)
    if found != digits:
        problem = f"{label or path}: {algorithm} {found}, and not {digits} as expected."
        raise WeightsError("weights.wrong_hash", problem)


def _fill(folder: Path, sources: Sequence[str], pin: Pin | None) -> Entry:
    """Download, verify, and only then move into place: a kill leaves nothing that is ever used.

    Raises:
        OSError: no source has it.
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
    """Download the first source that can be had; returns it and its file or folder."""
    problems: list[OSError] = []
    for source in sources:
        shutil.rmtree(folder, ignore_errors=True)  # an earlier attempt's, or a killed process's
        folder.mkdir(parents=True)
        try:
            return source, download(source, folder)
        except OSError as error:
            problems.append(error)
    text = "; ".join(f"{source}: {error}" for source, error in zip(sources, problems, strict=True))
    is_gated = any(isinstance(error, GatedError) for error in problems)
    raise (GatedError if is_gated else OSError)(text or "no source is listed")
