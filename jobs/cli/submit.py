"""``catalog-cleanup submit``: a run as a job of a Ray cluster, by the cluster's job API."""

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
from jobs.cli.options import DashboardOption, parse_run, parse_statuses, to_words
from manifests.errors import ClusterError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

#: What a checkout is shipped as; the rest of it stays behind.
_PACKAGES = ("jobs", "stages", "cluster", "manifests")


def submit(
    context: typer.Context,
    address: Annotated[str, DashboardOption],
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
            help="Run the code of this clone, instead of what is installed on the cluster.",
        ),
    ] = None,
    python: Annotated[
        str, typer.Option(help="The cluster's interpreter: a path, or a name in its head's PATH.")
    ] = "python",
) -> None:
    """Clean all photos of a manifest as a job of a Ray cluster.

    Takes MANIFEST and the options of `run`: see `catalog-cleanup run --help`. Files of recipe,
    pools and prices are sent along. MANIFEST, DEST and what they name must be reachable from the
    cluster: in S3, or on a disk that its nodes share. Exit code: that of the run; with
    --no-follow 0 once the cluster has the job.
    """
    from jobs.pipeline.cost import load_prices
    from jobs.pipeline.placement import load_pools
    from stages.recipe import Recipe, preset_names

    streams.keep_working()
    run = parse_run(context, context.args)
    given = run.params
    parse_statuses(given["retry"])
    Recipe.load(given["recipe"], given["set_"] or ())  # what is wrong with it is reported here
    files = {name: given[name] for name in ("recipe", "pools", "prices") if given[name]}
    if given["recipe"] in preset_names():
        del files["recipe"]
    if "pools" in files:
        load_pools(files["pools"])
    if "prices" in files:
        load_prices(files["prices"])
    there = {name: f"{name}.toml" for name in files}
    there |= {name: absolute(given[name]) for name in ("manifest", "output")}
    runtime: dict[str, Any] = {"env_vars": _variables(env or ())}
    if working_dir:
        runtime["py_modules"] = [str(working_dir.absolute() / name) for name in _PACKAGES]
        runtime["excludes"] = ["__pycache__"]
    with job_api(address) as client, tempfile.TemporaryDirectory() as folder:
        for name, file in files.items():
            shutil.copyfile(file, Path(folder) / there[name])
            runtime["working_dir"] = folder
        entrypoint = shlex.join([python, "-m", "jobs.cli", "run", *to_words(run, there)])
        job = client.submit_job(entrypoint=entrypoint, runtime_env=runtime)
    typer.echo(f"Job {job} at {address} cleans into {there['output']}, also if this command ends.")
    typer.echo(f"To follow it: ray job logs --follow {job} --address {address}")
    typer.echo(f"To stop it: catalog-cleanup stop {job} --address {address}")
    with suppress(KeyboardInterrupt):
        raise typer.Exit(_followed(address, job) if follow else 0)
    raise typer.Exit(1)


@contextmanager
def job_api(address: str) -> Iterator[JobSubmissionClient]:
    """A client of a cluster's job API; where it asks for a token, as Ray finds it.

    Args:
        address: of its dashboard, ``http://HEAD:8265``.

    Raises:
        ClusterError: nobody is there, or the token is not the right one, also later in the block
            (``cluster.unreachable``); it refuses what the block asks for (``cluster.refused``).
    """
    # Else RAY_ADDRESS, which may be set for other commands, would go before the address given.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    from aiohttp import ClientError
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient
    from requests import RequestException

    logging.getLogger("ray").setLevel(logging.WARNING)  # it reports each package that is sent
    try:
        if not address.startswith(("http://", "https://")):
            raise ConnectionError("a dashboard's address is http://HEAD:8265 or the like")
        yield JobSubmissionClient(address)
    except (AuthenticationError, ClientError, ConnectionError, RequestException) as error:
        text = str(error).strip().partition("\n")[0].rstrip(".")
        raise ClusterError("cluster.unreachable", f"Ray at {address}: {text}.") from error
    except RuntimeError as error:  # how the client reports an answer that is none of success
        raise ClusterError("cluster.refused", f"Ray at {address}: {error}") from error


def _followed(address: str, job: str) -> int:
    """Show a job's log until the job has ended; returns its exit code."""

    async def tail() -> None:
        try:
            async for piece in client.tail_job_logs(job):
                typer.echo(piece, nl=False)
        except RuntimeError as error:  # a connection that broke
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


def absolute(place: str) -> str:
    """A path as the cluster's nodes know it, which work in another folder."""
    return place if "://" in place else str(Path(place).absolute())


def _variables(env: Sequence[str]) -> dict[str, str]:
    """Name -> value of what ``--env`` names."""
    if unset := [each for each in env if "=" not in each and each not in os.environ]:
        raise typer.BadParameter(f"{unset[0]} is not set here", param_hint="--env")
    pairs = [each.partition("=") for each in env]
    return {name: value if equals else os.environ[name] for name, equals, value in pairs}
