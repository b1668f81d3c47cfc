"""The commands about an output folder: ``status``, ``failures``, ``verify``."""

from __future__ import annotations

from typing import Annotated

import typer

DestArgument = Annotated[
    str, typer.Argument(metavar="DEST", help="What was given to `run` as --output.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, failures, verify):
        app.command()(command)


def status(
    output: DestArgument,
    by_shard: Annotated[
        bool, typer.Option("--shards", help="Also show each shard by itself.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, all shards included.")] = False,
) -> None:
    """Tell what is done, failed and left, shard by shard, and how fast it goes."""
    from rich.console import Console

    from jobs.status import as_json, show

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
    """Write a manifest of the photos that failed or crashed, with the reasons beside them."""
    from jobs.failures import write_failures

    count = write_failures(output, to)
    typer.echo(f"{to}: {count} {'photo' if count == 1 else 'photos'}")


def verify(
    output: DestArgument,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Look at only so many photos, evenly drawn.")
    ] = None,
) -> None:
    """Hold results against their sources: is all outside the masks as it was.

    Exit code 0: it is, for all that were looked at. 2: not for some. 1: there is no run there.
    """
    from rich.console import Console

    from jobs.verify import show

    raise typer.Exit(show(Console(), output, sample))
