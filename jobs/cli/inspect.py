"""``recipes``, ``errors`` and ``doctor``: what there is to know before a run."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.options import DEFAULT_RECIPE, PoolsOption, RecipeOption, SetOption
from jobs.cli.printing import console_for
from manifests.errors import all_codes, describe


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


def errors() -> None:
    """List the error codes of the lineage, what they mean, and what to do."""
    for code in all_codes():
        meaning, remedy = describe(code)
        typer.echo(f"{code}\n    {meaning} {remedy}")


def doctor(
    s3: Annotated[
        str | None,
        typer.Option(metavar="S3_URI", help="Also write, read and delete an object there."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Check this Ray cluster instead, and show where the recipe's steps would run."
        ),
    ] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    pools: PoolsOption = None,
) -> None:
    """Check this machine or a cluster: what is missing, and what to do.

    Exit codes: 0 ready; 1 something is missing.
    """
    from cluster.pools import Pools
    from jobs.doctor import examine
    from jobs.doctor_cluster import examine_cluster
    from jobs.pipeline.placement import load_pools
    from stages.recipe import Recipe

    colours = {"ok": "green", "note": "yellow", "bad": "red"}
    console = console_for()
    worst = 0
    asked = load_pools(pools) if pools else Pools()
    findings = (
        examine_cluster(address, Recipe.load(recipe, set_ or ()), asked) if address else examine(s3)
    )
    for finding in findings:
        console.print(f"{finding.state:5}", style=colours[finding.state], end="")
        remedy = f"\n     {finding.remedy}" if finding.remedy else ""
        text = f"{finding.what}: {finding.found}{remedy}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        worst = max(worst, finding.state == "bad")
    raise typer.Exit(worst)
