"""``catalog-cleanup estimate``: what a manifest will take, before anything is paid for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from jobs.plan_cli import ManifestArgument
from jobs.run_options import DEFAULT_RECIPE, PoolsOption, PricesOption, RecipeOption, SetOption

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def duration(text: str) -> float:
    """Seconds of ``8h``, ``90m``, ``2d``, ``1.5h`` or ``1h30m``.

    Raises:
        BadParameter: it is something else, or nothing.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|[smhd])\s*", text.strip().lower(), re.ASCII)
    whole = re.sub(r"\s", "", text.lower())
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != whole or not seconds:
        raise typer.BadParameter(f"{text!r} is no duration such as 8h, 90m, 2d or 1h30m")
    return seconds


def estimate(
    manifest: ManifestArgument,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="DURATION", help="8h, 90m, 2d: from the command on.")
    ] = None,
    prices: PricesOption = None,
    pools: PoolsOption = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="TOML",
            exists=True,
            dir_okay=False,
            help="What steps take, and what else is known better than by default; "
            "`catalog-cleanup bench steps` writes one.",
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="So many photos, chosen at random, are read and looked at.")
    ] = 24,
    photo_mp: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Read no photos: take them to have so many megapixels, 3 % masked."
        ),
    ] = None,
    losses: Annotated[
        float | None,
        typer.Option(min=0.0, max=60.0, help="Of each node, how many an hour; 0: none is spot."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample, and of the losses.")] = 0,
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the answer there.")
    ] = None,
) -> None:
    """Tell how many machines a manifest takes, how long, and what it costs.

    Exit code 0: told, and a deadline can be met. 2: told, and it cannot. 1: it cannot be told.
    """
    import json

    from rich.console import Console

    from cluster.pools import Pools
    from jobs.cost import load_prices
    from jobs.estimate.answer import Question, answer
    from jobs.estimate.calibration import Calibration
    from jobs.estimate.catalog import assume, look_at
    from jobs.estimate.show import as_json, show
    from jobs.placing import load_pools
    from stages.recipe import Recipe

    deadline_s = duration(deadline) if deadline is not None else None
    loaded = Recipe.load(recipe, set_ or ())
    known = Calibration.load(calibration)
    asked = load_pools(pools) if pools else Pools()
    listed = load_prices(prices) if prices else None
    catalog = (
        assume(manifest, loaded, photo_mp) if photo_mp else look_at(manifest, loaded, sample, seed)
    )
    question = Question(loaded, catalog, asked, known, listed, deadline_s, losses, seed)
    found = answer(question)
    console = Console()
    if not console.is_terminal:
        console.width = 160  # tables in a file need not fit a screen
    show(console, question, found)
    if json_:
        json_.write_text(json.dumps(as_json(question, found), indent=2))
    raise typer.Exit(0 if deadline_s is None or found.is_possible else 2)
