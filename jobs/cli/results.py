"""The commands about what is in an output folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli import streams
from jobs.cli.printing import print_counts, print_line
from jobs.report import SAMPLE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from manifests.ledger import Tally

#: Exit codes of ``verify``: all hold; some result differs; none differs, but some could not be
#: checked.
EXIT_ALL_HOLD, EXIT_DIFFERS, EXIT_UNCHECKED = 0, 3, 4

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

    from jobs.results.status import as_json

    if json_:
        typer.echo(as_json(output))
    else:
        show_status(Console(), output, by_shard=by_shard)


def show_status(console: Console, output: str, *, by_shard: bool) -> None:
    """Print how an output folder stands, for people."""
    from datetime import timedelta

    from jobs.results.status import recipe_statuses

    for standing in recipe_statuses(output):
        facts = standing.record.facts
        state = "at work" if standing.is_running else facts["status"]
        if state == "running":
            state = "gone without a word; the same command goes on"
        recipe = f"recipe {facts['recipe']['name']} ({facts['recipe_hash']})"
        print_line(console, f"{recipe}, run {standing.record.run_id}: {state}")
        tallies = {f"{shard:05d}": each for shard, each in standing.shards.items() if by_shard}
        console.print(_status_table(tallies | {"all": standing.total}))
        print_counts(console, standing.total)
        if (left := standing.seconds_left) is not None:
            pace = f"{standing.rows_per_s:.1f} photos/s"
            print_line(console, f"{pace}, {timedelta(seconds=round(left))} left")
        for file in standing.total.damaged:
            text = f"{file.uri} is damaged; the next run sets it aside."
            print_line(console, text, "yellow")


def _status_table(tallies: Mapping[str, Tally]) -> Table:
    """A row for each shard, and at the end one for all."""
    from rich.box import SIMPLE
    from rich.table import Column, Table

    names = ("rows", "ok", "failed", "crashed", "remaining")
    table = Table("shard", *(Column(name, justify="right") for name in names), box=SIMPLE)
    for name, tally in tallies.items():
        counts = (tally.rows, tally.ok, tally.failed_count, tally.crashed, tally.missing_count)
        table.add_row(name, *(f"{count:,}" for count in counts))
    return table


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

    raise typer.Exit(show_verdicts(Console(), output, sample))


def show_verdicts(console: Console, output: str, sample: int | None = None) -> int:
    """Print the verdicts as a table, and how many there are of each kind; returns an exit code."""
    from rich.box import SIMPLE
    from rich.table import Column, Table
    from rich.text import Text

    from jobs.results.verify import verify as check

    table = Table(
        Column("id", overflow="fold"), "outside the mask", "metadata", "previews", "", box=SIMPLE
    )
    counts, reasons = Counter[str](), Counter[str]()
    for each in check(output, sample):
        kind, text, colour = each.fidelity, each.fidelity, "green"
        if each.problem:
            kind, text, colour = "differ", each.problem, "red"
        elif each.unchecked:
            kind, colour = "unchecked", "yellow"
            text = f"could not be checked: {each.detail}"
            reasons[each.unchecked] += 1
        counts[kind] += 1
        cells = ["", "", ""]
        if found := each.found:
            differing = f"differs: {', '.join(found.differing)}" if found.differing else ""
            cells = [found.outside, differing or "as recorded", found.previews]
        table.add_row(*map(Text, (each.id, *cells)), Text(text, colour))
    console.print(table)
    differ, unchecked, again = (counts[kind] for kind in ("differ", "unchecked", "reencoded"))
    kept = counts.total() - differ - unchecked - again
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    print_line(
        console,
        f"{counts.total()} checked: {kept} kept all outside the mask, {again} coded again as "
        f"recorded, {differ} differ, {unchecked} could not be checked{f' ({why})' if why else ''}.",
    )
    return EXIT_DIFFERS if differ else EXIT_UNCHECKED if unchecked else EXIT_ALL_HOLD


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
    )
    typer.echo(page)
