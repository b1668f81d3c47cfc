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
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from jobs.pipeline.limits import limit_memory
from jobs.pipeline.spec import RunSpec
from jobs.pipeline.supervisor import SupervisorClient
from manifests.errors import CatalogCleanupError, ClusterError, DeviceError
from manifests.schema import CRASHED
from stages.photo import Photo
from stages.steps.base import fail, run_steps

#: Max time to start the process and to load all models, possibly over a network.
_MAX_LOADING_S = 3600.0

#: Number of processes that may die while loading, one after another, before the run ends.
_MAX_LOADS = 3

#: Max time for the process to exit after an error; CUDA may hang when it is torn down.
_MAX_EXIT_S = 60.0


@dataclass(frozen=True, slots=True)
class _End:
    """How a child ended.

    Attributes:
        phase: ``build`` or ``run`` if it died in a step or took too long; ``end`` if it finished.
        step: the step that it was in.
        has_begun: whether it had begun to work on a photo.
        result: what it sent at its end.
        death: how it died; empty if it did not.
    """

    phase: str
    step: str
    has_begun: bool
    result: Any
    death: str


def run_isolated(photo: Photo, spec: RunSpec) -> None:
    """Run all steps on a photo in a child process, and record how it ended.

    Raises:
        CatalogCleanupError: raised in the process, and not an error of the row;
            ``cluster.workers_failed``: it could not load its libraries or models.
    """
    if not photo.ok:
        return
    end = _watch(photo, spec)
    for _ in range(_MAX_LOADS - 1):  # memory may be short for a moment
        if end.phase == "build" and end.death and not end.has_begun:
            end = _watch(photo, spec)
    if end.phase == "build" and end.has_begun and end.death:
        # Did the photo leave too little memory, or do the models not load without it either?
        without = _watch(None, spec)
        loads = without.phase == "end" and not without.result
        end = replace(end, phase="run") if loads else without
    if isinstance(end.result, CatalogCleanupError):
        raise end.result
    if end.phase == "end":
        photo.lineage = end.result
    elif end.phase == "build":
        slow = f"was still loading after {_MAX_LOADING_S:g} s"
        how = f"died while loading: {end.death}" if end.death else slow
        text = f"In its own process, the step {end.step} {how}."
        raise ClusterError("cluster.workers_failed", text)
    elif end.death:
        uri = photo.lineage.image_uri
        text = f"The process of {uri} died in step {end.step}: {end.death}."
        fail(photo, "row.crashed", text, end.step)
        photo.lineage.status = CRASHED
    else:
        seconds = f"{spec.recipe.limits.max_seconds:g} s"
        text = f"The photo {photo.lineage.image_uri} was still in step {end.step} after {seconds}."
        fail(photo, "row.timeout", text, end.step)


def _watch(photo: Photo | None, spec: RunSpec) -> _End:
    """Run the child until it ends or its time is up; without a photo, it only loads all steps."""
    from ray import cloudpickle  # takes a second; the child does not need it

    with tempfile.TemporaryFile() as task, tempfile.TemporaryFile() as output:
        # By value, since functions of a driver's main module cannot be imported elsewhere.
        sent = replace(spec, supervisor=SupervisorClient())  # handles of actors are of no use there
        task.write(cloudpickle.dumps((photo, sent)))  # type: ignore[no-untyped-call]
        task.seek(0)
        receiver, child = _start(task, output)
        left_s = {"build": _MAX_LOADING_S, "run": spec.recipe.limits.max_seconds}
        phase, step, result, death, has_begun = "build", "start", None, "", False
        try:
            since = time.monotonic()
            while phase != "end" and receiver.poll(left_s[phase]):
                now = time.monotonic()
                left_s[phase] -= now - since
                since = now
                phase, step, result = receiver.recv()
                has_begun |= phase == "run"
        except (EOFError, OSError):  # OSError: it died while sending
            death = _how_it_died(child, output)
        finally:
            child.kill()
            child.wait()
            receiver.close()
    return _End(phase, step, has_begun, result, death)


def _start(task: IO[bytes], output: IO[bytes]) -> tuple[Connection, subprocess.Popen[bytes]]:
    """Start the child; returns the pipe that receives what it sends, and its process."""
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
    return receiver, child


def _how_it_died(child: subprocess.Popen[bytes], output: IO[bytes]) -> str:
    """The exit code or signal of a child that sends no more, and where, if that is known."""
    try:
        code = child.wait(_MAX_EXIT_S)
        how = f"exit code {code}" if code >= 0 else _signal_name(-code)
    except subprocess.TimeoutExpired:
        how = f"it did not exit within {_MAX_EXIT_S:g} s"
    output.seek(0)
    return how + _where(output.read().decode(errors="replace"))


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
    result: object = None
    try:
        _run(photo, spec, sender)
        if photo:
            photo.drop_all()
            result = photo.lineage
    except DeviceError:
        raise  # the process cannot go on: it died
    except CatalogCleanupError as error:
        result = error
    sender.send(("end", "", result))


def _run(photo: Photo | None, spec: RunSpec, sender: Connection) -> None:
    steps = spec.build_steps(spec.recipe, spec.plan.output)
    if all(step.pool == "cpu" for step in steps):
        limit_memory(spec.recipe.limits.max_memory_mib)
    for step in steps:
        sender.send(("build", step.name, None))
        function = step.build()
        if photo:
            sender.send(("run", step.name, None))
            run_steps([photo], [(step.name, function)])
        del function


if __name__ == "__main__":
    with Connection(int(sys.argv[1]), readable=False) as to_actor:  # closed before a slow exit
        _main(to_actor)
