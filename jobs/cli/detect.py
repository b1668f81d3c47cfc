"""``detect``: finds what is to be removed, to look at it before photos are cleaned."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from jobs.cli import streams
from jobs.cli.options import (
    CheckInputsOption,
    DryRunOption,
    LimitOption,
    ManifestArgument,
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
    parse_statuses,
)
from jobs.cli.printing import console_for
from jobs.cli.run import AddressOption, interruptible, print_summary
from jobs.report import SAMPLE

DETECTING_RECIPE = "declutter"


def detect(
    manifest: ManifestArgument,
    output: OutputOption,
    recipe: RecipeOption = DETECTING_RECIPE,
    set_: SetOption = None,
    masks: MasksOption = "",
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
    sample: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Number of photos with pictures on the page. 0: all."
        ),
    ] = SAMPLE,
) -> None:
    """Find what the recipe's detector would remove; clean nothing yet.

    Writes masks, DEST/detected.jsonl (a manifest with them) and a page to review and correct them.
    Exit codes are those of `run`.
    """
    from jobs.driver.cost import load_prices
    from jobs.driver.placement import load_pools
    from jobs.driver.progress import format_count
    from jobs.report.write import write_report
    from jobs.results.detected import write_detected
    from jobs.run import dry_run as run_dry
    from jobs.run import run
    from stages.recipe import Recipe

    streams.tolerate_lost_output()
    console = console_for()
    statuses = parse_statuses(retry)
    chosen = Recipe.load(recipe, set_ or ()).detecting()
    # For the dry run and the run: what rows there are, and which of them to do.
    rows: dict[str, Any] = {
        "retry": statuses,
        "limit": limit,
        "shards": shards,
        "check_inputs": check_inputs,
        "strict": strict,
        "rows_per_shard": rows_per_shard,
        "unmarked": "detect",
        "masks": masks,
    }
    if dry_run:
        run_dry(manifest, output, chosen, console, **rows, address=address)
        return
    with interruptible():
        outcome = run(
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
    if outcome.tally.pending_count:
        raise typer.Exit(outcome.exit_code)
    found = write_detected(output)
    photos = format_count(found.rows, "photo")
    console.print(
        f"{found.path}: {photos}, {found.to_remove} with something to remove, "
        f"{found.kept_only} with kept objects only, {found.failed} failed",
    )
    page = write_report(output, console, sample=sample, recipe=outcome.recipe_hash)
    console.print("Open this page to review and correct it:", style="bold")
    console.print(page)
    options = [f"--set={each}" for each in set_ or ()]
    words = ["catalog-cleanup", "run", found.path, "--recipe", recipe, *options]
    console.print("Then clean the photos, by this manifest or the page's:", style="bold")
    console.print(shlex.join([*words, "--output", f"{output.rstrip('/')}-cleaned"]))
    raise typer.Exit(outcome.exit_code)
