"""The DAG with stand-ins for its models: the same steps and pools, without GPUs or weights.

Instead of LaMa a quick fill paints, and each photo waits for as long as the models would take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jobs import clean
from stages.photo import Photo
from stages.recipe import Recipe
from stages.step import Step, Together, Work


@dataclass(frozen=True, slots=True)
class StandIns:
    """Makes the steps of a recipe that fills without models, as a run's ``steps=``.

    Attributes:
        remove_s: that each photo takes on a small GPU.
        refine_s: that each photo takes on a large one.
    """

    remove_s: float
    refine_s: float

    def __call__(self, recipe: Recipe, output: str) -> Sequence[Step]:
        """As :func:`jobs.clean.steps`, with the fill on small GPUs and a wait on large ones."""
        steps = []
        for step in clean.steps(recipe, output):
            if step.name != "remove":
                steps.append(step)
                continue
            steps.append(replace(step, pool="small_gpu", make=_slowed(step.make, self.remove_s)))
            steps.append(Step("refine", "large_gpu", _waiting(self.refine_s)))
        return steps


def _slowed(make: Callable[[], Work | Together], seconds: float) -> Callable[[], Work]:
    def made() -> Work:
        work = make()
        assert not isinstance(work, Together), "fills without models take photo by photo"

        def slowed(photo: Photo) -> None:
            work(photo)
            time.sleep(seconds)

        return slowed

    return made


def _waiting(seconds: float) -> Callable[[], Work]:
    return lambda: lambda _: time.sleep(seconds)
