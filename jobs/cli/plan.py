"""``catalog-cleanup plan``: check a manifest and split it into shards, before any work."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli import streams

ManifestArgument = Annotated[
    str,
    typer.Argument(
        metavar="MANIFEST",
        help="CSV, JSON Lines or Parquet with the columns id, image and mask (or boxes, "
        "polygons, rle); a file, a folder of files or a quoted pattern; local or s3://. Paths "
        "in it may be relative to it.",
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Refuse a manifest with unusable rows instead of recording them as failed.",
    ),
]
RowsPerShardOption = Annotated[
    int | None,
    typer.Option(min=1, help="Rows scheduled and resumed together. Chosen by size if left out."),
]


def plan(
    manifest: ManifestArgument,
    output: Annotated[
        str,
        typer.Option(metavar="DEST", help="What `run` will be given as --output, local or s3://."),
    ],
    rows_per_shard: RowsPerShardOption = None,
    strict: StrictOption = False,
) -> None:
    """Check a manifest and split it into shards, for `run`.

    `run` plans by itself what is not planned. Exit code 0: planned. 2: planned, some rows are
    unusable and will be recorded as failed. 1: the manifest cannot be used.
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
    raise typer.Exit(2 if made.rejected else 0)
