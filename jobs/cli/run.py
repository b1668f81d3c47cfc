"""``run``, ``try`` and ``demo``: the commands that clean photos."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path, PurePath
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
from jobs.cli.printing import console_for, format_share, print_counts

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.run import Outcome
    from stages.recipe import Recipe

AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Address of a Ray cluster. Default: RAY_ADDRESS, otherwise a local Ray instance.",
    ),
]


def run(
    manifest: ManifestArgument,
    output: OutputOption,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    masks: MasksOption = "",
    mask: MaskOption = "",
    unmatched: UnmatchedOption = None,
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
    from jobs.run import dry_run as run_dry
    from jobs.run import run as run_job
    from stages.recipe import Recipe

    streams.tolerate_lost_output()
    console = console_for()
    statuses = parse_statuses(retry)
    chosen, policy, note = parse_marking(Recipe.load(recipe, set_ or ()), masks, mask, unmatched)
    chosen.require_filling()
    if note:
        console.print(note)
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
        run_dry(manifest, output, chosen, console, **rows, address=address)
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
    print_summary(console, output, outcome)
    console.print(f"Look: {shlex.join(['catalog-cleanup', 'report', output])}")
    raise typer.Exit(outcome.exit_code)


def try_(
    photo: Annotated[
        str, typer.Argument(metavar="PHOTO", help="The photo; a path, or an s3:// URI.")
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
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The file to write, in the format of PHOTO; a path, or an s3:// URI. Default: "
            "NAME-clean.EXT in the current folder, unless there is such a file.",
        ),
    ] = "",
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
        raise typer.BadParameter("name a MASK after PHOTO, a --box, or a recipe that detects")
    output = output or _free_name(photo, loaded)
    streams.tolerate_lost_output()
    loaded, _ = check_weights(loaded, console_for(), here=True)
    row = Cleaner(loaded).clean(photo, masks, boxes=boxes, output=output).record
    text = "empty mask" if row.detections is None else "nothing found to remove"
    if row.patches and row.masked_px and row.width and row.height:
        share = row.masked_px / (row.width * row.height)
        text = (
            f"{format_count(len(row.patches), 'place')}, {format_share(share)} of the photo, filled"
        )
    typer.echo(f"{output}: {text}; {sum(row.seconds.values()):.2f} s of steps")


def _free_name(photo: str, recipe: Recipe) -> str:
    """The default result of ``try``: beside no photo that another command would read."""
    from manifests.storage.row_files import read
    from stages.codecs.encode import suffix_of

    suffix = suffix_of(read(photo, "image"), photo, recipe.output.format)
    name = f"{PurePath(photo).stem}-clean.{suffix}"
    if Path(name).exists():
        raise typer.BadParameter(f"{name} exists; name the file to write", param_hint="--output")
    return name


def _numbers(box: str) -> list[float]:
    try:
        return [float(number) for number in box.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{box} is not X,Y,WIDTH,HEIGHT", param_hint="--box") from None


def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the results."),
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
    print_summary(console, folder, outcome)
    console.print("Open this page to see before and after:", style="bold")
    console.print(page)
    raise typer.Exit(outcome.exit_code)


@contextmanager
def interruptible() -> Iterator[None]:
    """Print how to resume if the block is interrupted, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        console_for(stderr=True).print("Interrupted. The same command resumes.")
        raise typer.Exit(1) from None


def print_summary(console: Console, output: str, outcome: Outcome) -> None:
    """Print the counts of a run, and the command that names the rows that failed."""
    from jobs.driver.progress import format_count
    from jobs.results.examples import Examples, examples_of
    from jobs.results.recipe_results import results_by_recipe
    from manifests.errors import CatalogCleanupError

    tally = outcome.tally
    console.print(
        f"{format_count(tally.rows, 'photo')} in {outcome.seconds:.1f} s: {tally.ok} ok, "
        f"{tally.failed_count} failed, {tally.crashed} crashed",
    )
    examples = Examples()
    with suppress(CatalogCleanupError, OSError):  # the run itself is over, and recorded
        all_results = {each.hash: each for each in results_by_recipe(output)}
        examples = examples_of(all_results[outcome.recipe_hash])
    print_counts(console, tally, examples)
    if tally.failed or tally.crashed:
        call = shlex.join(["catalog-cleanup", "failures", output])
        console.print(f"Which rows and why: {call}")
    if tally.pending_count:
        first = ", ".join(name for _, name in tally.pending[:10])
        text = f"{tally.pending_count} photos have no result, among them {first}. "
        console.print(f"{text}The same command resumes.", style="red")
