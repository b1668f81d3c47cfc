"""``catalog-cleanup evaluate``: compares the results of recipes with references."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from jobs.cli import streams
from jobs.cli.options import SetOption
from jobs.cli.printing import console_for

if TYPE_CHECKING:
    from jobs.evaluation.evaluate import Evaluation

#: The recipes that need no weights.
_DEFAULT_RECIPES = ("telea", "navier-stokes", "patchmatch")

#: Heading -> format of a score of :class:`jobs.evaluation.evaluate.Scores`.
_COLUMNS = {
    "PSNR, dB": "{0.psnr:.2f}",
    "SSIM": "{0.ssim:.3f}",
    "ring, dB": "{0.ring_psnr:.2f}",
    "ring SSIM": "{0.ring_ssim:.3f}",
    "outside": "{0.outside_levels}",
    "seam": "{0.seam:+.2f}",
    "seconds": "{0.seconds:.2f}",
}


class _Group(TyperGroup):
    """``evaluate MANIFEST`` stands for ``evaluate compare MANIFEST``."""

    default = "compare"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *self.get_help_option_names(ctx)):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="Compare recipes on photos with known good results: `evaluate MANIFEST`, short for "
    "`evaluate compare MANIFEST`.",
)


@app.command(epilog="Example: catalog-cleanup evaluate compare benchmark.csv -r telea -r lama")
def compare(
    manifest: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST",
            help="A manifest with a column `reference`: the correct result of each photo.",
        ),
    ],
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            "-r",
            metavar="NAME_OR_TOML",
            help=f"Repeatable; {', '.join(_DEFAULT_RECIPES)} if omitted.",
        ),
    ] = None,
    set_: SetOption = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write an HTML page with pictures.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of processes. Default: the number of CPUs; 1 for recipes with models.",
        ),
    ] = None,
) -> None:
    """Compare recipes on photos with known good results. Runs without Ray.

    Exit codes: 0 all rows ok; 3 finished, but some rows failed.
    """
    from jobs.evaluation.evaluate import evaluate, read_cases
    from jobs.preflight import check_weights
    from stages.recipe import Recipe

    streams.tolerate_lost_output()
    console = console_for()
    loaded = [Recipe.load(name, set_ or ()) for name in recipe or _DEFAULT_RECIPES]
    names = [each.name for each in loaded]
    if len(set(names)) < len(names):
        raise typer.BadParameter("two recipes have the same name", param_hint="--recipe")
    cases = read_cases(manifest)
    recipes = [check_weights(each, console, here=True)[0] for each in loaded]
    results = list(evaluate(cases, recipes, jobs=jobs, views=html is not None))
    table = [_line(name, [each for each in results if each.recipe == name]) for name in names]
    width = max(map(len, ("recipe", *names)))
    for name, *cells in (["recipe", "rows", *_COLUMNS], *table):
        console.print(f"{name:{width}}" + "".join(f"{cell:>11}" for cell in cells))
    for each in results:
        if each.error:
            console.print(f"{each.recipe}, {each.id}: {each.error}")
    if html:
        html.write_text(render(results, table), "utf-8")
        console.print(str(html))
    raise typer.Exit(3 if any(each.error for each in results) else 0)


@app.command(epilog="Example: catalog-cleanup evaluate make photos/*.jpg -o benchmark")
def make(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO", help="Photos: paths or URIs.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for manifest.csv and the pictures."
        ),
    ],
) -> None:
    """Make a benchmark from photos: paste objects into them; the photos are the references."""
    from jobs.evaluation.synthetic import make_benchmark

    try:
        typer.echo(make_benchmark(output, photos))
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="PHOTO") from None


def _line(name: str, results: Sequence[Evaluation]) -> list[str]:
    """The cells of a recipe's line in the table; empty where all of its rows failed."""
    from jobs.evaluation.evaluate import mean_scores

    mean = mean_scores(results)
    cells = (shown.format(mean) if mean else "" for shown in _COLUMNS.values())
    return [name, str(sum(each.scores is not None for each in results)), *cells]


def render(results: Sequence[Evaluation], table: Sequence[Sequence[str]]) -> str:
    """Render the page, a single file: the table, and each row's photo, reference and results."""
    import jinja2

    rows: dict[str, list[Evaluation]] = {}
    for each in results:
        rows.setdefault(each.id, []).append(each)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jobs"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    template = environment.get_template("comparison.html")
    return template.render(columns=["recipe", "rows", *_COLUMNS], table=table, rows=rows)
