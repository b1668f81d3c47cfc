"""``catalog-cleanup estimate``: nodes, time and cost of a manifest."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from jobs.cli.options import (
    DEFAULT_RECIPE,
    ManifestArgument,
    PoolsOption,
    PricesOption,
    SetOption,
)

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def duration(text: str) -> float:
    """Parse ``8h``, ``90m``, ``2d``, ``1.5h`` or ``1h30m``; returns seconds.

    Raises:
        BadParameter: the text is not a positive duration.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|[smhd])\s*", text.strip().lower(), re.ASCII)
    expected = re.sub(r"\s", "", text.lower())
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != expected or not seconds:
        raise typer.BadParameter(f"{text!r} is not a duration such as 8h, 90m, 2d or 1h30m")
    return seconds


def estimate(
    manifest: ManifestArgument,
    pilot: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DEST",
            help="Output folder of a pilot run, whose seconds per step replace the defaults.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            metavar="NAME_OR_TOML",
            help=f"Default: the recipe of the pilot run, otherwise {DEFAULT_RECIPE}.",
        ),
    ] = None,
    set_: SetOption = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Max time from the start of the command: 8h, 90m, 2d."
        ),
    ] = None,
    prices: PricesOption = None,
    pools: PoolsOption = None,
    assume_megapixels: Annotated[
        float, typer.Option(min=0.01, help="Size of each photo, unless a pilot run measured it.")
    ] = 12.0,
    spot_loss_rate: Annotated[
        float | None,
        typer.Option(min=0.0, max=60.0, help="Expected interruptions per node-hour; 0: none."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Estimate nodes, time and cost for a manifest.

    Exit codes: 0 the deadline can be met, or none was given; 3 it cannot be met; 1 no estimate.
    To make a pilot run: catalog-cleanup run catalog.parquet -o pilot --limit 500
    """
    import json

    from rich.console import Console

    from cluster.pools import Pools
    from jobs.estimate.report import Question, as_json, show
    from jobs.estimate.report import estimate as compute
    from jobs.estimate.seconds import Catalog, Pilot
    from jobs.pipeline.cost import load_prices
    from jobs.pipeline.placement import load_pools
    from manifests.reading.read import count_rows, find_files
    from stages.recipe import Recipe

    deadline_s = duration(deadline) if deadline is not None else None
    measured = Pilot.read(pilot) if pilot else None
    if measured and not recipe:
        loaded = measured.recipe.with_options(set_ or ())
    else:
        loaded = Recipe.load(recipe or DEFAULT_RECIPE, set_ or ())
    megapixels = measured.megapixels if measured and measured.megapixels else assume_megapixels
    question = Question(
        loaded,
        Catalog(count_rows(find_files(manifest)), megapixels, measured),
        load_pools(pools) if pools else Pools(),
        load_prices(prices) if prices else None,
        deadline_s,
        spot_loss_rate,
    )
    result = compute(question)
    if json_:
        typer.echo(json.dumps(as_json(question, result), indent=2))
    else:
        console = Console()
        if not console.is_terminal:
            console.width = 160  # tables in a file need not fit a screen
        show(console, question, result)
    raise typer.Exit(0 if deadline_s is None or result.meets_deadline else 3)
