"""``catalog-cleanup bench``: each benchmark is a command; heavy libraries load only in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.bench.table import show
from jobs.run_options import RecipeOption, SetOption

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
    """Editing a JPEG in place and verifying it, against coding anew."""
    from jobs.bench.jpeg import JpegCost, measure

    columns: dict[str, Callable[[JpegCost], str]] = {
        "12-megapixel JPEG": lambda cost: cost.kind,
        "MB": lambda cost: f"{cost.megabytes:.1f}",
        "kept": lambda cost: f"{cost.kept_seconds:.2f} s",
        "again": lambda cost: f"{cost.whole_seconds:.2f} s",
        "ratio": lambda cost: f"{cost.kept_seconds / cost.whole_seconds:.1f}",
        "size": lambda cost: f"{cost.growth - 1:+.1%}",
    }
    show(measure(), columns, json_, first=20)


@app.command()
def judge(
    holes: Annotated[int, typer.Option(min=1, help="In each photo; five cases each.")] = 5,
    photos: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Further photos, of which none is used for choosing."),
    ] = None,
) -> None:
    """How surely the judge tells objects that came back. Takes minutes."""
    from jobs.bench.judge import report

    for line in report(holes, photos):
        typer.echo(line)


@app.command()
def detail(
    holes: Annotated[int, typer.Option(min=1, help="In each of the bundled photos.")] = 10,
) -> None:
    """How many patches refine.when=auto skips, and how well."""
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
    """Time and memory to plan manifests of any size; Linux only."""
    from jobs.bench.plan import KINDS, PlanCost, measure

    _check("--kind", kind or [], KINDS)
    columns: dict[str, Callable[[PlanCost], str]] = {
        "manifest": lambda cost: cost.kind,
        "rows": lambda cost: f"{cost.rows}",
        "MB": lambda cost: f"{cost.megabytes:.0f}",
        "seconds": lambda cost: f"{cost.seconds:.2f}",
        "of CPU": lambda cost: f"{cost.cpu_seconds:.2f}",
        "rows/s": lambda cost: f"{cost.rows / cost.seconds:.0f}",
        "peak MiB": lambda cost: f"{cost.peak_mib:.0f}",
        "shards": lambda cost: f"{cost.shards}",
    }
    figures = measure(kind or ["csv", "parquet"], sorted(rows or [100_000, 1_000_000]))
    show(figures, columns, json_, first=14)


@app.command()
def resume(
    rows: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Rows of the plan. Repeatable; default: 100000 and 1000000."),
    ] = None,
    json_: JsonOption = None,
) -> None:
    """Time and memory to find which rows are left; Linux only."""
    from jobs.bench.resume import ResumeCost, measure

    columns: dict[str, Callable[[ResumeCost], str]] = {
        "rows": lambda cost: f"{cost.rows}",
        "shards": lambda cost: f"{cost.shards}",
        "seconds": lambda cost: f"{cost.seconds:.2f}",
        "of CPU": lambda cost: f"{cost.cpu_seconds:.2f}",
        "rows/s": lambda cost: f"{cost.rows / cost.seconds:.0f}",
        "peak MiB": lambda cost: f"{cost.peak_mib:.0f}",
        "left": lambda cost: f"{cost.remaining}",
    }
    show(measure(sorted(rows or [100_000, 1_000_000])), columns, json_, first=11)


@app.command()
def efficiency(
    recipe: RecipeOption = "telea",
    overrides: SetOption = None,
    photos: Annotated[int, typer.Option(min=1, help="To clean in each way.")] = 2000,
    megapixels: Annotated[
        float, typer.Option(min=1, help="Of the largest photo; the smallest has one.")
    ] = 4.0,
    json_: JsonOption = None,
) -> None:
    """What the DAG costs beside its steps; Linux only. Takes minutes.

    1.00 is what the steps alone would take, in a plain process for each core.
    """
    from jobs.bench.efficiency import Efficiency, measure
    from stages.recipe import Recipe

    columns: dict[str, Callable[[Efficiency], str]] = {
        "way": lambda cost: cost.way,
        "photos": lambda cost: f"{cost.photos}",
        "start s": lambda cost: f"{cost.start_seconds:.1f}",
        "seconds": lambda cost: f"{cost.seconds:.1f}",
        "end s": lambda cost: f"{cost.end_seconds:.1f}",
        "of CPU": lambda cost: f"{cost.cpu_seconds:.1f}",
        "efficiency": lambda cost: f"{cost.efficiency:.2f}",
        "KB/photo": lambda cost: f"{cost.bytes_a_photo / 1e3:.1f}",
        "actor MiB": lambda cost: f"{cost.actor_mib:.0f}",
        "driver MiB": lambda cost: f"{cost.driver_mib:.0f}",
    }
    show(measure(Recipe.load(recipe, overrides or ()), photos, megapixels), columns, json_, 11)


@app.command()
def scale(
    actors: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Actors of the model. Repeatable; default: 1, 4, 16 and 64."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="That the model sleeps for each photo; default: as long as FLUX-Fill works on a "
            "megapixel for the recipe clean, by the published figure that estimate has, too.",
        ),
    ] = None,
    photos: Annotated[int, typer.Option(min=1, help="For each actor.")] = 24,
    json_: JsonOption = None,
) -> None:
    """How near to linear more model actors are; Linux only. Takes minutes.

    The model sleeps; all else is as in every run.
    """
    from jobs.bench.scale import Scale, documented_seconds, measure

    columns: dict[str, Callable[[Scale], str]] = {
        "actors": lambda cost: f"{cost.actors}",
        "photos": lambda cost: f"{cost.photos}",
        "ramp-up s": lambda cost: f"{cost.ramp_seconds:.1f}",
        "steady s": lambda cost: f"{cost.steady_seconds:.1f}",
        "photos/s": lambda cost: f"{cost.photos_a_second:.2f}",
        "busy": lambda cost: f"{cost.busy:.3f}",
        "head cores": lambda cost: f"{cost.driver_cores:.2f}",
        "at 1000": lambda cost: (
            "" if cost.driver_cores_of_many is None else f"{cost.driver_cores_of_many:.1f}"
        ),
    }
    seconds = seconds or documented_seconds()
    show(measure(actors or [1, 4, 16, 64], seconds, photos), columns, json_, 8)


@app.command()
def io(
    folder: Annotated[str, typer.Argument(metavar="S3_URI", help="Where objects may be written.")],
    kilobytes: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Size of the objects. Repeatable; default: 100, 1000, 8000."),
    ] = None,
    objects: Annotated[int, typer.Option(min=1, help="Of each size.")] = 200,
    threads: Annotated[int, typer.Option(min=1, help="At once.")] = 8,
    pairs: Annotated[int, typer.Option(min=1, help="Of timings, one after the other.")] = 5,
    json_: JsonOption = None,
) -> None:
    """Objects and bytes to and from S3, against boto3 alone."""
    if not folder.startswith("s3://"):
        raise typer.BadParameter(f"{folder} is no s3:// URI", param_hint="S3_URI")
    from jobs.bench.io import IoCost, measure

    columns: dict[str, Callable[[IoCost], str]] = {
        "": lambda cost: f"{cost.what} {cost.kilobytes} kB",
        "objects/s": lambda cost: f"{cost.objects_a_second:.0f}",
        "MB/s": lambda cost: f"{cost.megabytes_a_second:.0f}",
        "boto3's": lambda cost: f"{cost.boto3_objects_a_second:.0f}",
        "ratio": lambda cost: f"{cost.ratio:.2f}",
    }
    figures = measure(folder.rstrip("/"), kilobytes or [100, 1000, 8000], objects, threads, pairs)
    show(figures, columns, json_, 13)


@app.command()
def pipeline(
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="lama or telea, which others have, too.")
    ] = "telea",
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="Run beside ours: pool (our steps in a multiprocessing pool), iopaint, and for "
            "lama simple-lama. Repeatable; default: the first two."
        ),
    ] = None,
    set_: SetOption = None,
    photos: Annotated[int, typer.Option(min=1, help="Cleaned in each round.")] = 24,
    megapixels: Annotated[
        float, typer.Option(min=0.1, help="Of the largest photo; the smallest has 1 at most.")
    ] = 16.0,
    pairs: Annotated[int, typer.Option(min=1, help="Rounds of all programs.")] = 3,
    peers: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the others are installed, and stay; default: the user's caches.",
        ),
    ] = None,
    here: Annotated[
        bool,
        typer.Option("--here", help="Install nothing: run simple-lama as it is installed here."),
    ] = False,
    json_: JsonOption = None,
) -> None:
    """Photos a second of the whole pipeline, against other tools. Minutes.

    Real photos of many sizes, two JPEGs to each PNG. Nothing is told before all rounds are done.
    """
    from jobs.bench.peers import PEERS, default_folder
    from jobs.bench.pipeline import PipelineCost, Setup, default_peers, measure

    _check("--recipe", [recipe], PEERS)
    _check("--peer", peer or [], PEERS[recipe])
    columns: dict[str, Callable[[PipelineCost], str]] = {
        f"{photos} photos, {recipe}": lambda cost: cost.way,
        "megapixels": lambda cost: f"{cost.megapixels:.0f}",
        "start": lambda cost: f"{cost.startup_s:.1f} s",
        "work": lambda cost: f"{cost.work_s:.1f} s",
        "photos/s": lambda cost: f"{cost.images_per_s:.2f}",
        "ours is": lambda cost: f"{cost.ratio:.2f}x",
    }
    setup = Setup(
        recipe=recipe,
        overrides=set_ or (),
        peers=peer or default_peers(recipe),
        photos=photos,
        most_megapixels=megapixels,
        pairs=pairs,
        environments=None if here else peers or default_folder(),
    )
    show(measure(setup), columns, json_, first=20)


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
    """Time and memory of full-size LaMa and FLUX-Fill on a GPU.

    Weights are random. Each way to run them is held against the loop that people write, and
    against what the arithmetic alone would take. Exit code 0: all was measured. 2: some was not,
    and it is told why. 1: nothing was.
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
