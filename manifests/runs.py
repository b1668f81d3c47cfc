"""The runs on an output folder: their numbers, their records, and which are alive.

``<output>/runs/NNNNNN/`` belongs to one run. Its ``run.json`` records what was run and how it
ended. Only one run can create it, which claims the number. ``alive.json`` is rewritten every few
seconds while the run is active. A file ``stop`` ends the run gracefully.

Runs of one output are identified and ordered by their numbers, not by a clock, since machines'
clocks differ. If two runs are active on the same shards with the same recipe, the later one is
rejected. That saves work, but results would be correct anyway: both would store the same images,
and of two records of a photo the later run's counts.
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
from manifests.storage.path import StoragePath

#: Interval of an active run's heartbeats.
HEARTBEAT_S = 10.0

#: A run without a heartbeat for this long is considered dead. That is several heartbeats, and the
#: time for which a run waits for a storage that stalls.
LEASE_S = 360.0

_POLL_S = 1.0

#: Ids of this process's active runs. A run that ended but could not record it is not among them.
_active: set[str] = set()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of one run of an output folder.

    Attributes:
        output: the folder, absolute path or URI.
        run_id: ``NNNNNN-xxxxxx``: its number, which orders the runs, and a part that is unique
            across outputs.
        content: the content of ``run.json``.
    """

    output: str
    run_id: str
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> StoragePath:
        """The run's own folder."""
        return _folder(self.output) / self.run_id.partition("-")[0]

    def write(self, **more: Any) -> RunRecord:
        """Store the record with some of its content changed; return the new record."""
        content = dict(self.content) | more
        (self.folder / "run.json").write(json.dumps(content, indent=2).encode())
        return RunRecord(self.output, self.run_id, content)

    def beat(self, **progress: Any) -> None:
        """Record a heartbeat and the run's progress."""
        (self.folder / "alive.json").write(json.dumps({"at": _now()} | progress).encode())

    def successor(self) -> str | None:
        """The id of a later run of the same photos that is at work; None if there is none.

        Worth asking after :data:`LEASE_S` without a heartbeat, when others consider this run dead.
        """
        number = int(self.run_id.partition("-")[0])
        later = [each for each in sorted(_numbers(self.output)) if each > number]
        for other in filter(None, (_load(self.output, each) for each in later)):
            if _overlap(self.content, other.content) and seems_alive(other):
                return other.run_id
        return None

    def progress(self) -> dict[str, Any]:
        """The progress that the last heartbeat recorded; empty if there was none."""
        try:
            progress = json.loads((self.folder / "alive.json").read())
        except (FileNotFoundError, ValueError):
            return {}
        return progress if isinstance(progress, dict) else {}

    def request_stop(self) -> None:
        """Request a graceful stop: the run finishes and records the photos in flight."""
        (self.folder / "stop").write(b"")

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested."""
        return (self.folder / "stop").info().mtime_ns is not None


def claim(output: str, content: Mapping[str, Any]) -> RunRecord:
    """Start a run: claim the next number, and store the record under it.

    Args:
        output: absolute path or URI.
        content: content of ``run.json``; ``run_id``, ``status``, ``started_at`` and what identifies
            this process are added.

    Raises:
        OutputError: ``output.not_writable``.
    """
    number = max(_numbers(output), default=0)
    while True:
        number += 1
        run_id = f"{number:06d}-{uuid.uuid4().hex[:6]}"
        ours = {"run_id": run_id, "status": "running", "started_at": _now()} | _process()
        record = RunRecord(output, run_id, dict(content) | ours)
        if (record.folder / "run.json").create(json.dumps(record.content, indent=2).encode()):
            _active.add(run_id)
            return record


def release(record: RunRecord) -> None:
    """End a claim: the run is over for this process, even if that could not be recorded."""
    _active.discard(record.run_id)


def records(output: str) -> list[RunRecord]:
    """All runs of an output, by number; unreadable records are left out."""
    loaded = (_load(output, number) for number in sorted(_numbers(output)))
    return [record for record in loaded if record]


def latest_by_recipe(output: str) -> dict[str, RunRecord]:
    """Recipe hash -> the last run that was not refused; ordered by run, the latest at the end."""
    latest: dict[str, RunRecord] = {}
    for record in records(output):
        if record.content.get("status") != "refused":
            latest.pop(record.content["recipe_hash"], None)
            latest[record.content["recipe_hash"]] = record
    return latest


def raise_if_running(ours: RunRecord, log: Callable[[str], None]) -> None:
    """Raise if an earlier run is active on the same photos.

    A run of this machine is dead if its process is gone. A run of another machine or container is
    dead if it had no heartbeat for :data:`LEASE_S`; this function waits for that.

    Args:
        ours: the claimed run, which later claims can see.
        log: called with a line of text before it waits.

    Raises:
        OutputError: ``output.in_use``.
    """
    for other in records(ours.output):
        if other.run_id >= ours.run_id or not _overlap(ours.content, other.content):
            continue
        if wait_for_liveness(ours, other, log):
            where = f"{other.content.get('host')}, process {other.content.get('process')}"
            raise OutputError(
                "output.in_use",
                f"Run {other.run_id} is active on {ours.output} with the same recipe ({where}).",
            )


def wait_for_liveness(ours: RunRecord, other: RunRecord, log: Callable[[str], None]) -> bool:
    """Determine whether another run is active; if necessary, wait for its heartbeat.

    That takes up to :data:`LEASE_S`. It also writes a heartbeat of ours, since only times of the
    storage's own clock can be compared.

    Returns:
        Whether it is active.
    """
    if other.content.get("status") != "running":
        return False
    if (is_here := _runs_here(other)) is not None:
        return is_here
    before = _last_written_ns(other)
    ours.beat()
    age_s = ((_last_written_ns(ours) or 0) - (before or 0)) / 1e9  # both by the storage's clock
    if age_s > LEASE_S:
        return False
    log(
        f"Run {other.run_id} may be active here; waiting {LEASE_S - age_s:.0f} s for its heartbeat."
    )
    deadline = time.monotonic() + LEASE_S - age_s
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        if _last_written_ns(other) != before:
            current = _load(other.output, int(other.run_id.partition("-")[0]))
            return current is not None and bool(current.content.get("status") == "running")
    return False


def seems_alive(record: RunRecord) -> bool:
    """Whether a run seems to be active, without waiting and without writing anything."""
    if record.content.get("status") != "running":
        return False
    if (is_here := _runs_here(record)) is not None:
        return is_here
    sign = _last_written_ns(record)
    return sign is not None and time.time() - sign / 1e9 < LEASE_S


def _runs_here(record: RunRecord) -> bool | None:
    """Whether its process runs where this one does; None for one of another machine or container,
    whose processes cannot be seen.
    """
    machine, started, process = (
        record.content.get(name) for name in ("machine", "process_started", "process")
    )
    if not started or not machine or machine != _machine():
        return None
    if process == os.getpid() and record.run_id not in _active:
        return False
    return bool(_started_at(process) == started)


def _last_written_ns(record: RunRecord) -> int | None:
    """When the run last wrote its record or heartbeat, in ns by the storage's clock."""
    signs = [(record.folder / name).info().mtime_ns for name in ("alive.json", "run.json")]
    return max((sign for sign in signs if sign), default=None)


