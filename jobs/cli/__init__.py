"""The command ``catalog-cleanup``. Heavy libraries load only in the commands that use them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli import results as results_cli
from jobs.cli import streams
from jobs.cli.estimate import estimate
from jobs.cli.evaluate import evaluate
from jobs.cli.models import TrustOption
from jobs.cli.models import app as models
from jobs.cli.options import (
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
from jobs.cli.plan import ManifestArgument, RowsPerShardOption, StrictOption
from jobs.cli.plan import plan as plan_command
from jobs.submit import submit
from manifests.errors import CatalogCleanupError, error_codes

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.run import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
    rich_markup_mode=None,  # its panels take twice as long to load as all the rest
    help="Remove marked objects, text and watermarks from catalog photos, by the million. "
    "`catalog-cleanup demo` shows how, on bundled photos.",
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("catalog-cleanup"))
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def run(
    manifest: ManifestArgument,
    output: OutputOption,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    retry: RetryOption = "",
    shards: ShardsOption = "",
    check_inputs: CheckInputsOption = True,
    strict: StrictOption = False,
    rows_per_shard: RowsPerShardOption = None,
    address: Annotated[
        str | None,
        typer.Option(help="A running Ray cluster. Else RAY_ADDRESS, else a private Ray, here."),
    ] = None,
    pools: PoolsOption = None,
    prices: PricesOption = None,
    trust: TrustOption = False,
) -> None:
    """Clean all photos of a manifest.

    Exit code 0: all ok. 2: finished, some rows failed (see the lineage). 1: did not finish; run
    the same command again.
    """
    from jobs.pipeline.cost import load_prices
    from jobs.pipeline.placement import load_pools
    from jobs.preflight import trusted
    from jobs.run import run as run_job
    from stages.recipe import Recipe

    streams.keep_working()
    console = _console()
    statuses = parse_statuses(retry)
    with _told_if_interrupted(), trusted(trust):
        outcome = run_job(
            manifest,
            output,
            Recipe.load(recipe, set_ or ()),
            console,
            retry=statuses,
            shards=shards,
            check_inputs=check_inputs,
            strict=strict,
            rows_per_shard=rows_per_shard,
            address=address,
            pools=load_pools(pools) if pools else None,
            prices=load_prices(prices) if prices else None,
        )
    _summarise(console, outcome)
    raise typer.Exit(outcome.exit_code)


app.command("plan")(plan_command)


@app.command("try")
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
            help="Its mask, or several, of the same size; white is removed.",
        ),
    ],
    output: Annotated[
        str, typer.Argument(metavar="OUTPUT", help="Where the result goes; same format as IMAGE.")
    ],
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,WIDTH,HEIGHT",
            help="Remove this, too, or instead of a mask: px of the displayed photo (or see the "
            "recipe option shapes.units), from its top left corner. Repeatable.",
        ),
    ] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    trust: TrustOption = False,
) -> None:
    """Clean one photo here and now, without Ray. So one experiments with a recipe."""
    from jobs.local import try_one
    from jobs.preflight import prepare, trusted
    from manifests.planning.marks import Marks
    from stages.recipe import Recipe

    if not masks and not box:
        raise typer.BadParameter("name a MASK between IMAGE and OUTPUT, or a --box")
    marks = Marks(masks, {"boxes": [_numbers(each) for each in box]} if box else {})
    # As Ray has it in an actor of one CPU: with more threads, CPUs add up in another order.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    loaded = Recipe.load(recipe, set_ or ())
    streams.keep_working()
    with trusted(trust):
        loaded, _ = prepare(loaded, _console(), here=True)
        row = try_one(image, marks, output, loaded)
    if row.error_code:
        _print_error(row.error_code, row.error or "")
        raise typer.Exit(1)
    places = len(row.patches)
    what = f"{places} {'place' if places == 1 else 'places'} filled" if places else "empty mask"
    typer.echo(f"{output}: {what}, {sum(row.seconds.values()):.2f} s")


def _numbers(box: str) -> list[float]:
    try:
        return [float(number) for number in box.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{box} is not X,Y,WIDTH,HEIGHT", param_hint="--box") from None


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option(help="Folder for the results; an earlier demo there is replaced.")
    ] = Path("catalog-cleanup-demo"),
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
) -> None:
    """Clean eight bundled photos, and make a page of them. Needs no GPU."""
    from jobs.demo import run_demo
    from stages.recipe import Recipe

    streams.keep_working()
    console = _console()
    with _told_if_interrupted():
        outcome, page = run_demo(output.absolute(), Recipe.load(recipe, set_ or ()), console)
    _summarise(console, outcome)
    console.print("Open this page to see before and after:", style="bold")
    console.print(page, soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(outcome.exit_code)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one, or a TOML file.")] = None,
    set_: SetOption = None,
) -> None:
    """List the recipes, or show one as TOML, all its options included."""
    from stages.recipe import Recipe, preset_names

    if name:
        typer.echo(Recipe.load(name, set_ or ()).to_toml(), nl=False)
        return
    for each in preset_names():
        default = " (default)" if each == DEFAULT_RECIPE else ""
        typer.echo(f"{each}{default}\n    {Recipe.load(each).description}")
    typer.echo("\n`catalog-cleanup recipes NAME > mine.toml` starts one of your own.")


@app.command()
def errors() -> None:
    """List the lineage's error codes, what they mean, and what to do."""
    for code, listed in error_codes().items():
        typer.echo(f"{code}\n    {listed.meaning} {listed.remedy}")


