"""``recipes``, ``errors`` and ``doctor``: the commands to use before a run."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.options import DEFAULT_RECIPE, PoolsOption, RecipeOption, SetOption
from jobs.cli.printing import console_for, print_finding
from manifests.errors import describe, did_you_mean, error_codes


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A recipe's name, or a TOML file.")
    ] = None,
    set_: SetOption = None,
) -> None:
    """List the recipes, or print one as TOML with all its options."""
    from stages.recipe import Recipe, preset_names

    if name:
        typer.echo(Recipe.load(name, set_ or ()).to_toml(), nl=False)
        return
    for each in preset_names():
        default = " (default)" if each == DEFAULT_RECIPE else ""
        typer.echo(f"{each}{default}\n    {Recipe.load(each).description}")
    typer.echo("\nTo start your own: `catalog-cleanup recipes NAME > mine.toml`.")


def errors(
    codes: Annotated[
        list[str] | None,
        typer.Argument(metavar="CODE", help="Explain only these codes. Default: all."),
    ] = None,
) -> None:
    """List error codes, what they mean, and what to do."""
    known = error_codes()
    for code in codes or ():
        if code not in known:
            text = f"there is no code {code}{did_you_mean(code, known)}"
            raise typer.BadParameter(text, param_hint="CODE")
    for code in codes or known:
        typer.echo(f"{code}\n    {describe(code)}")


def doctor(
    s3: Annotated[
        str | None,
        typer.Option(metavar="S3_URI", help="Also write, read and delete a test object there."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Check this Ray cluster instead of this machine. Default: this machine, and "
            "the cluster of RAY_ADDRESS.",
        ),
    ] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    pools: PoolsOption = None,
) -> None:
    """Check what a run needs, what is missing, and where the recipe's steps would run.

    Exit codes: 0 ready; 1 something is missing.
    """
    from cluster.pools import PoolsOptions
    from jobs.doctor import examine
    from jobs.driver.placement import load_pools
    from stages.recipe import Recipe

    console = console_for()
    worst = 0
    requested = load_pools(pools) if pools else PoolsOptions()
    for finding in examine(Recipe.load(recipe, set_ or ()), requested, address, s3):
        remedy = f"\n     {finding.remedy}" if finding.remedy else ""
        print_finding(console, finding.state, f"{finding.subject}: {finding.result}{remedy}")
        worst = max(worst, finding.state == "bad")
    raise typer.Exit(worst)
