"""The node's cache of weights: each entry is whole or absent, fetched once, and checked.

Whoever needs an entry first fetches it under a file lock, into a folder beside it, and moves that
into place once it is checked. The others wait.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import WeightsError
from stages.weights import hashes
from stages.weights.download import GatedError, Tell, fetch

#: ``(algorithm, hex digits)`` that what is fetched must have.
Pin = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A place in the cache: a folder that is either whole or absent.

    Attributes:
        path: the folder; it holds ``entry.json`` and the file or folder that was fetched.
    """

    path: Path

    @classmethod
    def of(cls, name: str, identity: str) -> Entry:
        """The place of what has this identity: another hash or source gets another place."""
        digits = hashlib.sha256(identity.encode()).hexdigest()[:12]
        return cls(hashes.cache_folder() / f"{name or 'weights'}-{digits}")

    @property
    def facts(self) -> dict[str, Any]:
        """``name``, ``source``, ``sha256`` and ``file``; empty if nothing is there."""
        try:
            facts: dict[str, Any] = json.loads((self.path / "entry.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if {"file", "sha256"} <= facts.keys() else {}

    @property
    def content(self) -> Path | None:
        """What was fetched, if it is there."""
        facts = self.facts
        path = self.path / facts["file"] if facts else None
        return path if path and path.exists() else None

    @property
    def sha256(self) -> str:
        """As it was when it was fetched."""
        return str(self.facts["sha256"])


def entries() -> list[Entry]:
    """What is in this node's cache."""
    return [Entry(each.parent) for each in sorted(hashes.cache_folder().glob("*/entry.json"))]


def have(entry: Entry, sources: Sequence[str], pin: Pin | None, tell: Tell) -> Path:
    """The entry's file or folder, fetched if need be from the first source that has it.

    Args:
        entry: where.
        sources: as :func:`stages.weights.download.fetch` takes them.
        pin: what it must be; None: what it was when it was fetched.
        tell: hears of the progress.

    Raises:
        OSError: no source has it, or the cache cannot be written.
        WeightsError: ``weights.wrong_hash`` or ``model.not_installed``.
    """
    if not entry.content:
        with _lock(entry):
            if not entry.content:
                _download(entry, sources, pin, tell)
    path = entry.content
    assert path
    check(path, pin or ("sha256", entry.sha256))
    return path


def check(path: Path, expected: Pin, *, anew: bool = False) -> None:
    """Hold a file or folder against a hash.

    Args:
        path: what.
        expected: its hash.
        anew: read every byte, also where size and time say that nothing changed.

    Raises:
        WeightsError: ``weights.wrong_hash``.
    """
    algorithm, digits = expected
    found = hashes.read(path, algorithm) if anew else hashes.digest(path, algorithm)
    if found != digits:
        raise _wrong_hash(str(path), expected, found)


def _wrong_hash(what: str, expected: Pin, found: str) -> WeightsError:
    algorithm, digits = expected
    return WeightsError(
        "weights.wrong_hash", f"{what}: {algorithm} {found}, and not {digits} as expected."
    )


def _download(entry: Entry, sources: Sequence[str], pin: Pin | None, tell: Tell) -> None:
    """Fetch, check, and only then move into place: a kill leaves nothing that is ever used.

    Raises:
        OSError: no source has it.
        WeightsError: ``weights.wrong_hash``.
    """
    temporary = entry.path.with_name(f".tmp-{entry.path.name}")
    problems: list[OSError] = []
    for source in sources:
        shutil.rmtree(temporary, ignore_errors=True)  # an earlier attempt's, or a killed process's
        temporary.mkdir(parents=True)
        tell(f"fetching {source}")
        try:
            path = fetch(source, temporary, tell)
            break
        except OSError as error:
            problems.append(error)
    else:
        shutil.rmtree(temporary, ignore_errors=True)
        _raise_all(sources, problems)
    if pin and (found := hashes.read(path, pin[0])) != pin[1]:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _wrong_hash(source, pin, found)
    sha256 = found if pin and pin[0] == "sha256" else hashes.read(path)
    facts = {"source": source, "sha256": sha256, "file": path.name}
    (temporary / "entry.json").write_text(json.dumps(facts, indent=2))
    shutil.rmtree(entry.path, ignore_errors=True)  # what somebody has emptied
    temporary.rename(entry.path)
    hashes.remember(entry.path / path.name, "sha256", sha256)
    tell(f"{path.name} is in {entry.path}")


def _raise_all(sources: Sequence[str], problems: Sequence[OSError]) -> None:
    told = "; ".join(f"{source}: {error}" for source, error in zip(sources, problems, strict=True))
    if any(isinstance(error, GatedError) for error in problems):
        raise GatedError(told)
    raise OSError(told)


@contextmanager
def _lock(entry: Entry) -> Iterator[None]:
    """Let one process of the node at a time fetch it."""
    try:
        from filelock import FileLock  # of the extra; files by path do without
    except ImportError:
        raise WeightsError("model.not_installed", "Fetching weights takes filelock.") from None
    folder = entry.path.parent / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{entry.path.name}.lock"):
        yield
