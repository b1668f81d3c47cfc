"""Weights before a run: had or foreseen, pinned, their licences told, noted for ``run.json``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from rich.console import Console

from manifests.errors import WeightsError
from stages.recipe import Recipe
from stages.weights.catalogue import told_licence
from stages.weights.download import Tell
from stages.weights.find import (
    TRUST,
    Weights,
    find,
    foresee,
    of_recipe,
    pin_of,
    presumed,
    silent,
    with_pins,
)


@contextmanager
def trusted(trust: bool) -> Iterator[None]:
    """Have ``--trust`` hold within the block, for this process and the Ray it starts or joins."""
    before = os.environ.get(TRUST)
    if trust:
        os.environ[TRUST] = "1"
    try:
        yield
    finally:
        if trust and before is None:
            del os.environ[TRUST]


def prepare(recipe: Recipe, console: Console, *, here: bool) -> tuple[Recipe, dict[str, Any]]:
    """Make sure of a recipe's weights before anything starts, and tell of their licences.

    Each part is pinned to the content of its weights: the recipe's hash follows from that, and
    machines that find other content refuse it.

    Args:
        recipe: whose.
        console: where progress and licences go.
        here: the work is done on this machine, so that they can be fetched, or missed, now. Else
            its nodes do so, and only what is wrong everywhere is found.

    Returns:
        The recipe with every ``weights_pin``; and for each section that uses a model: its ``ref``,
        ``pin``, ``name``, ``licence``, whether it is ``commercial`` (None: not known), and its
        ``sha256``; empty what is not known here.

    Raises:
        WeightsError: see :func:`stages.weights.find`; ``model.not_installed``;
            ``weights.unidentified``: they are not here, and nothing says what they are.
    """
    pins: dict[str, str] = {}
    used: dict[str, Any] = {}
    told: set[str] = set()

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    parts = of_recipe(recipe)
    if here and parts and not find_spec("torch"):
        raise WeightsError("model.not_installed", f"The recipe {recipe.name} uses models.")
    for section, ref in parts:
        pin = getattr(recipe, section).weights_pin
        found = find(ref, pin=pin, tell=tell) if here else foresee(ref)
        pins[section] = pin or _pin(section, ref, tell, here=here)
        known = found if found and found.commercial is not None else presumed(recipe, section, ref)
        used[section] = {
            "ref": ref,
            "pin": pins[section],
            "name": found.name if found else "",
            "licence": known.licence if known else "",
            "commercial": known.commercial if known else None,
            "sha256": found.sha256 if isinstance(found, Weights) else "",
        }
        if known and not known.commercial and known.name not in told:
            told.add(known.name)
            tell(f"{known.name}: {told_licence(known)}")
    return with_pins(recipe, pins), used


def _pin(section: str, ref: str, tell: Tell, *, here: bool) -> str:
    """The content of weights, which a machine that works on no photo may have to fetch for this."""
    try:
        return pin_of(ref, tell=silent if here else tell)
    except WeightsError as error:
        if here or error.code != "weights.missing":
            raise
        text = f"{section}.weights = {ref} cannot be read here: {error.message}"
        raise WeightsError("weights.unidentified", text) from None
