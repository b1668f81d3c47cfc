"""One photo in a process of its own, whose end is recorded and costs nothing else.

A photo that took its worker with it comes here. Its process loads one model at a time, so that all
steps fit on the device of one; whatever it does (a signal, an endless loop, an exit), the actor
that watches it lives on and records how the photo ended.

Not a task of Ray's: that would report neither the signal nor the line of code.
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
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from jobs.pipeline.limits import limit_memory
from jobs.pipeline.spec import RunSpec
from manifests.errors import CatalogCleanupError
from manifests.schema import CRASHED
from stages.photo import Photo
from stages.steps.base import fail, run_steps

#: For loading a model, over a network if need be; also the limit for the process to start.
_MAX_LOADING_S = 3600.0


def run_isolated(photo: Photo, spec: RunSpec) -> None:
    """Take a photo through all steps of a spec in a child process, and note how it ended.

    Raises:
        CatalogCleanupError: as in the process: no fault of the row.
    """
    from ray import cloudpickle  # takes a second, which the child need not spend

    if not photo.ok:
        return
    with tempfile.TemporaryFile() as task, tempfile.TemporaryFile() as output:
        # By value what is only known here, as functions of a driver's main module.
        task.write(cloudpickle.dumps((photo, spec)))  # type: ignore[no-untyped-call]
        task.seek(0)
        made = _watch(photo, spec.recipe.limits.max_seconds, task, output)
    if isinstance(made, CatalogCleanupError):
        raise made
    if made is not None:
        photo.lineage = made


def _watch(photo: Photo, max_s: float, task: IO[bytes], output: IO[bytes]) -> Any:
    """Run the child until it sends what became of the photo; None, and a failed photo, if never."""
    receiver, sender = Pipe(duplex=False)
    descriptor = sender.fileno()
    command = [sys.executable, "-X", "faulthandler", "-m", "jobs.pipeline.isolated"]
    child = subprocess.Popen(
        [*command, str(descriptor)],
        stdin=task,
        stdout=output,
        stderr=output,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        pass_fds=[descriptor],
    )
    sender.close()
    left_s = {"make": _MAX_LOADING_S, "run": max_s}
    doing, step, code = "make", "start", None
    try:
        began = time.monotonic()
        while receiver.poll(left_s[doing]):
            now = time.monotonic()
            left_s[doing] -= now - began
            began = now
            doing, step, made = receiver.recv()
            if doing == "end":
                return made
    except (EOFError, OSError):  # OSError: it died while it sent
        code = child.wait()
    finally:
        child.kill()
        child.wait()
        receiver.close()
    output.seek(0)
    _note_end(photo, step, code, max_s, output.read().decode(errors="replace"))
    return None


def _note_end(photo: Photo, step: str, code: int | None, max_s: float, output: str) -> None:
    if code is None:
        text = f"The photo {photo.lineage.image_uri} was still in step {step} after {max_s:g} s."
        fail(photo, "row.timeout", text, step)
        return
    how = f"exit code {code}" if code >= 0 else _signal_name(-code)
    text = f"The process of {photo.lineage.image_uri} died in step {step}: {how}{_where(output)}."
    fail(photo, "row.crashed", text, step)
    photo.lineage.status = CRASHED


def _signal_name(number: int) -> str:
    name = signal.Signals(number).name
    return f"{name}, as when memory runs out" if number == signal.SIGKILL else name


def _where(output: str) -> str:
    """The exception that ended the process, or the line that was at work, if it could report it."""
    if "Traceback (most recent call last):" in output:
        return f" by {output.strip().splitlines()[-1].rstrip('.')}"
    found = re.search(r'File "([^"]+)", line (\d+) in (\S+)', output)
    return f" in {found[3]} ({Path(found[1]).name}:{found[2]})" if found else ""


def _main(sender: Connection) -> None:
    """In the child: send each step, (doing, name, None), and at last ("end", "", the outcome)."""
    import cv2  # for the child alone

    cv2.setNumThreads(1)
    photo, spec = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own process's
    made: object
    try:
        _run(photo, spec, sender)
        photo.drop_all()
        made = photo.lineage
    except CatalogCleanupError as error:
        made = error
    sender.send(("end", "", made))


def _run(photo: Photo, spec: RunSpec, sender: Connection) -> None:
    steps = spec.steps(spec.recipe, spec.plan.output)
    if all(step.pool == "cpu" for step in steps):
        limit_memory(spec.recipe.limits.max_memory_mib)
    for step in steps:
        sender.send(("make", step.name, None))
        work = step.build()
        sender.send(("run", step.name, None))
        run_steps([photo], [(step.name, work)])
        del work


if __name__ == "__main__":
    _main(Connection(int(sys.argv[1]), readable=False))
