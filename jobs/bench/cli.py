"""``catalog-cleanup bench``: each benchmark is a command; heavy libraries load only in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Measure what things cost, on this machine.")

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures there.")
]


@app.callback()
def _benchmarks() -> None:
    pass


@app.command()
def jpeg(json_: JsonOption = None) -> None:
    """CPU time to edit a 12-megapixel JPEG and verify the result, against coding it again."""
    import json
    from dataclasses import asdict

    from jobs.bench.jpeg import measure

    found = []
    typer.echo(
        f"{'12-megapixel JPEG':20} {'MB':>5} {'kept':>8} {'again':>8} {'ratio':>6} {'size':>7}"
    )
    for cost in measure():
        found.append(asdict(cost))
        ratio = cost.kept_seconds / cost.whole_seconds
        typer.echo(
            f"{cost.kind:20} {cost.megabytes:5.1f} {cost.kept_seconds:6.2f} s "
            f"{cost.whole_seconds:6.2f} s {ratio:6.1f} {cost.growth - 1:+7.1%}"
        )
    if json_:
        json_.write_text(json.dumps(found, indent=2))


@app.command()
def plan(
    rows: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Rows of the manifest. Repeatable; default: 100000 and 1000000."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT",
            help="csv, jsonl or parquet; csv+boxes has shapes, too. Repeatable; default: csv and "
            "parquet.",
        ),
    ] = None,
    json_: JsonOption = None,
) -> None:
    """Time and memory to plan manifests that are made for it; Linux only."""
    import json
    from dataclasses import asdict

    from jobs.bench.plan import KINDS, measure

    if unknown := set(kind or ()).difference(KINDS):
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))} is none of {', '.join(KINDS)}", param_hint="--kind"
        )
    found = []
    head = ("rows", "MB", "seconds", "of CPU", "rows/s", "peak MiB", "shards")
    typer.echo(" " * 14 + "".join(f"{name:>11}" for name in head))
    for cost in measure(kind or ["csv", "parquet"], sorted(rows or [100_000, 1_000_000])):
        found.append(asdict(cost))
        typer.echo(
            f"{cost.kind:14}{cost.rows:11}{cost.megabytes:11.0f}{cost.seconds:11.2f}"
            f"{cost.cpu_seconds:11.2f}{cost.rows / cost.seconds:11.0f}{cost.peak_mib:11.0f}"
            f"{cost.shards:11}"
        )
    if json_:
        json_.write_text(json.dumps(found, indent=2))
