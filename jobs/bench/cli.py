"""``catalog-cleanup bench``: each benchmark is a command; heavy libraries load only in it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jobs.bench.gpu import GpuCost

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


@app.command()
def resume(
    rows: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Rows of the plan. Repeatable; default: 100000 and 1000000."),
    ] = None,
    json_: JsonOption = None,
) -> None:
    """Time and memory to find which rows of an output are done, failed and left; Linux only."""
    import json
    from dataclasses import asdict

    from jobs.bench.resume import measure

    found = []
    head = ("rows", "shards", "seconds", "of CPU", "rows/s", "peak MiB", "left")
    typer.echo("".join(f"{name:>11}" for name in head))
    for cost in measure(sorted(rows or [100_000, 1_000_000])):
        found.append(asdict(cost))
        typer.echo(
            f"{cost.rows:11}{cost.shards:11}{cost.seconds:11.2f}{cost.cpu_seconds:11.2f}"
            f"{cost.rows / cost.seconds:11.0f}{cost.peak_mib:11.0f}{cost.remaining:11}"
        )
    if json_:
        json_.write_text(json.dumps(found, indent=2))


@app.command()
def gpu(
    only: Annotated[
        str | None, typer.Option(metavar="NETWORK", help="lama or flux-fill alone.")
    ] = None,
    way: Annotated[
        list[str] | None,
        typer.Option(help="This way to run it alone, as the table names it. Repeatable."),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(metavar="PX", help="Side of the pictures. Repeatable; else 512, 768, 1024."),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Pictures at once. Repeatable; else 1 and 4."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Calls that are timed.")] = 3,
    device: Annotated[
        str | None, typer.Option(help="Of torch: cuda:1, or cpu for LaMa. Else the first GPU.")
    ] = None,
    tiny: Annotated[
        bool,
        typer.Option("--tiny", help="Tiny networks, on any device: a rehearsal, not a measure."),
    ] = False,
    json_: JsonOption = None,
) -> None:
    """Time and memory of LaMa and FLUX-Fill on a GPU: full size, random weights.

    Each way to run them is held against the loop that people write, and against what the
    arithmetic alone would take. Exit code 0: all was measured. 2: some was not, and it is told
    why. 1: nothing was.
    """
    from importlib.util import find_spec

    from manifests.errors import WeightsError

    if not find_spec("torch"):
        raise WeightsError("model.not_installed", "The benchmark runs the models' libraries.")
    from jobs.bench.gpu import BATCHES, SIZES_PX, Setup, measure, place
    from jobs.bench.report import exit_code, heading, line, record
    from jobs.bench.ways import WAYS

    names = [name for name in WAYS if only in (None, name)]
    _check("--only", [only] if only else [], WAYS)
    _check("--way", way or [], [each for name in names for each in WAYS[name]])
    if odd := [px for px in size or [] if px < 16 or px % 16]:
        raise typer.BadParameter(f"{odd[0]} is no multiple of 16", param_hint="--size")
    setup = Setup(
        device=place(device, tiny=tiny),
        networks=names,
        ways=way or (),
        sizes=size or ((64,) if tiny else SIZES_PX),
        batches=batch or BATCHES,
        repeats=repeats,
        tiny=tiny,
    )
    typer.echo(heading(setup))
    costs: list[GpuCost] = []
    for cost in measure(setup):
        costs.append(cost)
        typer.echo(line(costs))
        if json_:  # each time: a spot machine may be gone before the end
            json_.write_text(json.dumps(record(setup, costs), indent=2))
    raise typer.Exit(exit_code(costs))


def _check(option: str, named: Iterable[str], known: Collection[str]) -> None:
    for name in named:
        if name not in known:
            listed = ", ".join(known)
            raise typer.BadParameter(f"{name} is none of {listed}", param_hint=option)
