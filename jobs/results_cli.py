"""The commands about an output folder: ``status``, ``failures``, ``verify``, ``report``."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import streams
from jobs.report import SAMPLE

DestArgument = Annotated[
    str, typer.Argument(metavar="DEST", help="What was given to `run` as --output.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, failures, verify, report):
        app.command()(command)


def status(
    output: DestArgument,
    by_shard: Annotated[
        bool, typer.Option("--shards", help="Also show each shard by itself.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, all shards included.")] = False,
) -> None:
    """Tell what is done, failed and left, and how fast it goes."""
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
    """Write a manifest of what failed or crashed, with reasons."""
    from jobs.failures import write_failures

    streams.keep_working()
    count = write_failures(output, to)
    typer.echo(f"{to}: {count} {'photo' if count == 1 else 'photos'}")


def verify(
    output: DestArgument,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Check only this number of photos, evenly drawn.")
    ] = None,
) -> None:
    """Compare results with their sources: nothing changed outside the masks but what is recorded.

    Files are read by code that shares nothing with what wrote them. Exit code 0: all were checked
    and hold. 2: some differ. 3: none differs, but some could not be checked. 1: there is no run.
    """
    from rich.console import Console

    from jobs.verify import show

    raise typer.Exit(show(Console(), output, sample))


def report(
    output: DestArgument,
    sample: Annotated[
        int,
        typer.Option(
            min=0,
            help="So many photos get pictures: flagged ones first, then failed ones (at most "
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
            help="Show beside them what another output folder, or another recipe of this one, has "
            "for the same ids.",
        ),
    ] = None,
    hourly_price: Annotated[
        float | None,
        typer.Option(min=0, help="Of all machines that ran, an hour, to tell what a photo cost."),
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
