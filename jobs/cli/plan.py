"""``catalog-cleanup plan``: checks a manifest and splits it into shards."""

from __future__ import annotations

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


def plan(
    manifest: ManifestArgument,
    output: OutputOption,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    masks: MasksOption = "",
    mask: MaskOption = "",
    unmatched: UnmatchedOption = "",
    rows_per_shard: RowsPerShardOption = None,
    strict: StrictOption = False,
) -> None:
    """Check a manifest and split it into shards. `run` also does this, with the same options.

    Of the recipe, it only matters whether it detects what to remove in photos without marks.

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
    unusable = sum(planned.rejected.values())
    typer.echo(
        f"{rows} in {shards} of at most {planned.rows_per_shard}, {unusable} of them unusable"
    )
    for code, count in sorted(planned.rejected.items()):
        typer.echo(f"  {count:>8}  {code}")
    raise typer.Exit(3 if planned.rejected else 0)
