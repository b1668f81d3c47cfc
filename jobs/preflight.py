"""Checks before a run: downloads, verifies and pins weights, and prints their licences."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from manifests.errors import WeightsError
from stages.detection.options import TextOptions
from stages.optional_imports import require
from stages.recipe import Recipe
from stages.weights.registry import registered_models
from stages.weights.resolve import (
    Weights,
    content_pin,
    full_option_path,
    get_weights,
    is_list_item,
    join_notices,
    needs_download,
    presumed_model,
    recorded_pin,
    validate_ref,
    weights_of,
    with_pins,
)


@contextmanager
def logging_downloads(console: Console) -> Iterator[None]:
    """Print the progress of downloads within the block, one line at a time."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print(record.getMessage())

    logger, handler = logging.getLogger("stages.weights"), Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def require_libraries(recipe: Recipe) -> None:
    """Check that the libraries that a recipe needs are installed on this machine.

    Raises:
        WeightsError: ``model.not_installed``.
    """
    needed_by = f"The recipe {recipe.name}"
    if recipe.detect:
        require(*recipe.detect.libraries, needed_by=needed_by)
    if weights_of(recipe):
        require("torch", needed_by=needed_by)
    if recipe.judge and recipe.judge.text:
        require(*TextOptions.libraries, needed_by="judge.text")


def check_weights(
    recipe: Recipe, console: Console, *, here: bool, download: bool = True
) -> tuple[Recipe, dict[str, Any]]:
    """Check and pin the weights and templates of a recipe before a run, and print their licences.

    All weights are pinned to their content. The recipe's hash depends on it, and machines that
    find other content refuse it.

    Args:
        recipe: the recipe of the run.
        console: where to print progress and licences.
        here: whether this machine cleans the photos, so that weights are downloaded now. Otherwise
            the cluster's nodes download them, and only errors that apply everywhere are found.
        download: False: weights that are not on this machine are not checked, and not pinned if
            nothing else identifies them; :func:`to_download` lists them.

    Returns:
        The recipe with the pins of all weights; and for each option path of
        :func:`stages.weights.resolve.weights_of` its ``ref``, ``pin``, ``name``, ``licence``,
        whether it is ``commercial`` (None: not known), and its ``sha256``. What is not known here
        is empty.

    Raises:
        WeightsError: see :func:`stages.weights.resolve.get_weights`; ``model.not_installed``;
            ``weights.unidentified``: they are not on this machine, and nothing identifies them.
    """
    if here:
        require_libraries(recipe)
    if recipe.detect:
        recipe = recipe.model_copy(update={"detect": recipe.detect.pinned()})
    pins: dict[str, str] = {}
    used: dict[str, Any] = {}
    notices: list[tuple[str, str]] = []
    with logging_downloads(console):
        for option_path, ref in weights_of(recipe):
            found, pins[option_path] = _checked(
                recipe, option_path, ref, here=here, download=download
            )
            model = found.model if found else validate_ref(ref)
            licensed = model or presumed_model(recipe, option_path, ref)
            used[option_path] = {
                "ref": ref,
                "pin": pins[option_path],
                "name": found.name if found else model.name if model else "",
                "licence": licensed.licence if licensed else "",
                "commercial": licensed.commercial if licensed else None,
                "sha256": found.sha256 if found else "",
            }
            if licensed:
                notices.append((licensed.name, licensed.licence_notice))
            elif is_list_item(option_path):
                notices.append((ref, "the licence of this adapter is not known; check it."))
    for notice in join_notices(notices):
        console.print(notice)
    return with_pins(recipe, pins), used


def _checked(
    recipe: Recipe, option_path: str, ref: str, *, here: bool, download: bool
) -> tuple[Weights | None, str]:
    """The weights at an option path, if they are to be on this machine, and their pin."""
    pin = recorded_pin(recipe, option_path)
    part = recipe.remove.part if recipe.remove and option_path.startswith("remove") else ""
    try:
        wanted = here and (download or not needs_download(ref, part))
        found = get_weights(ref, pin=pin, part=part) if wanted else None
        return found, pin or content_pin(ref, download=download)
    except WeightsError as error:
        if here or error.code != "weights.missing":
            raise
        text = f"{full_option_path(option_path)} = {ref} cannot be read here: {error.message}"
        raise WeightsError("weights.unidentified", text) from None


def to_download(used: Mapping[str, Any], *, here: bool) -> list[str]:
    """List what :func:`check_weights` would have downloaded, from its result without downloads."""
    refs = [each["ref"] for each in used.values() if not each["sha256" if here else "pin"]]
    models = {ref: registered_models().get(ref) for ref in refs}
    return [
        f"{ref} ({model.size / 1e6:,.0f} MB)" if model and model.size else ref
        for ref, model in models.items()
    ]