@app.command()
def doctor(
    s3: Annotated[
        str | None,
        typer.Option(metavar="S3_URI", help="Also write, read and delete an object there."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Look at this Ray cluster instead, and tell where the recipe's steps would run.",
        ),
    ] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    pools: PoolsOption = None,
) -> None:
    """Tell what this machine or a cluster lacks, and what to do."""
    from cluster.pools import Pools
    from jobs.doctor import examine
    from jobs.doctor_cluster import examine_cluster
    from jobs.pipeline.placement import load_pools
    from stages.recipe import Recipe

    colours = {"ok": "green", "note": "yellow", "bad": "red"}
    console = _console()
    worst = 0
    asked = load_pools(pools) if pools else Pools()
    findings = (
        examine_cluster(cluster, Recipe.load(recipe, set_ or ()), asked) if cluster else examine(s3)
    )
    for finding in findings:
        console.print(f"{finding.state:5}", style=colours[finding.state], end="")
        remedy = f"\n     {finding.remedy}" if finding.remedy else ""
        text = f"{finding.what}: {finding.found}{remedy}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        worst = max(worst, finding.state == "bad")
    raise typer.Exit(worst)


app.command()(estimate)
app.command()(evaluate)
results_cli.register(app)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[OPTIONS] MANIFEST [OPTIONS OF run]",
)(submit)
app.add_typer(models, name="models")


def main() -> None:
    """Run the command line; errors that a user can mend are told in one line each."""
    # 2 is the code of a run that finished with failed rows: a mistyped call must not look like it.
    usage_error = typer.BadParameter.__mro__[1]
    usage_error.exit_code = 1  # type: ignore[attr-defined]
    streams.guard()
    try:
        app()
    except CatalogCleanupError as error:
        _print_error(error.code, str(error))
        sys.exit(1)
    except streams.OutputLostError as error:
        _print_error(str(error.filename), f"{error.strerror}.")
        sys.exit(1)


@contextmanager
def _told_if_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _console(stderr=True).print("Interrupted. The same command goes on with what is left.")
        raise typer.Exit(1) from None


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def _print_error(what: str, message: str) -> None:
    console = _console(stderr=True)
    console.print("error ", style="red", end="")
    console.print(f"{what}: {message}", highlight=False, markup=False, soft_wrap=True)


def _summarise(console: Console, outcome: Outcome) -> None:
    tally = outcome.tally
    photos = "photo" if tally.rows == 1 else "photos"
    console.print(
        f"{tally.rows} {photos} in {outcome.seconds:.1f} s: {tally.ok} ok, "
        f"{tally.failed_count} failed, {tally.crashed} crashed",
        highlight=False,
    )
    for line in tally.fidelity_lines():
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    for code, count in sorted(tally.failed.items()):
        console.print(f"  {count:>8}  {code}", highlight=False)
    if tally.missing_count:
        named = ", ".join(name for _, name in tally.missing[:10])
        console.print(
            f"{tally.missing_count} photos have no result, among them {named}. "
            "The same command goes on with them.",
            style="red",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


if __name__ == "__main__":
    main()
