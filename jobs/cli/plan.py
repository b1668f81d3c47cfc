"""``catalog-cleanup plan``: checks a manifest and splits it into shards."""

from __future__ import annotations

import typer

from jobs.cli import streams
from jobs.cli.options import ManifestArgument, OutputOption, RowsPerShardOption, StrictOption


def plan(
    manifest: ManifestArgument,
    output: OutputOption,
    rows_per_shard: RowsPerShardOption = None,
    strict: StrictOption = False,
) -> None:
    """Check a manifest and split it into shards. `run` also does this.

    Exit codes: 0 planned; 3 planned, but some rows are unusable and will be recorded as failed;
    1 the manifest cannot be used.
    """
    from manifests.planning.plan import destination, make_plan

    streams.keep_working()
    place = destination(output)
    planned = make_plan(manifest, place.uri, rows_per_shard=rows_per_shard, strict=strict)
    for note in planned.notes:
        typer.echo(f"note: {note}")
    typer.echo(
        f"{planned.rows} rows in {planned.shards} shards of at most {planned.rows_per_shard}, "
        f"{sum(planned.rejected.values())} of them unusable"
    )
    for code, count in sorted(planned.rejected.items()):
        typer.echo(f"  {count:>8}  {code}")
    raise typer.Exit(3 if planned.rejected else 0)
