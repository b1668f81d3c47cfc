"""The runs on an output folder: their numbers, their records, and which of them is alive.

``<output>/runs/NNNNNN/`` belongs to one run. ``run.json`` in it says what was run and how it ended;
creating it, which succeeds for one run alone, is what claims the number. ``alive.json`` is written
again every few seconds while the run works. ``stop``, put there by anybody, ends it gracefully.

Runs of one output are identified and ordered by their numbers, never by a clock: machines' clocks
differ. Of two runs at work on the same shards with the same recipe, the later one is refused. That
spares work; it is not what keeps results right: both would store the same pictures, and of two
records of a photo the one of the later run counts.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manifests.errors import OutputError
from manifests.storage.place import Place

#: A run that works says so this often.
HEARTBEAT_S = 10.0

#: A run that has not said so for this long is taken to be dead: a few beats, and a storage that
#: stalls for half a minute.
LEASE_S = 60.0

_POLL_S = 1.0

#: Runs of this process that have not ended; one that could not record its end has, all the same.
_ours: set[str] = set()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of an output folder.

    Attributes:
        output: the folder, absolute path or URI.
        run_id: ``NNNNNN-xxxxxx``: its number, by which runs are ordered, and a part that is unique
            among all outputs.
        facts: what ``run.json`` holds.
    """

    output: str
    run_id: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """The run's own folder."""
        return _folder(self.output) / self.run_id.partition("-")[0]

    def write(self, **more: Any) -> RunRecord:
        """Store the record with some facts changed; returns what is stored then."""
        facts = dict(self.facts) | more
        (self.place / "run.json").write(json.dumps(facts, indent=2).encode())
        return RunRecord(self.output, self.run_id, facts)

    def beat(self, **progress: Any) -> None:
        """Record that the run works, and how far it is."""
        (self.place / "alive.json").write(json.dumps({"at": _now()} | progress).encode())

    def progress(self) -> dict[str, Any]:
        """What the last beat recorded; empty if there was none."""
        try:
            found = json.loads((self.place / "alive.json").read())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def request_stop(self) -> None:
        """Let the run finish the photos in flight, record them, and end."""
        (self.place / "stop").write(b"")

    @property
    def stop_requested(self) -> bool:
        """Whether anybody has asked."""
        return (self.place / "stop").modified_ns() is not None


def claim(output: str, facts: Mapping[str, Any]) -> RunRecord:
    """Begin a run: take the next number, and leave the record under it.

    Args:
        output: absolute path or URI.
        facts: for ``run.json``; ``run_id``, ``status``, ``started_at``, ``host`` and ``process``
            are added.

    Raises:
        OutputError: ``output.not_writable``.
    """
    number = max(_numbers(output), default=0)
    while True:
        number += 1
        run_id = f"{number:06d}-{uuid.uuid4().hex[:6]}"
        ours = {"run_id": run_id, "status": "running", "started_at": _now()} | _process()
        record = RunRecord(output, run_id, dict(facts) | ours)
        if (record.place / "run.json").create(json.dumps(record.facts, indent=2).encode()):
            _ours.add(run_id)
            return record


def release(record: RunRecord) -> None:
    """End a claim; for this process the run is over, whether or not its record could be written."""
    _ours.discard(record.run_id)


def records(output: str) -> list[RunRecord]:
    """All runs of an output, by number; what is not of this program is left out."""
    found = (_load(output, number) for number in sorted(_numbers(output)))
    return [record for record in found if record]


def latest_by_recipe(output: str) -> dict[str, RunRecord]:
    """Recipe hash -> its last run that did something, those that ran last at the end."""
    found: dict[str, RunRecord] = {}
    for record in records(output):
        if record.facts.get("status") != "refused":
            found.pop(record.facts["recipe_hash"], None)
            found[record.facts["recipe_hash"]] = record
    return found


