"""The commands about an output folder: what is in it, and stopping a run that fills it."""

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
from jobs.report import SAMPLE

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from manifests.runs import RunRecord

#: Ray kills a job some seconds after it has asked it to end.
_KILLED_S = 30.0
_POLL_S = 1.0

DestArgument = Annotated[
    str, typer.Argument(metavar="DEST", help="What was given to `run` as --output.")
]


def status(
    output: DestArgument,
    by_shard: Annotated[
        bool, typer.Option("--by-shard", help="Also show each shard by itself.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, all shards included.")] = False,
) -> None:
    """Show what is done, failed and left, and the current speed."""
    from rich.console import Console

    from jobs.results.status import as_json, show

    if json_:
        typer.echo(as_json(output))
    else:
        show(Console(), output, by_shard=by_shard)


def failures(
    output: DestArgument,
    to: Annotated[
        str, typer.Option(metavar="MANIFEST", help="Where to: a path or s3:// URI in .jsonl.")
    ] = "failures.jsonl",
) -> None:
    """Write a manifest of the rows that failed or crashed, with reasons."""
    from jobs.results.failures import write_failures

    streams.keep_working()
    count = write_failures(output, to)
    typer.echo(f"{to}: {count} {'photo' if count == 1 else 'photos'}")


def verify(
    output: DestArgument,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Check only N photos, evenly drawn.")
    ] = None,
) -> None:
    """Check that nothing changed outside the masks, except what the lineage records.

    Files are read by code that shares nothing with what wrote them. Exit codes: 0 all match; 3 some
    differ; 4 none differs, but some could not be checked; 1 there is no run.
    """
    from rich.console import Console

    from jobs.results.verify import show

    raise typer.Exit(show(Console(), output, sample))


def report(
    output: DestArgument,
    sample: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Number of photos with pictures: flagged ones first, then failed ones (at most "
            "half), then others, evenly drawn. 0: all.",
        ),
    ] = SAMPLE,
    only: Annotated[
        str,
        typer.Option(
            metavar="KINDS", help="List only these: flagged, failed, crashed, ok; comma-separated."
        ),
    ] = "",
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_HASH", help="Show this recipe's results alone; else all recipes'."
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="DEST_OR_RECIPE",
            help="Show the same ids beside them from another output folder, or from another recipe "
            "of this one.",
        ),
    ] = None,
    hourly_price: Annotated[
        float | None,
        typer.Option(
            min=0, help="Dollars per hour of all machines together, to show the cost of a photo."
        ),
    ] = None,
) -> None:
    """Write a page to look at results, and to mark what to do again.

    It is DEST/report/index.html, and opens from disk or from a bucket.
    """
    from rich.console import Console

    from jobs.report.write import write_report

    kinds = frozenset(filter(None, only.replace(" ", "").split(",")))
    if unknown := kinds - {"flagged", "ok", "failed", "crashed"}:
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}", param_hint="--only")
    streams.keep_working()
    page = write_report(
        output,
        Console(stderr=True),
        sample=sample,
        only=kinds,
        recipe=recipe,
        compare=compare,
        hourly_price=hourly_price,
    )
    typer.echo(page)


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
    from manifests.errors import DestinationError
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
            raise DestinationError("output.not_found", text)
        begun = _at_work(output, job)
        for run in begun.values():
            typer.echo(f"Run {run.run_id}: its photos in flight end, and no others begin ...")
            run.ask_to_stop()
        _within(timeout, lambda: not begun.keys() & _at_work(output, job))
        left = {begun[each].facts.get("job") for each in begun.keys() & _at_work(output, job)}
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


def _at_work(output: str, job: str | None) -> dict[str, RunRecord]:
    """Run id -> record of the runs at work on an output folder, or of those that are this job."""
    from manifests.runs import records, shows_life

    alive = [run for run in records(output) if shows_life(run)]
    return {run.run_id: run for run in alive if job in (None, run.facts.get("job"))}


def _within(seconds: float, has_ended: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (ended := has_ended()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return ended
