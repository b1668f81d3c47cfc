"""``catalog-cleanup models``: which there are, and getting them; libraries load only when used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli import streams

if TYPE_CHECKING:
    from stages.weights.cache import Entry, Pin
    from stages.weights.catalogue import Model
    from stages.weights.find import Weights

app = typer.Typer(no_args_is_help=True, help="List the known models, fetch them, check them.")

TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Load a TorchScript or pickle for which no hash is listed; it can run code.",
    ),
]


@app.command("list")
def list_() -> None:
    """List the known models: purpose, size, licence, origin."""
    from stages.weights.catalogue import known
    from stages.weights.find import cached
    from stages.weights.hashes import cache_folder

    for model in known().values():
        commercial = "yes" if model.commercial else "no"
        size = f"{model.size / 1e6:,.0f} MB" if model.size else "size unknown"
        typer.echo(
            f"{model.name}\n"
            f"    {model.kind}, {size}; {model.licence}; commercial use: {commercial}\n"
            f"    from {_where(model)}\n"
            f"    {_state(model, cached(model))}"
        )
    typer.echo(f"\nThis machine's cache is {cache_folder()} (CATALOG_CLEANUP_CACHE).")


def _where(model: Model) -> str:
    gated = ", after its licence is accepted there" if model.gated else ""
    pinned = "" if model.is_pinned else ", unpinned"
    return f"{' or '.join(model.sources) or model.how or model.page}{gated}{pinned}"


def _state(model: Model, path: Path | None) -> str:
    if model.env and (named := os.environ.get(model.env)):
        return f"{model.env}={named}"
    return f"cached: {path}" if path else "not cached"


@app.command()
def pull(
    name: Annotated[
        str, typer.Argument(help="A listed model, or an s3://, hf:// or https:// URI.")
    ],
    to: Annotated[
        str | None,
        typer.Option(metavar="DEST", help="Also copy it into this folder, local or s3://."),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Fetch a model into this machine's cache, check it, and copy it on."""
    from stages.weights.catalogue import told_licence
    from stages.weights.find import obtain

    streams.keep_working()
    found = obtain(name, trust=trust, tell=typer.echo)
    typer.echo(f"{found.name}: {found.path}, sha256 {found.sha256}")
    if found.commercial is False:
        typer.echo(told_licence(found))
    if to:
        copy = _copy(found, to)
        typer.echo(f"Recipes can name the copy: {copy}")


def _copy(weights: Weights, destination: str) -> str:
    """Copy a file or folder into a folder; the file that tells loaders what it is comes last.

    Returns:
        Path or URI of the copy.

    Raises:
        DestinationError: ``output.not_writable``.
    """
    from manifests.errors import DestinationError
    from manifests.storage.objects import local_path, scheme_of
    from manifests.storage.s3 import objects
    from stages.weights.hashes import files_in

    is_s3 = scheme_of(destination) == "s3"
    name = weights.name if weights.path.is_dir() else weights.path.name
    base = destination.rstrip("/") if is_s3 else str(local_path(destination).absolute())
    target = f"{base}/{name}"
    try:
        for inner, path in sorted(files_in(weights.path), key=lambda each: "/" not in each[0]):
            place = f"{target}/{inner}" if inner else target
            if is_s3:
                objects.upload(path, place)
            else:
                _copy_file(path, Path(place))
    except OSError as error:
        raise DestinationError("output.not_writable", f"Cannot store {target}: {error}.") from None
    return target


def _copy_file(source: Path, target: Path) -> None:
    """Copy beside the target, and rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="This model only.")] = None,
) -> None:
    """Hold everything in the cache against the listed hashes.

    What is listed without one is held against what it was when it was fetched. Exit code 0: all is
    as it should be. 3: something is not. 1: the model is not in the cache.
    """
    from manifests.errors import WeightsError
    from stages.weights.cache import check, entries

    chosen = [entry for entry in entries() if name in (None, _entry_name(entry))]
    if name and not chosen:
        raise WeightsError("weights.missing", f"{name} is not in this machine's cache.")
    bad = 0
    for entry in chosen:
        path, expected, by = entry.content, *_expected(entry)
        try:
            if not path:
                raise WeightsError("weights.missing", f"{entry.path} is empty.")
            check(path, expected, anew=True)
            typer.echo(f"ok    {_entry_name(entry)}: {expected[0]} {expected[1]}, {by}")
        except WeightsError as error:
            bad += 1
            typer.echo(f"bad   {error.message} Delete {entry.path}, and fetch it again.")
    typer.echo(f"{len(chosen) - bad} of {len(chosen)} are as they should be.")
    raise typer.Exit(3 if bad else 0)


def _entry_name(entry: Entry) -> str:
    """The listed model that an entry holds, or what it was fetched from."""
    model = _model(entry)
    return model.name if model else str(entry.facts["source"])


def _expected(entry: Entry) -> tuple[Pin, str]:
    """The hash an entry must have, and who says so."""
    model = _model(entry)
    if model and model.pin:
        return model.pin, "as listed"
    return ("sha256", entry.sha256), "as when it was fetched"


def _model(entry: Entry) -> Model | None:
    from stages.weights.catalogue import known
    from stages.weights.find import entry_of

    return next((each for each in known().values() if entry_of(each) == entry), None)
