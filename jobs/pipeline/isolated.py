"""One photo in a process of its own: what becomes of the process is told, and costs nothing else.

A photo that took its worker with it comes here. Its process loads one model at a time, so that all
steps fit on the device of one; whatever it does (a signal, an endless loop, an end without a
word), the actor that watches it lives on and records how the photo ended.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs.pipeline.limits import limit_memory
from jobs.pipeline.spec import Job
from manifests.errors import CatalogCleanupError
from manifests.schema import CRASHED
from stages.photo import Photo
from stages.steps.base import fail, run_steps

_POLL_S = 0.05

#: For loading a model, over a network if need be; also the most that a process may take to start.
_MOST_LOADING_S = 3600.0


def run_isolated(photo: Photo, job: Job) -> None:
    """Take a photo through all steps of a job in a child process, and note how it ended.

    Raises:
        CatalogCleanupError: as in the process: no fault of the row.
    """
    from ray import cloudpickle  # noqa: PLC0415 - takes a second, which the child need not spend

    if not photo.ok:
        return
    with tempfile.TemporaryDirectory(prefix="catalog-cleanup-") as name:
        folder = Path(name)
        # By value what is only known here, as functions of a driver's main module.
        task: bytes = cloudpickle.dumps((photo, job))  # type: ignore[no-untyped-call]
        (folder / "task").write_bytes(task)
        ended = _watch(folder, job.recipe.limits.max_seconds)
        if not (folder / "result").exists():
            _note_end(photo, folder, ended, job.recipe.limits.max_seconds)
            return
        made = pickle.loads((folder / "result").read_bytes())  # noqa: S301 - our own process's
    if isinstance(made, CatalogCleanupError):
        raise made
    photo.lineage = made


def _watch(folder: Path, most_s: float) -> int | None:
    """Run the child; returns its exit code, negative for a signal, or None if it took too long."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-X", "faulthandler", "-m", "jobs.pipeline.isolated", str(folder)]
    with (folder / "errors").open("wb") as errors:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=environment
        )
    worked_s = loaded_s = 0.0
    last = time.monotonic()
    try:
        while worked_s < most_s and loaded_s < _MOST_LOADING_S:
            try:
                return child.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                if _step(folder)[0] == "run":
                    worked_s += now - last
                else:
                    loaded_s += now - last
                last = now
        return None
    finally:
        child.kill()
        child.wait()


def _note_end(photo: Photo, folder: Path, code: int | None, most_s: float) -> None:
    _, step = _step(folder)
    if code is None:
        text = f"The photo {photo.lineage.image_uri} was still in step {step} after {most_s:g} s."
        fail(photo, "row.timeout", text, step)
        return
    how = f"exit code {code}" if code >= 0 else _signal_name(-code)
    text = f"The process of {photo.lineage.image_uri} died in step {step}: {how}{_where(folder)}."
    fail(photo, "row.crashed", text, step)
    photo.lineage.status = CRASHED


def _signal_name(number: int) -> str:
    name = signal.Signals(number).name
    return f"{name}, as when memory runs out" if number == signal.SIGKILL else name


def _where(folder: Path) -> str:
    """The exception that ended the process, or the line that was at work, if it could report it."""
    told = (folder / "errors").read_text(errors="replace")
    if "Traceback (most recent call last):" in told:
        return f" by {told.strip().splitlines()[-1].rstrip('.')}"
    found = re.search(r'File "([^"]+)", line (\d+) in (\S+)', told)
    return f" in {found[3]} ({Path(found[1]).name}:{found[2]})" if found else ""


def _step(folder: Path) -> tuple[str, str]:
    """What the child does (``make`` or ``run``), and the step's name."""
    try:
        doing, _, step = (folder / "step").read_text().partition(" ")
    except FileNotFoundError:
        return "make", "start"
    return doing, step


def _main(folder: Path) -> None:
    import cv2  # noqa: PLC0415 - for the child alone

    cv2.setNumThreads(1)
    photo, job = pickle.loads((folder / "task").read_bytes())  # noqa: S301 - our own process's
    result: object
    try:
        _run(photo, job, folder)
        photo.drop_all()
        result = photo.lineage
    except CatalogCleanupError as error:
        result = error
    _replace(folder / "result", pickle.dumps(result))


def _run(photo: Photo, job: Job, folder: Path) -> None:
    steps = job.steps(job.recipe, job.plan.output)
    if all(step.pool == "cpu" for step in steps):
        limit_memory(job.recipe.limits.max_memory_mib)
    for step in steps:
        _replace(folder / "step", f"make {step.name}".encode())
        work = step.make()
        _replace(folder / "step", f"run {step.name}".encode())
        run_steps([photo], [(step.name, work)])
        del work


def _replace(path: Path, data: bytes) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(data)
    unfinished.replace(path)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
