"""``catalog-cleanup stop``: end a run gracefully, wherever it is at work."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import streams
from jobs.cli.options import DashboardOption, parse_run
from jobs.cli.submit import absolute, job_api

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from manifests.runs import RunRecord

#: Ray kills a job some seconds after it has asked it to end.
_KILLED_S = 30.0
_POLL_S = 1.0


def stop(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="DEST_OR_JOB", help="A run's --output, or a job's id.")
    ],
    address: Annotated[str | None, DashboardOption] = None,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0, help="Seconds to wait for the photos in flight.")
    ] = 300.0,
) -> None:
    """Stop a run gracefully. Photos in flight end and are recorded, no others are begun.

    The run need not be a job of a cluster. A job that has not ended after --timeout is ended by
    Ray, if --address is given. Exit codes: 0 nothing runs there any more; 1 something still does.
    """
    from manifests.errors import OutputError
    from manifests.runs import records

    streams.keep_working()
    with job_api(address) if address else nullcontext(None) as client:
        listed = {str(job.submission_id): job for job in client.list_jobs()} if client else {}
        outputs = {name: _output_of(context, job) for name, job in listed.items()}
        job = target if outputs.get(target) else None
        output = outputs[target] if job else absolute(target)
        jobs = {job} if job else {name for name in outputs if outputs[name] == output}
        if not jobs and not records(output):
            text = f"There is no run at {target}; to stop a job by its id, name its --address."
            raise OutputError("output.not_found", text)
        begun = _running_runs(output, job)
        for run in begun.values():
            typer.echo(f"Run {run.run_id}: its photos in flight end, and no others begin ...")
            run.request_stop()
        _within(timeout, lambda: not begun.keys() & _running_runs(output, job))
        left = {begun[each].facts.get("job") for each in begun.keys() & _running_runs(output, job)}
        gone = {run.facts.get("job") for run in begun.values()} - left
        forced = [each for each in jobs - gone if not listed[each].status.is_terminal()]
        left = left - set(forced) | {each for each in forced if not _end_by_ray(client, each)}
    typer.echo("It has not ended yet." if left else "Nothing is at work there any more.")
    raise typer.Exit(1 if left else 0)


def _output_of(context: typer.Context, job: JobDetails) -> str:
    """What a job's command was given as ``--output``; empty if it is no run of ours."""
    try:
        words = shlex.split(job.entrypoint)
        call = parse_run(context, words[words.index("run") + 1 :], resilient=True)
    except ValueError:
        return ""
    return call.params.get("output") or ""


def _end_by_ray(client: Any, job: str) -> bool:
    """Have Ray end a job, which it kills when it takes long; returns whether it has ended."""
    client.stop_job(job)
    return _within(_KILLED_S, lambda: client.get_job_status(job).is_terminal())


def _running_runs(output: str, job: str | None) -> dict[str, RunRecord]:
    """Run id -> record of the runs at work on an output folder, or of those that are this job."""
    from manifests.runs import records, seems_alive

    alive = [run for run in records(output) if seems_alive(run)]
    return {run.run_id: run for run in alive if job in (None, run.facts.get("job"))}


def _within(seconds: float, has_ended: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (ended := has_ended()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return ended
