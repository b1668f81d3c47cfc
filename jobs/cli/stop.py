"""``catalog-cleanup stop``: stops a run gracefully, wherever it runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import streams
from jobs.cli.options import RUNS, DashboardOption, parse_run
from jobs.cli.submit import absolute, job_api

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from manifests.runs import RunRecord

#: Ray kills a job some seconds after asking it to stop.
_KILL_TIMEOUT_S = 30.0
_POLL_S = 1.0


def stop(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="DEST_OR_JOB", help="A run's --output, or a job's id.")
    ],
    address: Annotated[str | None, DashboardOption] = None,
    timeout: Annotated[
        float, typer.Option(metavar="S", min=0, help="Seconds to wait for photos in flight.")
    ] = 300.0,
) -> None:
    """Stop a run gracefully. Photos in flight are finished and recorded, and no others start.

    The run need not be a job of a cluster. With --address, Ray ends a job that is still running
    after --timeout. Exit codes: 0 no run is active; 1 one is still running.
    """
    from jobs.results.recipe_runs import reading_runs
    from manifests.errors import OutputError
    from manifests.runs import records

    streams.tolerate_lost_output()
    with job_api(address) if address else nullcontext(None) as client:
        listed = {str(job.submission_id): job for job in client.list_jobs()} if client else {}
        outputs = {name: _output_of(context, job) for name, job in listed.items()}
        job = target if outputs.get(target) else None
        output = outputs[target] if job else absolute(target)
        jobs = {job} if job else {name for name in outputs if outputs[name] == output}
        with reading_runs(target):
            found = records(output)
        if not jobs and not found:
            text = f"There is no run at {target}; to stop a job by its id, name its --address."
            raise OutputError("output.not_found", text)
        running = _running_runs(output, job)
        for run in running.values():
            typer.echo(f"Run {run.run_id}: finishing the photos in flight ...")
            run.request_stop()
        _wait_until(timeout, lambda: not running.keys() & _running_runs(output, job))
        left = {
            running[each].facts.get("job") for each in running.keys() & _running_runs(output, job)
        }
        gone = {run.facts.get("job") for run in running.values()} - left
        forced = [each for each in jobs - gone if not listed[each].status.is_terminal()]
        left = left - set(forced) | {each for each in forced if not _end_by_ray(client, each)}
    typer.echo("The run has not stopped yet." if left else "No run is active there.")
    raise typer.Exit(1 if left else 0)


def _output_of(context: typer.Context, job: JobDetails) -> str:
    """The ``--output`` of a job's command; empty if the job is neither `run` nor `detect`."""
    try:
        words = shlex.split(job.entrypoint)
        start = min(words.index(name) for name in RUNS if name in words)
        call = parse_run(context, words[start + 1 :], name=words[start], resilient=True)
    except ValueError:
        return ""
    return call.params.get("output") or ""


def _end_by_ray(client: Any, job: str) -> bool:
    """Let Ray stop a job, or kill it if that takes too long; returns whether it has ended."""
    client.stop_job(job)
    return _wait_until(_KILL_TIMEOUT_S, lambda: client.get_job_status(job).is_terminal())


def _running_runs(output: str, job: str | None) -> dict[str, RunRecord]:
    """Run id -> record of the active runs on an output folder, optionally of one job only."""
    from manifests.runs import records, seems_alive

    alive = [run for run in records(output) if seems_alive(run)]
    return {run.run_id: run for run in alive if job in (None, run.facts.get("job"))}


def _wait_until(seconds: float, has_ended: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (ended := has_ended()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return ended
