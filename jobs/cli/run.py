"""``run``, ``try`` and ``demo``: the commands that clean photos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import streams
from jobs.cli.options import (
    DEFAULT_RECIPE,
    CheckInputsOption,
    DryRunOption,
    LimitOption,
    ManifestArgument,
    MaskOption,
    MasksOption,
    OutputOption,
    PoolsOption,
    PricesOption,
    RecipeOption,
    RetryOption,
    RowsPerShardOption,
    SetOption,
    ShardsOption,
    StrictOption,
    UnmatchedOption,
    parse_marking,
    parse_statuses,
)
from jobs.cli.printing import console_for, print_counts
from jobs.printing import print_line

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.run import Outcome

AddressOption = Annotated[
    str | None,
    typer.Option(
        help="Address of a Ray cluster. Default: RAY_ADDRESS, otherwise Ray on this machine."
    ),
]


def run(
    manifest: ManifestArgument,
    output: OutputOption,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    masks: MasksOption = "",
    mask: MaskOption = "",
    unmatched: UnmatchedOption = "",
    retry: RetryOption = "",
    limit: LimitOption = None,
    shards: ShardsOption = "",
    check_inputs: CheckInputsOption = True,
    strict: StrictOption = False,
    rows_per_shard: RowsPerShardOption = None,
    address: AddressOption = None,
    pools: PoolsOption = None,
    prices: PricesOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Clean all photos of a folder or manifest.

    Exit codes: 0 all ok; 3 finished, but some rows failed (see the lineage); 1 not finished, run
    the same command again; 2 wrong usage.
    """
    from jobs.driver.cost import load_prices
    from jobs.driver.placement import load_pools
    from jobs.run import preview
    from jobs.run import run as run_job
    from stages.recipe import Recipe

    streams.tolerate_lost_output()
    console = console_for()
    statuses = parse_statuses(retry)
    chosen, policy, note = parse_marking(Recipe.load(recipe, set_ or ()), masks, mask, unmatched)
    chosen.raise_unless_it_cleans()
    if note:
        print_line(console, note)
    # For the dry run and the run: what rows there are, and which of them to do.
    rows: dict[str, Any] = {
        "retry": statuses,
        "limit": limit,
        "shards": shards,
        "check_inputs": check_inputs,
        "strict": strict,
        "rows_per_shard": rows_per_shard,
        "unmarked": policy,
        "mask": mask,
        "masks": masks,
    }
    if dry_run:
        preview(manifest, output, chosen, console, **rows, address=address)
        return
    with interruptible():
        outcome = run_job(
            manifest,
            output,
            chosen,
            console,
            **rows,
            address=address,
            pools=load_pools(pools) if pools else None,
            prices=load_prices(prices) if prices else None,
        )
    print_summary(console, outcome)
    raise typer.Exit(outcome.exit_code)


def try_(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="The photo; a path, or an s3:// URI.")
    ],
    masks: Annotated[
        list[str],
        typer.Argument(
            metavar="MASK",
            default_factory=list,
            show_default=False,
            help="One or more masks of the photo's size; white is removed. A recipe that detects "
            "needs none.",
        ),
    ],
    output: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="The file to write, in the format of IMAGE.")
    ],
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,WIDTH,HEIGHT",
            help="Also remove this box, in px from the top left corner of the displayed photo "
            "(recipe option: shapes.units). Repeatable.",
        ),
    ] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
) -> None:
    """Clean one photo in this process, without Ray. Use it to try out a recipe."""
    from jobs.driver.progress import format_count
    from jobs.preflight import check_weights
    from stages.cleaner import Cleaner
    from stages.recipe import Recipe

    boxes = [_numbers(each) for each in box] if box else None
    # As Ray sets it for an actor of one CPU: more threads would sum in another order.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    loaded = Recipe.load(recipe, set_ or ())
    if not masks and not box and not loaded.detect:
        text = "name a MASK between IMAGE and OUTPUT, a --box, or a recipe that detects"
        raise typer.BadParameter(text)
    streams.tolerate_lost_output()
    loaded, _ = check_weights(loaded, console_for(), here=True)
    row = Cleaner(loaded).clean(image, masks, boxes=boxes, output=output).record
    nothing = "empty mask" if row.detections is None else "nothing found to remove"
    filled = f"{format_count(len(row.patches), 'place')} filled" if row.patches else nothing
    typer.echo(f"{output}: {filled}, {sum(row.seconds.values()):.2f} s")


def _numbers(box: str) -> list[float]:
    try:
        return [float(number) for number in box.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{box} is not X,Y,WIDTH,HEIGHT", param_hint="--box") from None


def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the results."),
    ] = Path("catalog-cleanup-demo"),
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
) -> None:
    """Clean eight bundled photos and write a page to review them. Needs no GPU."""
    from jobs.report.write import write_report
    from jobs.run import run as run_job
    from stages.recipe import Recipe

    streams.tolerate_lost_output()
    console = console_for()
    manifest = resources.files("manifests") / "examples" / "demo" / "manifest.csv"
    folder = str(output.absolute())
    with interruptible():
        outcome = run_job(str(manifest), folder, Recipe.load(recipe, set_ or ()), console)
        page = write_report(folder, console)
    print_summary(console, outcome)
    console.print("Open this page to see before and after:", style="bold")
    print_line(console, page)
    raise typer.Exit(outcome.exit_code)


@contextmanager
def interruptible() -> Iterator[None]:
    """Print how to resume if the block is interrupted, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        console_for(stderr=True).print("Interrupted. The same command resumes.")
        raise typer.Exit(1) from None


def print_summary(console: Console, outcome: Outcome) -> None:
    """Print the counts of a run."""
    from jobs.driver.progress import format_count

    tally = outcome.tally
    print_line(
        console,
        f"{format_count(tally.rows, 'photo')} in {outcome.seconds:.1f} s: {tally.ok} ok, "
        f"{tally.failed_count} failed, {tally.crashed} crashed",
    )
    print_counts(console, tally)
    if tally.missing_count:
        first = ", ".join(name for _, name in tally.missing[:10])
        text = f"{tally.missing_count} photos have no result, among them {first}. "
        print_line(console, f"{text}The same command resumes.", "red")
