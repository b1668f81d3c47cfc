"""The command ``catalog-cleanup``. Heavy libraries load only in the commands that need them."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from jobs.cli import results, streams
from jobs.cli.detect import detect
from jobs.cli.estimate import estimate
from jobs.cli.evaluate import app as evaluate
from jobs.cli.info import doctor, errors, recipes
from jobs.cli.models import app as models
from jobs.cli.options import ManifestCommand
from jobs.cli.plan import plan
from jobs.cli.printing import print_error
from jobs.cli.run import demo, run, try_
from jobs.cli.stop import stop
from jobs.cli.submit import submit
from manifests.errors import CatalogCleanupError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # its panels double the start-up time
    help="Remove marked objects, text and watermarks from catalog photos in bulk. "
    "Try `catalog-cleanup demo`, which cleans bundled photos.",
)

#: Name -> function and example, in the order of `--help`.
_COMMANDS: dict[str, tuple[Any, str]] = {
    "demo": (demo, "demo"),
    "try": (try_, "try photo.jpg mask.png -o cleaned.jpg --recipe telea"),
    "plan": (plan, "plan catalog.csv -o s3://bucket/cleaned"),
    "run": (run, "run photos/ --masks masks/ -o cleaned -r lama --limit 500"),
    "detect": (detect, "detect photos/ -o found --set detect.keep=Acme"),
    "status": (results.status, "status cleaned"),
    "failures": (results.failures, "failures cleaned --to failures.jsonl"),
    "report": (results.report, "report cleaned --only flagged,failed"),
    "verify": (results.verify, "verify cleaned --sample 1000"),
    "stop": (stop, "stop s3://bucket/cleaned"),
    "estimate": (estimate, "estimate catalog.parquet --from pilot --deadline 3d"),
    "recipes": (recipes, "recipes clean > mine.toml"),
    "errors": (errors, "errors mask.bad_shape"),
    "doctor": (doctor, "doctor --s3 s3://bucket/some/prefix"),
}


def _example(call: str) -> str:
    return f"Example: catalog-cleanup {call}"


for _name, (_function, _call) in _COMMANDS.items():
    _class = ManifestCommand if _name in ("plan", "run", "detect", "estimate") else TyperCommand
    app.command(_name, cls=_class, epilog=_example(_call))(_function)
app.command(
    "submit",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[OPTIONS] MANIFEST [OPTIONS OF run]",
    epilog=_example("submit --address http://HEAD:8265 s3://bucket/catalog.csv -o s3://bucket/out"),
)(submit)
app.add_typer(
    evaluate, name="evaluate", epilog=_example("evaluate benchmark.csv -r patchmatch -r lama")
)
app.add_typer(models, name="models", epilog=_example("models pull big-lama"))


def _print_version(is_requested: bool) -> None:
    if is_requested:
        from importlib.metadata import version

        typer.echo(version("catalog-cleanup"))
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; print an error that the user can fix as one line."""
    streams.guard()
    try:
        app()
    except CatalogCleanupError as error:
        print_error(error.code, str(error))
        sys.exit(1)
    except streams.OutputLostError as error:
        print_error(str(error.filename), f"{error.strerror}.")
        sys.exit(1)
