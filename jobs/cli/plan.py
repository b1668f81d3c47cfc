"""``catalog-cleanup plan``: check a manifest and split it into shards, before any work."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli import streams
from jobs.cli.options import ManifestArgument, RowsPerShardOption, StrictOption


def plan(
    manifest: ManifestArgument,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="DEST",
            help="The --output of the later `run`: local or s3://.",
        ),
    ],
    rows_per_shard: RowsPerShardOption = None,
    strict: StrictOption = False,
) -> None:
    """Check a manifest and split it into shards, for `run`, which also does so by itself.

    Exit codes: 0 planned; 3 planned, but some rows are unusable and will be recorded as failed;
    1 the manifest cannot be used.
    """
    from manifests.planning.plan import destination, make_plan

    streams.keep_working()
    place = destination(output)
    made = make_plan(manifest, place.uri, rows_per_shard=rows_per_shard, strict=strict)
    for note in made.notes:
        typer.echo(f"note: {note}")
    typer.echo(
        f"{made.rows} rows in {made.shards} shards of at most {made.rows_per_shard}, "
        f"{sum(made.rejected.values())} of them unusable"
    )
    for code, count in sorted(made.rejected.items()):
        typer.echo(f"  {count:>8}  {code}")
    raise typer.Exit(3 if made.rejected else 0)
