"""``catalog-cleanup models``: lists, downloads and verifies models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli import streams
from jobs.cli.printing import console_for

if TYPE_CHECKING:
    from manifests.storage.path import StoragePath
    from stages.weights.resolve import Weights

app = typer.Typer(no_args_is_help=True, help="List, download and verify models.")


@app.command("list", epilog="Example: catalog-cleanup models list")
def list_() -> None:
    """List the registered models: purpose, size, licence, origin."""
    from stages.weights.hashes import cache_folder
    from stages.weights.registry import registered_models
    from stages.weights.resolve import cached

    for model in registered_models().values():
        size = f"{model.size / 1e6:,.0f} MB" if model.size else "size unknown"
        gated = ", requires accepting its licence there" if model.gated else ""
        pinned = "" if model.content else ", not pinned: a run requires what is there at its start"
        path, variable = cached(model), os.environ.get(model.env)
        typer.echo(
            f"{model.name}\n"
            f"    {model.kind}, {size}; {model.licence}; "
            f"commercial use: {model.commercial_use}\n"
            f"    from {' or '.join(model.sources)}{gated}{pinned}"
        )
        if variable:
            typer.echo(f"    {model.env}={variable}")
        else:
            typer.echo(f"    cached: {path}" if path else "    not cached")
    typer.echo(f"\nThis machine's cache is {cache_folder()} (CATALOG_CLEANUP_CACHE).")


@app.command(epilog="Example: catalog-cleanup models pull big-lama")
def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A registered model, or an s3://, hf:// or https:// URI."
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(metavar="DEST", help="Also copy it into this folder, local or s3://."),
    ] = None,
) -> None:
    """Download a model into this machine's cache, and verify it."""
    from jobs.preflight import logging_downloads
    from manifests.storage.path import StoragePath
    from stages.weights.resolve import get_weights

    try:
        folder = StoragePath.of(to) if to else None
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="--to") from None
    streams.tolerate_lost_output()
    with logging_downloads(console_for()):
        weights = get_weights(name, env=False)
    typer.echo(f"{weights.name}: {weights.path}, sha256 {weights.sha256}")
    if weights.model and weights.model.licence_notice:
        typer.echo(weights.model.licence_notice)
    if folder:
        typer.echo(f"Copied; use this in recipes: {_copy(weights, folder)}")


def _copy(weights: Weights, folder: StoragePath) -> str:
    """Copy weights into a folder; files at the top come last, since loaders look for them.

    Returns:
        Path or URI of the copy.

    Raises:
        OutputError: ``output.not_writable``.
    """
    from stages.weights.hashes import files_in

    target = folder / (weights.name if weights.path.is_dir() else weights.path.name)
    for inner, path in sorted(files_in(weights.path), key=lambda each: "/" not in each[0]):
        (target / inner if inner else target).upload(path)
    return target.uri


@app.command(epilog="Example: catalog-cleanup models verify big-lama")
def verify(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this model.")] = None,
) -> None:
    """Check cached models against the registered hashes.

    Models registered without a hash are checked against their hash at download. Exit codes: 0 all
    match; 3 some differ; 1 the model is not in the cache.
    """
    from manifests.errors import WeightsError
    from stages.weights.cache import entries, verify_hash
    from stages.weights.registry import registered_models
    from stages.weights.resolve import cache_folder_of

    models = {cache_folder_of(model): model for model in registered_models().values()}
    checked = bad = 0
    for entry in entries():
        model = models.get(entry.path.parent)
        label = model.name if model else entry.source
        if name not in (None, label):
            continue
        registered = model.sha256 if model else ""
        checked += 1
        try:
            verify_hash(entry.path, registered or entry.sha256, read_all=True)
            by = "registered" if registered else "at download"
            typer.echo(f"ok    {label}: sha256 {registered or entry.sha256}, as {by}")
        except WeightsError as error:
            bad += 1
            typer.echo(f"bad   {error.message} Delete {entry.path.parent}, and download it again.")
    if name and not checked:
        raise WeightsError("weights.missing", f"{name} is not in this machine's cache.")
    typer.echo(f"{checked - bad} of {checked} match.")
    raise typer.Exit(3 if bad else 0)