def raise_if_running(ours: RunRecord, log: Callable[[str], None]) -> None:
    """Refuse to start beside an earlier run that is at work on the same photos.

    A run whose process is gone from this machine is dead; one of another machine is, when it has
    shown no sign of life for :data:`LEASE_S`, which is waited for.

    Args:
        ours: as claimed: whoever claims later sees it.
        log: called with what is waited for.

    Raises:
        OutputError: ``output.in_use``.
    """
    for other in records(ours.output):
        if other.run_id >= ours.run_id or not _overlap(ours.facts, other.facts):
            continue
        if wait_for_liveness(ours, other, log):
            where = f"{other.facts.get('host')}, process {other.facts.get('process')}"
            raise OutputError(
                "output.in_use",
                f"Run {other.run_id} is at work on {ours.output} with the same recipe ({where}).",
            )


def wait_for_liveness(ours: RunRecord, other: RunRecord, log: Callable[[str], None]) -> bool:
    """Find out whether another run works; where only time can show it, wait for a sign of life.

    That takes up to :data:`LEASE_S`, and a heartbeat of ours, whose time by the storage's clock the
    other's is compared with.

    Returns:
        Whether it works.
    """
    if other.facts.get("status") != "running":
        return False
    if (is_here := _runs_here(other)) is not None:
        return is_here
    seen = _last_written_ns(other)
    ours.beat()
    age_s = ((_last_written_ns(ours) or 0) - (seen or 0)) / 1e9  # both by the storage's clock
    if age_s > LEASE_S:
        return False
    log(f"Run {other.run_id} may be at work here; waiting {LEASE_S - age_s:.0f} s for a sign.")
    deadline = time.monotonic() + LEASE_S - age_s
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        if _last_written_ns(other) != seen:
            again = _load(other.output, int(other.run_id.partition("-")[0]))
            return again is not None and bool(again.facts.get("status") == "running")
    return False


def seems_alive(record: RunRecord) -> bool:
    """Whether a run seems to be at work, without waiting and without writing anything."""
    if record.facts.get("status") != "running":
        return False
    if (is_here := _runs_here(record)) is not None:
        return is_here
    sign = _last_written_ns(record)
    return sign is not None and time.time() - sign / 1e9 < LEASE_S


def _runs_here(record: RunRecord) -> bool | None:
    """Whether its process is among this machine's; None for a run of another machine."""
    started, process = (record.facts.get(name) for name in ("process_started", "process"))
    if not started or record.facts.get("host") != socket.gethostname():
        return None
    if process == os.getpid() and record.run_id not in _ours:
        return False
    return bool(_started_at(process) == started)


def _last_written_ns(record: RunRecord) -> int | None:
    """When the run last wrote of itself, ns by the storage's clock."""
    signs = [(record.place / name).modified_ns() for name in ("alive.json", "run.json")]
    return max((sign for sign in signs if sign), default=None)


def _overlap(ours: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if ours.get("recipe_hash") != other.get("recipe_hash"):
        return False
    mine, theirs = ours.get("only_shards"), other.get("only_shards")
    return mine is None or theirs is None or bool(set(mine) & set(theirs))


def _load(output: str, number: int) -> RunRecord | None:
    try:
        facts = json.loads((_folder(output) / f"{number:06d}" / "run.json").read())
        return RunRecord(output, facts["run_id"], facts)
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None


def _numbers(output: str) -> Collection[int]:
    return [int(each.name) for each in _folder(output).folders() if each.name.isdigit()]


def _folder(output: str) -> Place:
    return Place.of(output) / "runs"


def _process() -> dict[str, Any]:
    """What identifies this process among all, past ones included."""
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "process_started": _started_at(os.getpid()),
    }


def _started_at(process: Any) -> str | None:
    """When a process of this machine started, in Linux's own terms; None if it is gone."""
    try:
        stat = Path(f"/proc/{int(process)}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, TypeError, ValueError):
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{boot}/{rest[18]}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