def _overlap(ours: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if ours.get("recipe_hash") != other.get("recipe_hash"):
        return False
    mine, theirs = ours.get("only_shards"), other.get("only_shards")
    return mine is None or theirs is None or bool(set(mine) & set(theirs))


def _load(output: str, number: int) -> RunRecord | None:
    try:
        content = json.loads((_folder(output) / f"{number:06d}" / "run.json").read())
        return RunRecord(output, content["run_id"], content)
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None


def _numbers(output: str) -> Collection[int]:
    return [int(each.name) for each in _folder(output).folders() if each.name.isdigit()]


def _folder(output: str) -> StoragePath:
    return StoragePath.of(output) / "runs"


def _process() -> dict[str, Any]:
    """What identifies this process uniquely, also among past ones."""
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "process": os.getpid(),
        "process_started": _started_at(os.getpid()),
    }


def _machine() -> str | None:
    """Boot id and PID namespace: processes of two runs that share these see each other. Names of
    hosts do not say so: containers can have the host's, and machines the same. None without /proc.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _started_at(process: Any) -> str | None:
    """Start time (clock ticks) of a process of this machine; None if it is gone."""
    try:
        stat = Path(f"/proc/{int(process)}/stat").read_text()
    except (OSError, TypeError, ValueError):
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
