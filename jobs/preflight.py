"""Weights before a run: fetched or checked, pinned, licences printed, recorded for ``run.json``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from manifests.errors import WeightsError
from stages.extras import require
from stages.recipe import Recipe
from stages.weights.find import (
    TRUST_VARIABLE,
    find,
    pin_of,
    presumed_model,
    validate_ref,
    weights_of,
    with_pins,
)


@contextmanager
def allowing_unverified(is_allowed: bool) -> Iterator[None]:
    """Apply ``--allow-unverified-weights`` to this process and its Ray within the block."""
    before = os.environ.get(TRUST_VARIABLE)
    if is_allowed:
        os.environ[TRUST_VARIABLE] = "1"
    try:
        yield
    finally:
        if is_allowed and before is None:
            del os.environ[TRUST_VARIABLE]


@contextmanager
def logging_downloads(console: Console) -> Iterator[None]:
    """Print the progress of downloads within the block, one line at a time."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _print(console, record.getMessage())

    logger, handler = logging.getLogger("stages.weights"), Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _print(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def check_weights(recipe: Recipe, console: Console, *, here: bool) -> tuple[Recipe, dict[str, Any]]:
    """Make sure of a recipe's weights before anything starts, and print their licences.

    Each part is pinned to the content of its weights: the recipe's hash follows from that, and
    machines that find other content refuse it.

    Args:
        recipe: the recipe of the run.
        console: where progress and licences go.
        here: the work is done on this machine, so that they can be fetched, or missed, now. Else
            its nodes do so, and only what is wrong everywhere is found.

    Returns:
        The recipe with every ``weights_pin``; and for each section that uses a model: its ``ref``,
        ``pin``, ``name``, ``licence``, whether it is ``commercial`` (None: not known), and its
        ``sha256``; empty what is not known here.

    Raises:
        WeightsError: see :func:`stages.weights.find.find`; ``model.not_installed``;
            ``weights.unidentified``: they are not here, and nothing says what they are.
    """
    pins: dict[str, str] = {}
    used: dict[str, Any] = {}
    notices: dict[str, str] = {}
    parts = weights_of(recipe)
    if here and parts:
        require("torch", f"The recipe {recipe.name}")
    with logging_downloads(console):
        for section, ref in parts:
            pin = getattr(recipe, section).weights_pin
            found = find(ref, pin=pin) if here else None
            pins[section] = pin or _pin(section, ref, here=here)
            model = found.model if found else validate_ref(ref)
            licensed = model or presumed_model(recipe, section, ref)
            used[section] = {
                "ref": ref,
                "pin": pins[section],
                "name": found.name if found else model.name if model else "",
                "licence": licensed.licence if licensed else "",
                "commercial": licensed.commercial if licensed else None,
                "sha256": found.sha256 if found else "",
            }
            if licensed and not licensed.commercial:
                notices[licensed.name] = licensed.licence_notice
    for name, notice in notices.items():
        _print(console, f"{name}: {notice}")
    return with_pins(recipe, pins), used


def _pin(section: str, ref: str, *, here: bool) -> str:
    """The content of weights; a machine that processes no photo may have to fetch them for this."""
    try:
        return pin_of(ref)
    except WeightsError as error:
        if here or error.code != "weights.missing":
            raise
        text = f"{section}.weights = {ref} cannot be read here: {error.message}"
        raise WeightsError("weights.unidentified", text) from None
