"""The commands that read an output folder: ``status``, ``failures``, ``verify``, ``report``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli import streams
from jobs.cli.printing import console_for, print_counts, print_finding
from jobs.report import SAMPLE

if TYPE_CHECKING:
    from rich.console import Console

#: Exit codes of ``verify``: all match; some differ; none differs, but some, or all, could not be
#: checked.
EXIT_ALL_MATCH, EXIT_DIFFERS, EXIT_UNCHECKED = 0, 3, 4

DestArgument = Annotated[str, typer.Argument(metavar="DEST", help="The --output of `run`.")]


def status(
    output: DestArgument,
    by_shard: Annotated[bool, typer.Option("--by-shard", help="Also show each shard.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, with all shards.")] = False,
) -> None:
    """Show how many rows are ok, failed and remaining, and the current speed."""
    from jobs.results.status import as_json

    if json_:
        typer.echo(as_json(output))
    else:
        show_status(console_for(), output, by_shard=by_shard)


def show_status(console: Console, output: str, *, by_shard: bool) -> None:
    """Print the status of each recipe of an output folder."""
    from datetime import timedelta

    from jobs.results.examples import examples_of
    from jobs.results.status import recipe_statuses

    for status in recipe_statuses(output):
        results = status.results
        state = results.record.content["status"]
        if status.is_running:
            state = "running"
        elif state == "running":
            state = "ended unexpectedly; the same command resumes"
        name = f"recipe {results.name} ({results.hash})"
        console.print(f"{name}, run {results.record.run_id}: {state}")
        tallies = {f"{shard:05d}": each for shard, each in status.shards.items() if by_shard}
        names = ("rows", "ok", "failed", "crashed", "remaining")
        console.print("".join(f"{name:>12}" for name in ("shard", *names)))
        for shard, each in (tallies | {"all": status.total}).items():
            counts = (each.rows, each.ok, each.failed_count, each.crashed, each.pending_count)
            console.print(f"{shard:>12}" + "".join(f"{count:>12,}" for count in counts))
        print_counts(console, status.total, examples_of(results))
        if (left := status.seconds_left) is not None:
            rate = f"{status.rows_per_s:.1f} photos/s"
            console.print(f"{rate}, {timedelta(seconds=round(left))} left")
        for file in status.total.damaged:
            text = f"{file.uri} is damaged; the next run sets it aside."
            console.print(text, style="yellow")


def failures(
    output: DestArgument,
    to: Annotated[
        str,
        typer.Option(
            metavar="MANIFEST", help="Path or s3:// URI of the file to write, ending in .jsonl."
        ),
    ] = "failures.jsonl",
) -> None:
    """Write a manifest of the rows that failed or crashed, with reasons."""
    from jobs.driver.progress import format_count
    from jobs.results.failures import write_failures

    if not to.endswith(".jsonl"):
        raise typer.BadParameter(f"{to} does not end in .jsonl", param_hint="--to")
    streams.tolerate_lost_output()
    count = write_failures(output, to)
    typer.echo(f"{to}: {format_count(count, 'photo')}")


def verify(
    output: DestArgument,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Check only N photos, sampled evenly.")
    ] = None,
) -> None:
    """Check that nothing changed outside the masks, except what the lineage records.

    Files are compared by code that writes none of them; masks are computed as in a run.
    Exit codes: 0 all match; 3 some differ; 4 none differs, but some could not be checked, or there
    are no results; 1 there is no run.
    """
    raise typer.Exit(show_verdicts(console_for(), output, sample))


def show_verdicts(console: Console, output: str, sample: int | None = None) -> int:
    """Print a line for each result, and the counts by kind; returns the exit code."""
    from jobs.results.verify import verify as check

    counts, reasons = Counter[str](), Counter[str]()
    for each in check(output, sample):
        if each.problem:
            kind, state, text = "differ", "bad", each.problem
        elif each.found:
            kind, state = each.fidelity, "ok"
            text = f"{each.found.outside}; previews: {each.found.previews}"
        else:
            kind, state, text = "unchecked", "note", f"could not be checked: {each.detail}"
            reasons[each.unchecked_reason] += 1
        counts[kind] += 1
        print_finding(console, state, f"{each.id}: {text}")
    if not counts:
        console.print(f"Nothing was checked: {output} has no results of the last recipe.")
        return EXIT_UNCHECKED
    differ, unchecked, reencoded = (counts[kind] for kind in ("differ", "unchecked", "reencoded"))
    kept = counts.total() - differ - unchecked - reencoded
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    console.print(
        f"{counts.total()} checked: {kept} unchanged outside the mask, {reencoded} re-encoded as "
        f"recorded, {differ} differ, {unchecked} could not be checked{f' ({why})' if why else ''}.",
    )
    return EXIT_DIFFERS if differ else EXIT_UNCHECKED if unchecked else EXIT_ALL_MATCH


def report(
    output: DestArgument,
    sample: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Number of photos with pictures: flagged ones first, then failed ones (at most "
            "half), then others, sampled evenly. 0: all.",
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
            metavar="NAME_OR_HASH", help="Show only this recipe's results. Default: all recipes."
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="DEST_OR_RECIPE",
            help="Show the same ids from another output folder, or another recipe of this one, "
            "side by side.",
        ),
    ] = None,
) -> None:
    """Write a page to review results, and to choose photos to redo.

    The page is DEST/report/index.html. It opens from disk or from a bucket.
    """
    from jobs.report.write import write_report

    kinds = frozenset(filter(None, only.replace(" ", "").split(",")))
    if unknown := kinds - {"flagged", "ok", "failed", "crashed"}:
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}", param_hint="--only")
    streams.tolerate_lost_output()
    page = write_report(
        output,
        console_for(stderr=True),
        sample=sample,
        only=kinds,
        recipe=recipe,
        compare=compare,
    )
    typer.echo(page)
