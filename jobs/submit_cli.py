"""The commands about jobs of a Ray cluster: ``submit``, ``jobs``, ``stop``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import streams
from jobs.models_cli import TrustOption
from jobs.plan_cli import ManifestArgument, RowsPerShardOption, StrictOption
from jobs.run_options import (
    DEFAULT_RECIPE,
    CheckInputsOption,
    OutputOption,
    PoolsOption,
    PricesOption,
    RecipeOption,
    RetryOption,
    SetOption,
    ShardsOption,
    parse_statuses,
)

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

_ADDRESS = typer.Option(
    metavar="http://HEAD:8265",
    envvar="RAY_API_SERVER_ADDRESS",
    help="The dashboard of the Ray cluster. For its token, set RAY_AUTH_MODE=token.",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(submit)
    app.command("jobs")(list_jobs)
    app.command()(stop)


def submit(
    manifest: ManifestArgument,
    output: OutputOption,
    address: Annotated[str, _ADDRESS],
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    retry: RetryOption = "",
    shards: ShardsOption = "",
    check_inputs: CheckInputsOption = True,
    strict: StrictOption = False,
    rows_per_shard: RowsPerShardOption = None,
    pools: PoolsOption = None,
    prices: PricesOption = None,
    trust: TrustOption = False,
    follow: Annotated[
        bool, typer.Option(help="Show the job's log, and end with its exit code.")
    ] = True,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="Set a variable for the job and its workers, by default as it is here. "
            "Whoever sees the dashboard sees it. Repeatable.",
        ),
    ] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKOUT",
            exists=True,
            file_okay=False,
            help="Run the code of this clone of catalog-cleanup, instead of what is installed on "
            "the cluster.",
        ),
    ] = None,
    python: Annotated[
        str, typer.Option(help="The cluster's interpreter: a path, or a name in its head's PATH.")
    ] = "python",
) -> None:
    """Clean all photos of a manifest as a job of a Ray cluster.

    Files of recipe, pools and prices are sent along. MANIFEST, DEST and what they name must be
    reachable from the cluster: in S3, or on a disk that its nodes share. Exit code: the run's own,
    0, 2 or 1; with --no-follow 0 once the cluster has the job.
    """
    from jobs.cost import load_prices
    from jobs.placing import load_pools
    from jobs.submit import connect, send
    from stages.recipe import Recipe, preset_names

    streams.keep_working()
    parse_statuses(retry)
    Recipe.load(recipe, set_ or ())  # what is wrong with it is told here and now
    environment = _variables(env or ())
    files = {} if recipe in preset_names() else {"my-recipe.toml": Path(recipe)}
    where = _absolute(output)
    call = ["run", _absolute(manifest), "--output", where]
    call += ["--recipe", "my-recipe.toml" if files else recipe]
    if pools:
        load_pools(pools)
        files["pools.toml"] = Path(pools)
        call += ["--pools", "pools.toml"]
    if prices:
        load_prices(prices)
        files["prices.toml"] = prices
        call += ["--prices", "prices.toml"]
    call += [word for each in set_ or () for word in ("--set", each)]
    call += [f"--retry={retry}"] if retry else []
    call += [f"--shards={shards}"] if shards else []
    call += [] if check_inputs else ["--no-check-inputs"]
    call += ["--strict"] if strict else []
    call += [f"--rows-per-shard={rows_per_shard}"] if rows_per_shard else []
    call += ["--trust"] if trust else []
    client = connect(address)
    job = send(
        client,
        call,
        python=python,
        files=files,
        environment=environment,
        checkout=working_dir.absolute() if working_dir else None,
    )
    typer.echo(f"Job {job} at {address} cleans into {where}.")
    typer.echo(f"To stop it: catalog-cleanup stop {job} --address {address}")
    if follow:
        raise typer.Exit(_followed(client, job))


def _absolute(place: str) -> str:
    """A path as the cluster's nodes know it, which work in another folder."""
    return place if "://" in place else str(Path(place).absolute())


def _variables(env: Sequence[str]) -> dict[str, str]:
    given = {}
    for each in env:
        name, equals, value = each.partition("=")
        if not equals and name not in os.environ:
            raise typer.BadParameter(f"{name} is not set here", param_hint="--env")
        given[name] = value if equals else os.environ[name]
    return given


def _followed(client: JobSubmissionClient, job: str) -> int:
    from jobs.submit import exit_code, follow

    try:
        details = follow(client, job, lambda text: (sys.stdout.write(text), sys.stdout.flush()))
    except KeyboardInterrupt:
        typer.echo(
            f"\nNo longer following. The job goes on: `ray job logs --follow {job}` follows it, "
            f"`catalog-cleanup stop {job}` stops it."
        )
        return 1
    code = exit_code(details)
    if details.driver_exit_code is None and details.message:
        typer.echo(details.message, err=True)
    typer.echo(f"Job {job} has ended with exit code {code}.")
    return code


def list_jobs(address: Annotated[str, _ADDRESS]) -> None:
    """List a cluster's jobs that clean catalogs, the latest last."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from jobs.submit import connect, output_of, submitted

    table = Table("job", "status", "exit code", "started", "output", box=SIMPLE)
    for job in submitted(connect(address)):
        code = "" if job.driver_exit_code is None else str(job.driver_exit_code)
        table.add_row(job.submission_id, job.status.value, code, _started(job), output_of(job))
    Console().print(table)


def _started(job: JobDetails) -> str:
    return f"{datetime.fromtimestamp((job.start_time or 0) / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def stop(
    target: Annotated[
        str, typer.Argument(metavar="DEST_OR_JOB", help="A run's --output, or a job's id.")
    ],
    address: Annotated[str | None, _ADDRESS] = None,
    wait_s: Annotated[
        float, typer.Option(min=0, help="For so long the photos in flight may take, in s.")
    ] = 300.0,
) -> None:
    """Stop a run gracefully. Photos in flight end and are recorded, no others are begun.

    It need not be a job of a cluster. One that has not ended after --wait-s is ended by Ray, if
    --address is given and it is one. Exit code 0: nothing is at work any more. 1: it still is.
    """
    from jobs.submit import at_work, connect, end_job, end_run, output_of
    from manifests.errors import DestinationError
    from manifests.runs import records

    streams.keep_working()
    client = connect(address) if address else None
    jobs = [job for job in _jobs(client) if target in (job.submission_id, output_of(job))]
    by_id = any(job.submission_id == target for job in jobs)
    output = output_of(jobs[0]) if by_id else target
    if not jobs and not records(output):
        text = f"There is no run at {target}; to stop a job by its id, name its --address."
        raise DestinationError("output.not_found", text)
    runs = [run for run in at_work(output) if not by_id or run.facts.get("job") == target]
    ended = True
    for run in runs:
        typer.echo(f"Run {run.run_id}: its photos in flight end, and no others begin ...")
        ended &= end_run(run, client, wait_s)
    begun = {run.facts.get("job") for run in runs}
    for job in jobs:
        if client and not job.status.is_terminal() and job.submission_id not in begun:
            ended &= end_job(client, str(job.submission_id))
    typer.echo("Nothing is at work there any more." if ended else "It has not ended yet.")
    raise typer.Exit(0 if ended else 1)


def _jobs(client: JobSubmissionClient | None) -> list[JobDetails]:
    from jobs.submit import submitted

    return submitted(client) if client else []
