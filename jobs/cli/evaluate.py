"""``catalog-cleanup evaluate``: a table and a page of how near recipes come to references."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import streams

if TYPE_CHECKING:
    from jobs.evaluation.evaluate import Evaluated

#: Those that need no weights.
_DEFAULT_RECIPES = ("telea", "navier-stokes", "patchmatch")

_COLUMNS = (
    "recipe",
    "rows",
    "PSNR, dB",
    "SSIM",
    "ring, dB",
    "ring SSIM",
    "outside",
    "seam",
    "seconds",
)


def evaluate(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="MANIFEST",
            help="A manifest with the column `reference`: each photo as it should look. With "
            "--make: PHOTO..., paths or URIs.",
        ),
    ],
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME_OR_TOML",
            help=f"Repeatable; {', '.join(_DEFAULT_RECIPES)} if left out.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH.TO.OPTION=VALUE", help="In each recipe. Repeatable."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with pictures there.")
    ] = None,
    lpips: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also measure LPIPS: torchvision's weights of AlexNet, "
            "alexnet-owt-7be5be79.pth, or the same as safetensors.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; as many as CPUs, for recipes with models one."),
    ] = None,
    make: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Make a benchmark there from any photos: things pasted in, the photos kept as "
            "references.",
        ),
    ] = None,
) -> None:
    """Compare recipes on photos with known good results. Runs without Ray.

    Exit codes: 0 all rows were done; 3 some failed.
    """
    if make:
        from jobs.evaluation.benchmark import make_benchmark

        typer.echo(make_benchmark(make, sources))
        return
    if len(sources) > 1:
        raise typer.BadParameter("name one manifest; several photos only with --make")
    from rich.console import Console

    from jobs.evaluation.evaluate import evaluate as compare
    from jobs.evaluation.evaluate import read_rows
    from jobs.preflight import prepare
    from stages.recipe import Recipe

    streams.keep_working()
    console = Console()
    loaded = [Recipe.load(name, set_ or ()) for name in recipe or _DEFAULT_RECIPES]
    rows = read_rows(sources[0])
    recipes = [prepare(each, console, here=True)[0] for each in loaded]
    found = list(compare(rows, recipes, jobs=jobs, views=html is not None, lpips=lpips))
    columns = (*_COLUMNS, "LPIPS") if lpips else _COLUMNS
    table = [_line(name, found, columns) for name in dict.fromkeys(each.name for each in recipes)]
    _print(console, columns, table)
    for each in found:
        if each.error:
            console.print(f"{each.recipe}, {each.id}: {each.error}", markup=False, soft_wrap=True)
    if html:
        html.write_text(render(found, columns, table), "utf-8")
        console.print(str(html), soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(3 if any(each.error for each in found) else 0)


def _line(name: str, found: Sequence[Evaluated], columns: Sequence[str]) -> list[str]:
    """A recipe's line of the table."""
    from jobs.evaluation.evaluate import mean_figures

    own = [each for each in found if each.recipe == name]
    mean = mean_figures(own)
    count = str(sum(each.figures is not None for each in own))
    if mean is None:
        return [name, count, *[""] * (len(columns) - 2)]
    return [
        name,
        count,
        f"{mean.psnr:.2f}",
        f"{mean.ssim:.3f}",
        f"{mean.ring_psnr:.2f}",
        f"{mean.ring_ssim:.3f}",
        f"{mean.outside_levels} levels" if mean.outside_levels else "exact",
        f"{mean.seam:+.2f}",
        f"{mean.seconds:.2f}",
        *([] if mean.lpips is None else [f"{mean.lpips:.3f}"]),
    ]


def _print(console: Any, columns: Sequence[str], table: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    shown = Table(*columns, box=SIMPLE)
    for line in table:
        shown.add_row(*line)
    console.print(shown)


def render(
    found: Sequence[Evaluated], columns: Sequence[str], table: Sequence[Sequence[str]]
) -> str:
    """The page: the table, and for each row its photo, reference and results, inside the file."""
    import jinja2

    rows: dict[str, list[Evaluated]] = {}
    for each in found:
        rows.setdefault(each.id, []).append(each)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jobs"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("comparison.html").render(
        columns=columns, table=table, rows=rows
    )


def _data_uri(webp: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp).decode()
