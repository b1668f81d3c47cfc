"""Weights before a run: had or foreseen, their licences told, and noted for ``run.json``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from rich.console import Console

from manifests.errors import WeightsError
from stages.models import told_licence
from stages.recipe import Recipe
from stages.weights import TRUST, Weights, find, foresee, of_recipe, presumed


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


def prepare(recipe: Recipe, console: Console, *, here: bool) -> dict[str, Any]:
    """Make sure of a recipe's weights before anything starts, and tell of their licences.

    Args:
        recipe: whose.
        console: where progress and licences go.
        here: the work is done on this machine, so that they can be fetched, or missed, now. Else
            its nodes do so, and only what is wrong everywhere is found.

    Returns:
        For each section that uses a model: its ``ref``, ``name``, ``licence``, whether it is
        ``commercial`` (None: not known), and its ``sha256``; empty what is not known here.

    Raises:
        WeightsError: see :func:`stages.weights.find`; ``model.not_installed``.
    """
    used: dict[str, Any] = {}
    told: set[str] = set()

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    parts = of_recipe(recipe)
    if here and parts and not find_spec("torch"):
        raise WeightsError("model.not_installed", f"The recipe {recipe.name} uses models.")
    for section, ref in parts:
        found = find(ref, tell=tell) if here else foresee(ref)
        known = found if found and found.commercial is not None else presumed(recipe, section, ref)
        used[section] = {
            "ref": ref,
            "name": found.name if found else "",
            "licence": known.licence if known else "",
            "commercial": known.commercial if known else None,
            "sha256": found.sha256 if isinstance(found, Weights) else "",
        }
        if known and not known.commercial and known.name not in told:
            told.add(known.name)
            tell(f"{known.name}: {told_licence(known)}")
    return used
