"""``catalog-cleanup submit``: starts a run as a job on a Ray cluster, with Ray's job API."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import streams
from jobs.cli.options import (
    DashboardOption,
    parse_marking,
    parse_run,
    parse_statuses,
    to_words,
)
from manifests.errors import ClusterError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

#: The packages of a checkout that are sent to the cluster.
_PACKAGES = ("jobs", "stages", "cluster", "manifests")


def submit(
    context: typer.Context,
    address: Annotated[str, DashboardOption],
    detect: Annotated[
        bool, typer.Option("--detect", help="Submit `detect` instead of `run`; it has its options.")
    ] = False,
    follow: Annotated[
        bool, typer.Option(help="Print the job's log, and exit with its exit code.")
    ] = True,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="Set an environment variable of the job and its workers, default: its value here. "
            "Users of the dashboard can see it. Repeatable.",
        ),
    ] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKOUT",
            exists=True,
            file_okay=False,
            help="Run the code of this clone instead of the version installed on the cluster.",
        ),
    ] = None,
    python: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="The cluster's Python interpreter: a path, or a name in the head node's PATH.",
        ),
    ] = "python",
) -> None:
    """Clean all photos of a folder or manifest as a job of a Ray cluster.

    Takes MANIFEST and the options of `run`: see `catalog-cleanup run --help`. The files of recipe,
    pools and prices are sent along. MANIFEST, DEST, masks and the files they name must be reachable
    from the cluster: in S3, or on a disk that its nodes share. Exit code: that of the run; with
    --no-follow 0 once the job is submitted.
    """
    from jobs.driver.cost import load_prices
    from jobs.driver.placement import load_pools
    from stages.recipe import Recipe, preset_names

    streams.tolerate_lost_output()
    name = "detect" if detect else "run"
    run = parse_run(context, context.args, name=name)
    options = run.params
    parse_statuses(options["retry"])
    recipe = Recipe.load(options["recipe"], options["set_"] or ())
    if detect:
        recipe.detecting()
    else:
        recipe.require_filling()
        parse_marking(recipe, *(options[name] for name in ("masks", "mask", "unmatched")))
    files = {each: options[each] for each in ("recipe", "pools", "prices") if options[each]}
    if options["recipe"] in preset_names():
        del files["recipe"]
    if "pools" in files:
        load_pools(files["pools"])
    if "prices" in files:
        load_prices(files["prices"])
    remote = {each: f"{each}.toml" for each in files}
    names = (each for each in ("manifest", "output", "masks", "mask") if options.get(each))
    remote |= {each: absolute(options[each]) for each in names}
    runtime: dict[str, Any] = {"env_vars": _variables(env or ())}
    if working_dir:
        runtime["py_modules"] = [str(working_dir.absolute() / each) for each in _PACKAGES]
        runtime["excludes"] = ["__pycache__"]
    with job_api(address) as client, tempfile.TemporaryDirectory() as folder:
        for each, file in files.items():
            shutil.copyfile(file, Path(folder) / remote[each])
            runtime["working_dir"] = folder
        entrypoint = shlex.join([python, "-m", "jobs.cli", name, *to_words(run, remote)])
        job = client.submit_job(entrypoint=entrypoint, runtime_env=runtime)
    typer.echo(
        f"Job {job} at {address} writes to {remote['output']}, and continues if this command ends."
    )
    typer.echo(f"To follow it: ray job logs --follow {job} --address {address}")
    typer.echo(f"To stop it: {shlex.join(['catalog-cleanup', 'stop', remote['output']])}")
    typer.echo(f"To end it at once: ray job stop {job} --address {address}")
    with suppress(KeyboardInterrupt):
        raise typer.Exit(_follow(address, job) if follow else 0)
    raise typer.Exit(1)


@contextmanager
def job_api(address: str) -> Iterator[JobSubmissionClient]:
    """Connect to a cluster's job API within the block, with the token that Ray is configured with.

    Args:
        address: of the dashboard, ``http://HEAD:8265``.

    Raises:
        ClusterError: ``cluster.unreachable``: it cannot be reached, or the token is wrong, at any
            time in the block; ``cluster.refused``: it refused a request.
    """
    # Otherwise RAY_ADDRESS, which may be set for other commands, would take precedence.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    from aiohttp import ClientError
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient
    from requests import RequestException

    logging.getLogger("ray").setLevel(logging.WARNING)  # it logs each uploaded package
    try:
        if not address.startswith(("http://", "https://")):
            raise ConnectionError("a dashboard's address has the form http://HEAD:8265")
        yield JobSubmissionClient(address)
    except (AuthenticationError, ClientError, ConnectionError, RequestException) as error:
        text = str(error).strip().partition("\n")[0].rstrip(".")
        raise ClusterError("cluster.unreachable", f"Ray at {address}: {text}.") from error
    except RuntimeError as error:  # how the client reports an HTTP error
        raise ClusterError("cluster.refused", f"Ray at {address}: {error}") from error


def _follow(address: str, job: str) -> int:
    """Print a job's log until the job ends; returns its exit code."""

    async def tail() -> None:
        try:
            async for piece in client.tail_job_logs(job):
                typer.echo(piece, nl=False)
        except RuntimeError as error:  # a broken connection
            raise ConnectionError(error) from error

    with job_api(address) as client:
        asyncio.run(tail())
        details = client.get_job_info(job)
        if not details.status.is_terminal():
            raise ConnectionError("the log ended before the job did")
    code = details.driver_exit_code
    if code is None and details.message:
        typer.echo(details.message, err=True)
    code = 1 if code is None or code < 0 else code
    typer.echo(f"Job {job} has ended with exit code {code}.")
    return code


def absolute(path: str) -> str:
    """Make a path absolute, since the cluster's nodes have another working directory."""
    return path if "://" in path else str(Path(path).absolute())


def _variables(env: Sequence[str]) -> dict[str, str]:
    """Name -> value of the variables in ``--env``."""
    if unset := [each for each in env if "=" not in each and each not in os.environ]:
        raise typer.BadParameter(f"{unset[0]} is not set here", param_hint="--env")
    pairs = [each.partition("=") for each in env]
    return {name: value if equals else os.environ[name] for name, equals, value in pairs}
