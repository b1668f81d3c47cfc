"""``catalog-cleanup plan``: checks a manifest and splits it into shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from jobs.cli import streams
from jobs.cli.options import (
    DEFAULT_RECIPE,
    ManifestArgument,
    MaskOption,
    MasksOption,
    OutputOption,
    RecipeOption,
    RowsPerShardOption,
    SetOption,
    StrictOption,
    UnmatchedOption,
    parse_marking,
)

if TYPE_CHECKING:
    from manifests.planning.plan import Plan


def plan(
    manifest: ManifestArgument,
    output: OutputOption,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    masks: MasksOption = "",
    mask: MaskOption = "",
    unmatched: UnmatchedOption = None,
    rows_per_shard: RowsPerShardOption = None,
    strict: StrictOption = False,
) -> None:
    """Check a manifest and split it into shards. `run` also does this, with the same options.

    Of the recipe, only [detect] matters: with it, photos without marks are searched in the run.

    Exit codes: 0 planned; 3 planned, but some rows are unusable and will be recorded as failed;
    1 the manifest cannot be used.
    """
    from jobs.driver.progress import format_count
    from manifests.planning.plan import make_plan, resolve_output
    from stages.recipe import Recipe

    streams.tolerate_lost_output()
    loaded = Recipe.load(recipe, set_ or ())
    _, policy, _ = parse_marking(loaded, masks, mask, unmatched)
    planned = make_plan(
        manifest,
        resolve_output(output).uri,
        rows_per_shard=rows_per_shard,
        strict=strict,
        unmarked=policy,
        mask=mask,
        masks=masks,
    )
    for note in planned.notes:
        typer.echo(f"note: {note}")
    rows, shards = format_count(planned.rows, "row"), format_count(planned.shards, "shard")
    invalid = f" ({sum(planned.rejected.values()):,} invalid)" if planned.rejected else ""
    typer.echo(
        f"{rows}{invalid} in {shards} of up to {format_count(planned.rows_per_shard, 'row')}"
    )
    errors = _first_errors(planned)
    for code, count in sorted(planned.rejected.items()):
        typer.echo(f"  {count:>8}  {code} (e.g. {errors[code]['id']}): {errors[code]['error']}")
    raise typer.Exit(3 if planned.rejected else 0)


def _first_errors(planned: Plan) -> dict[str, dict[str, str]]:
    """Error code -> id and error of the first row that has it."""
    found: dict[str, dict[str, str]] = {}
    for shard in range(planned.shards):
        if found.keys() >= planned.rejected.keys():
            break
        rows = planned.read_shard(shard, ["id", "error_code", "error"])
        for row in rows.filter(rows["error_code"].is_valid()).to_pylist():
            found.setdefault(row["error_code"], row)
    return found
