"""Runs as jobs of a Ray cluster: sent, followed, listed and stopped through its job API."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.run import EXIT_UNFINISHED
from manifests.errors import ClusterError
from manifests.runs import RunRecord, records, shows_life

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

#: For so long a dashboard that does not answer any more is asked again.
_PATIENCE_S = 300.0

#: Ray kills a job some seconds after it has asked it to end.
_KILLED_S = 30.0

_POLL_S = 1.0

#: What a checkout is shipped as; the rest of it stays behind.
_PACKAGES = ("jobs", "stages", "cluster", "manifests")


def connect(address: str) -> JobSubmissionClient:
    """Reach the job API of a cluster; where it asks for a token, as Ray finds it.

    Args:
        address: of its dashboard, ``http://HEAD:8265``.

    Raises:
        ClusterError: ``cluster.unreachable``: nobody there, or the token is not the right one.
    """
    if not address.startswith(("http://", "https://")):
        raise ClusterError(
            "cluster.unreachable",
            f"{address} is not the address of a dashboard, which is http://HEAD:8265 or the like.",
        )
    # Else RAY_ADDRESS, which may be set for other commands, would go before the address given.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    from ray.job_submission import JobSubmissionClient  # noqa: PLC0415 - slow to load

    logging.getLogger("ray").setLevel(logging.WARNING)  # it tells of each package that is sent
    with _told(address):
        return JobSubmissionClient(address)


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Turn what the client raises into an error that says where."""
    from ray.exceptions import AuthenticationError  # noqa: PLC0415 - slow to load
    from requests import RequestException  # noqa: PLC0415 - likewise

    try:
        yield
    except (AuthenticationError, ConnectionError, RequestException) as error:
        text = str(error).strip().splitlines()[0].rstrip(".")
        raise ClusterError("cluster.unreachable", f"Ray at {address}: {text}.") from error
    except RuntimeError as error:  # what the server answers to a request that it refuses
        raise ClusterError("cluster.refused", f"Ray at {address}: {error}") from error


def send(
    client: JobSubmissionClient,
    arguments: Sequence[str],
    *,
    python: str = "python",
    files: Mapping[str, Path] | None = None,
    environment: Mapping[str, str] | None = None,
    checkout: Path | None = None,
) -> str:
    """Submit a call of ``catalog-cleanup``; returns the job's id.

    Args:
        client: see :func:`connect`.
        arguments: the command line behind ``catalog-cleanup``; what it names of ``files`` it finds
            in its working folder.
        python: the cluster's interpreter, a path or a name in the head's PATH.
        files: name there -> path here.
        environment: variables of the job, its workers included. Whoever sees the dashboard sees
            them.
        checkout: a clone of this repository whose code runs there; None runs what is installed.

    Raises:
        ClusterError: the cluster does not take the job.
    """
    runtime: dict[str, Any] = {"env_vars": dict(environment or {})}
    if checkout:
        runtime["py_modules"] = [str(checkout / name) for name in _PACKAGES]
        runtime["excludes"] = ["__pycache__"]
    with tempfile.TemporaryDirectory() as folder, _told(client.get_address()):
        for name, path in (files or {}).items():
            shutil.copyfile(path, Path(folder) / name)
            runtime["working_dir"] = folder
        return client.submit_job(
            entrypoint=shlex.join([python, "-m", "jobs.cli", *arguments]), runtime_env=runtime
        )


def follow(client: JobSubmissionClient, job: str, write: Callable[[str], object]) -> JobDetails:
    """Write a job's log as it grows, from its beginning on; returns when the job has ended.

    Args:
        client: see :func:`connect`.
        job: its submission id.
        write: takes pieces of the log.

    Raises:
        ClusterError: the dashboard has not answered for minutes; the job may go on.
    """
    from aiohttp import ClientError  # noqa: PLC0415 - slow to load

    written, deadline = 0, time.monotonic() + _PATIENCE_S

    async def tail() -> None:
        nonlocal written, deadline
        skipped = written  # each connection begins at the beginning
        async for piece in client.tail_job_logs(job):
            deadline = time.monotonic() + _PATIENCE_S
            new = piece[skipped:]
            skipped -= len(piece) - len(new)
            written += len(new)
            write(new)

    while True:
        try:
            asyncio.run(tail())
            details = client.get_job_info(job)
        except (ClientError, OSError, RuntimeError) as error:  # requests' are OSErrors
            if time.monotonic() > deadline:
                text = f"Ray at {client.get_address()}: {error}"
                raise ClusterError("cluster.unreachable", text) from error
        else:
            if details.status.is_terminal():
                return details
        time.sleep(_POLL_S)


def exit_code(details: JobDetails) -> int:
    """The exit code of a job's run: 0, 2 or 1, also where the job API does not know it.

    Args:
        details: of a job that has ended.
    """
    code = details.driver_exit_code
    if code is None and (record := run_of(details)):
        code = record.facts.get("exit_code")
    return code if code in (0, 2) else EXIT_UNFINISHED


def run_of(details: JobDetails) -> RunRecord | None:
    """The record of a job's run; None where it has left none."""
    output = output_of(details)
    ours = [each for each in records(output) if each.facts.get("job") == details.submission_id]
    return ours[-1] if ours else None


def output_of(details: JobDetails) -> str:
    """What the job's command was given as ``--output``; empty if it is no run of ours."""
    try:
        words = shlex.split(details.entrypoint)
    except ValueError:
        return ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--output":
            return following
        if word.startswith("--output="):
            return word.removeprefix("--output=")
    return ""


def submitted(client: JobSubmissionClient) -> list[JobDetails]:
    """The cluster's jobs that clean catalogs, the latest last.

    Raises:
        ClusterError: it does not answer.
    """
    with _told(client.get_address()):
        jobs = client.list_jobs()
    ours = [job for job in jobs if job.submission_id and output_of(job)]
    return sorted(ours, key=lambda job: job.start_time or 0)


def at_work(output: str) -> list[RunRecord]:
    """The runs that are at work on an output folder.

    Args:
        output: path or URI.
    """
    return [record for record in records(output) if shows_life(record)]


def end_run(record: RunRecord, client: JobSubmissionClient | None, wait_s: float) -> bool:
    """Ask a run to stop, wait until it has, and only then end its job.

    Args:
        record: of the run.
        client: of the cluster that it is a job of; None: it is only asked.
        wait_s: how long the photos in flight may take, in s.

    Returns:
        Whether it has ended.

    Raises:
        ClusterError: the cluster does not answer.
    """
    record.ask_to_stop()
    if _within(wait_s, lambda: not _works(record)):
        return True
    job = record.facts.get("job")
    return end_job(client, job) if client and job else False


def end_job(client: JobSubmissionClient, job: str) -> bool:
    """End a job by Ray, which kills it when it takes long; returns whether it has ended.

    Raises:
        ClusterError: the cluster does not answer, or has no such job.
    """
    with _told(client.get_address()):
        client.stop_job(job)
        return _within(_KILLED_S, lambda: client.get_job_status(job).is_terminal())


def _works(record: RunRecord) -> bool:
    return any(each.run_id == record.run_id for each in at_work(record.output))


def _within(seconds: float, has_ended: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (ended := has_ended()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return ended
