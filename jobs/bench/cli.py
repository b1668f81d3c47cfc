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
def judge(
    holes: Annotated[int, typer.Option(min=1, help="In each photo; five cases each.")] = 5,
    photos: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Further photos, of which none is used for choosing."),
    ] = None,
) -> None:
    """How surely the judge tells an object that came back from repaired texture. Minutes."""
    from jobs.bench.judge import report

    for line in report(holes, photos):
        typer.echo(line)


@app.command()
def detail(
    holes: Annotated[int, typer.Option(min=1, help="In each of the bundled photos.")] = 10,
) -> None:
    """How many patches refine.when=auto leaves as they are, and how far off their fills are."""
    from jobs.bench.detail import report

    for line in report(holes):
        typer.echo(line)
