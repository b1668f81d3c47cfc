"""Runs one photo in its own process, so that a crash costs only this photo.

Photos whose worker died are processed here. The process loads one model at a time, so that all
steps fit on one device. Whatever happens in it (a signal, an endless loop, an exit), the actor that
watches it survives and records how the photo ended.

A Ray task would report neither the signal nor the line of code.
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
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from jobs.pipeline.limits import limit_memory
from jobs.pipeline.monitor import MonitorClient
from jobs.pipeline.spec import RunSpec
from manifests.errors import CatalogCleanupError, ClusterError, DeviceError
from manifests.schema import CRASHED
from stages.photo import Photo
from stages.steps.base import fail, run_steps

#: Max time to start the process and to load all models, possibly over a network.
_MAX_LOADING_S = 3600.0

#: Max time for the process to exit after an error; CUDA may hang when it is torn down.
_MAX_EXIT_S = 60.0


def run_isolated(photo: Photo, spec: RunSpec) -> None:
    """Run all steps on a photo in a child process, and record how it ended.

    Raises:
        CatalogCleanupError: raised in the process, and not an error of the row;
            ``cluster.workers_failed``: its models did not load in time.
    """
    from ray import cloudpickle  # takes a second; the child does not need it

    if not photo.ok:
        return
    with tempfile.TemporaryFile() as task, tempfile.TemporaryFile() as output:
        # By value, since functions of a driver's main module cannot be imported elsewhere.
        alone = replace(spec, monitor=MonitorClient())  # handles of actors are of no use there
        task.write(cloudpickle.dumps((photo, alone)))  # type: ignore[no-untyped-call]
        task.seek(0)
        result = _watch(photo, spec.recipe.limits.max_seconds, task, output)
    if isinstance(result, CatalogCleanupError):
        raise result
    if result is not None:
        photo.lineage = result


def _watch(photo: Photo, max_s: float, task: IO[bytes], output: IO[bytes]) -> Any:
    """Run the child until it sends a result; if it never does, fail the photo and return None.

    If it is still loading after its time, that is not the photo's fault: the result is an error.
    """
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
    left_s = {"build": _MAX_LOADING_S, "run": max_s}
    phase, step, has_died = "build", "start", False
    code: int | None = None
    try:
        since = time.monotonic()
        while receiver.poll(left_s[phase]):
            now = time.monotonic()
            left_s[phase] -= now - since
            since = now
            phase, step, result = receiver.recv()
            if phase == "end":
                return result
    except (EOFError, OSError):  # OSError: it died while sending
        has_died = True
        with suppress(subprocess.TimeoutExpired):
            code = child.wait(_MAX_EXIT_S)
    finally:
        child.kill()
        child.wait()
        receiver.close()
    if has_died:
        output.seek(0)
        _record_death(photo, step, code, output.read().decode(errors="replace"))
    elif phase == "build":
        text = f"The step {step} was still loading after {_MAX_LOADING_S:g} s, in its own process."
        return ClusterError("cluster.workers_failed", text)
    else:
        text = f"The photo {photo.lineage.image_uri} was still in step {step} after {max_s:g} s."
        fail(photo, "row.timeout", text, step)
    return None


def _record_death(photo: Photo, step: str, code: int | None, output: str) -> None:
    """Record that the process died in a step; without a code, it had to be killed."""
    if code is None:
        how = f"it did not exit within {_MAX_EXIT_S:g} s"
    else:
        how = f"exit code {code}" if code >= 0 else _signal_name(-code)
    text = f"The process of {photo.lineage.image_uri} died in step {step}: {how}{_where(output)}."
    fail(photo, "row.crashed", text, step)
    photo.lineage.status = CRASHED


def _signal_name(number: int) -> str:
    name = signal.Signals(number).name
    return f"{name}, as when memory runs out" if number == signal.SIGKILL else name


def _where(output: str) -> str:
    """The exception that ended the process, or the line that was running, if it was reported."""
    if "Traceback (most recent call last):" in output:
        return f" by {output.strip().splitlines()[-1].rstrip('.')}"
    found = re.search(r'File "([^"]+)", line (\d+) in (\S+)', output)
    return f" in {found[3]} ({Path(found[1]).name}:{found[2]})" if found else ""


def _main(sender: Connection) -> None:
    """In the child: send (phase, name, None) for each step, and at last ("end", "", result)."""
    import cv2  # only the child needs it

    cv2.setNumThreads(1)
    photo, spec = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by our own process
    result: object
    try:
        _run(photo, spec, sender)
        photo.drop_all()
        result = photo.lineage
    except DeviceError:
        raise  # with this photo, the process cannot go on: it crashed
    except CatalogCleanupError as error:
        result = error
    sender.send(("end", "", result))


def _run(photo: Photo, spec: RunSpec, sender: Connection) -> None:
    steps = spec.steps(spec.recipe, spec.plan.output)
    if all(step.pool == "cpu" for step in steps):
        limit_memory(spec.recipe.limits.max_memory_mib)
    for step in steps:
        sender.send(("build", step.name, None))
        work = step.build()
        sender.send(("run", step.name, None))
        run_steps([photo], [(step.name, work)])
        del work


if __name__ == "__main__":
    with Connection(int(sys.argv[1]), readable=False) as to_actor:  # closed before a slow exit
        _main(to_actor)
