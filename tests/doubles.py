"""Steps that misbehave, and pools that do not fuse: passed to a run in place of the usual ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from jobs.clean import steps
from stages.photo import Photo
from stages.recipe import Recipe
from stages.step import Step, Work

VICTIM = "fig-bowl-sticker-date"


def apart(recipe: Recipe, output: str) -> list[Step]:
    """The usual steps with the fill in a pool of its own, as if it needed a GPU."""
    return [
        replace(step, pool="small_gpu") if step.name == "remove" else step
        for step in steps(recipe, output)
    ]


def dies_once(recipe: Recipe, output: str) -> list[Step]:
    """The worker is gone at the victim, the first time."""
    return [Step("die", "cpu", lambda: _die(Path(output), once=True)), *steps(recipe, output)]


def dies_always(recipe: Recipe, output: str) -> list[Step]:
    """The worker is gone at the victim, every time."""
    return [Step("die", "cpu", lambda: _die(Path(output), once=False)), *steps(recipe, output)]


def _die(output: Path, *, once: bool) -> Work:
    def work(photo: Photo) -> None:
        marker = output / "died"
        if photo.lineage.id == VICTIM and not (once and marker.exists()):
            marker.touch()
            os._exit(1)

    return work


def without_models(recipe: Recipe, output: str) -> list[Step]:
    """The steps of a recipe that fills without weights, whatever the recipe says."""
    return list(steps(Recipe.load("telea"), output))
