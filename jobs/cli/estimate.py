"""``catalog-cleanup estimate``: nodes, time and cost of a manifest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.options import (
    DEFAULT_RECIPE,
    ManifestArgument,
    MaskOption,
    MasksOption,
    PoolsOption,
    PricesOption,
    SetOption,
    parse_marking,
)

if TYPE_CHECKING:
    from jobs.estimate import Estimate

#: Of a pilot run's rows: if more failed, the others may not be typical.
_MAX_FAILED_SHARE = 0.05

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
    masks: MasksOption = "",
    mask: MaskOption = "",
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Max time from the start of the command: 8h, 90m, 2d."
        ),
    ] = None,
    prices: PricesOption = None,
    pools: PoolsOption = None,
    assume_megapixels: Annotated[
        float,
        typer.Option(
            metavar="N", min=0.01, help="Size of each photo, unless a pilot run measured it."
        ),
    ] = 12.0,
    spot_loss_rate: Annotated[
        float,
        typer.Option(
            metavar="RATE", min=0.0, max=60.0, help="Expected interruptions per node-hour."
        ),
    ] = 0.05,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Estimate nodes, time and cost for a manifest.

    Exit codes: 0 the deadline can be met, or none was given; 3 it cannot be met; 1 no estimate.
    To make a pilot run: catalog-cleanup run catalog.parquet -o pilot --limit 500
    """
    import json
    from dataclasses import asdict

    from cluster.pools import PoolsOptions
    from jobs.driver.cost import load_prices
    from jobs.driver.placement import load_pools
    from jobs.estimate import estimate as compute
    from jobs.estimate.seconds import Basis
    from manifests.planning.pairing import Pairing, hash_with_masks
    from manifests.reading.read import count_rows, find_files, stamp
    from stages.recipe import Recipe

    deadline_s = duration(deadline) if deadline is not None else None
    basis = Basis.read(pilot, assume_megapixels) if pilot else None
    if basis and not recipe:
        loaded = basis.recipe.with_options(set_ or ())
    else:
        loaded = Recipe.load(recipe or DEFAULT_RECIPE, set_ or ())
    loaded, _, _ = parse_marking(loaded, masks, mask, None)
    basis = basis or Basis(loaded, assume_megapixels)
    to_count = Pairing.of("pass", mask, masks)  # whatever marks the other photos
    files = to_count.select(find_files(manifest))
    # Planning leaves out repeated ids, which takes reading them all.
    is_planned = basis.stamp and basis.stamp == hash_with_masks(stamp(files), to_count)
    rows = basis.planned if is_planned else count_rows(files)
    result = compute(
        loaded,
        basis,
        rows,
        load_pools(pools) if pools else PoolsOptions(),
        prices=load_prices(prices) if prices else None,
        deadline_s=deadline_s,
        spot_loss_rate=spot_loss_rate,
    )
    if json_:
        of = {"recipe": loaded.name, "rows": rows, "megapixels": basis.megapixels}
        of |= {"pilot_rows": basis.rows, "pilot_failed": basis.failed, "deadline_s": deadline_s}
        typer.echo(json.dumps(of | asdict(result), indent=2))
    else:
        ended = basis.rows + basis.failed
        pilot_rows = f"{basis.rows:,} ok of {ended:,} rows of a pilot run"
        source = pilot_rows if basis.rows else "defaults only"
        size = f"{basis.megapixels:.1f} megapixels each{'' if basis.rows else ' (assumed)'}"
        typer.echo(f"{rows:,} photos, {size}; seconds from {source}.")
        if basis.failed > _MAX_FAILED_SHARE * ended:
            typer.echo(
                f"note: {basis.failed:,} of the pilot run's rows failed, and are estimated like "
                f"those that are ok. What failed: catalog-cleanup failures {pilot}"
            )
        for line in _lines(result, deadline_s):
            typer.echo(line)
    raise typer.Exit(3 if result.meets_deadline is False else 0)


def _lines(result: Estimate, deadline_s: float | None) -> Iterator[str]:
    """Format an estimate as text."""
    fleet = result.fleet
    slowest = result.parts[fleet.bottleneck]
    if deadline_s:
        answer = "can be met"
        if not result.meets_deadline:
            answer = "needs more nodes than available"
        if fleet.seconds > deadline_s:
            answer = f"cannot be met: the first photo starts after {_time(fleet.start_s)}"
            if deadline_s > fleet.start_s:
                answer += ", and more nodes would start too late"
        yield f"The deadline of {_time(deadline_s)} {answer}."
    yield f"The bottleneck is {slowest.slowest}, in the pool {slowest.pool}.\n"
    yield "s per photo   pool: steps"
    for part in result.parts:
        yield f"{part.seconds:11.3f}   {part.pool}: {' ▸ '.join(part.steps)}"
    nodes = ", ".join(f"{count:,} x {name}" for name, count in sorted(fleet.nodes.items()))
    start, ramp, lost = map(_time, (fleet.start_s, fleet.ramp_s, fleet.lost_s))
    yield f"\nnodes: {nodes}"
    yield f"time:  {_time(fleet.seconds)}, with start {start}, ramp {ramp}, spot losses {lost}"
    yield f"cost:  ${fleet.cost_usd:,.2f}, for {fleet.gpu_hours:,.1f} GPU hours"
    if result.changes:
        yield "\nOne change of the recipe:"
    for each in result.changes:
        cost, time = f"${each.fleet.cost_usd:,.2f}", _time(each.fleet.seconds)
        yield f"{' '.join(each.set)} saves {each.saved:.0%} ({cost}, {time}); {each.effect}"
    yield f"\nAssumed, not measured: {', '.join(result.assumed)}."
    yield "The source of each default is in jobs/estimate/defaults.toml."


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
