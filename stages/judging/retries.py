"""What a recipe does when an object came back: further seeds, then another fill and a flag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Literal, get_args

from manifests.errors import RowError
from manifests.schema import TryRecord
from stages.judging.reappearance import Scores
from stages.photo import Patch
from stages.pixels.masks import Bytes
from stages.recipe.options import JudgeOptions

#: Paints some patches, given by their indices, all at once: with a seed each, at a denoise (None:
#: the recipe's).
Paint = Callable[[Sequence[int], Sequence[int], float | None], Sequence[Bytes | RowError]]

#: Scores what was painted into a patch.
Judge = Callable[[Patch, Bytes], Scores]

Flag = Literal["came_back", "bad_output", "fell_back"]

#: Of a photo with several patches, the first of these counts.
FLAGS: tuple[Flag, ...] = get_args(Flag)


@dataclass(frozen=True, slots=True)
class Try:
    """What one seed led to.

    Attributes:
        record: what the lineage says.
        pixels: the refined crop; None if the output was no picture.
    """

    record: TryRecord
    pixels: Bytes | None

    @property
    def score(self) -> float:
        """To choose the best by; no picture is worst."""
        return float("inf") if self.pixels is None else self.record.score or 0.0


@dataclass(slots=True)
class Outcome:
    """How a patch ended.

    Attributes:
        tries: in order.
        pixels: what is pasted; None: the removal's fill.
        reason: why this was pasted, see manifests/README.md.
        flag: why a person should look at it; None: nothing was found.
        error: why it cannot be done; then nothing else holds.
    """

    tries: list[Try] = field(default_factory=list)
    pixels: Bytes | None = None
    reason: str = ""
    flag: Flag | None = None
    error: RowError | None = None

    @property
    def best(self) -> Try:
        """The try with the lowest score; of equal ones the first."""
        return min(self.tries, key=lambda each: each.score)


def refine_with_retries(
    patches: Sequence[Patch],
    paint: Paint,
    judge: Judge | None,
    options: JudgeOptions,
    denoise: float,
    *,
    has_removal: bool,
) -> list[Outcome]:
    """Refine patches, those that do not pass again with the next seeds, and settle the rest.

    Each round paints all patches that are left together. What becomes of a patch follows from it
    alone. No patch is changed.

    Args:
        patches: at the refiner's size, the removal's fill in their holes.
        paint: the refiner.
        judge: None: the first picture passes.
        options: how often, and what then.
        denoise: of the recipe, for the record.
        has_removal: whether the holes hold a removal's fill, or still the object.
    """
    outcomes = [Outcome() for _ in patches]

    def go(left: Sequence[int], step: int, lower: float | None = None) -> list[int]:
        """One round; returns those that did not pass."""
        if not left:
            return []
        seeds = [(patches[index].seed + step) % 2**32 for index in left]
        painted = paint(left, seeds, lower)
        failed = []
        for index, seed, made in zip(left, seeds, painted, strict=True):
            outcome, pixels = outcomes[index], None if isinstance(made, RowError) else made
            if isinstance(made, RowError) and not _may_pass_by(made, options):
                outcome.error = made
                continue
            scores = judge(patches[index], pixels) if judge and pixels is not None else None
            found = astuple(scores) if scores else ()
            outcome.tries.append(Try(TryRecord(seed, lower or denoise, *found), pixels))
            if pixels is None or (scores and scores.reappearance > options.threshold):
                failed.append(index)
            else:
                outcome.pixels = pixels
        return failed

    left = list(range(len(patches)))
    for step in range(options.attempts):
        left = go(left, step)
    if options.fallback == "denoise":
        go(left, 0, options.fallback_denoise)
    for index in left:
        if outcomes[index].error is None:
            _settle(outcomes[index], options, has_removal=has_removal)
    return outcomes


def _may_pass_by(error: RowError, options: JudgeOptions) -> bool:
    return error.code == "model.bad_output" and options.bad_output == "remove"


def _settle(outcome: Outcome, options: JudgeOptions, *, has_removal: bool) -> None:
    """Choose what is pasted where none of the recipe's attempts passed."""
    if outcome.pixels is not None:
        outcome.reason, outcome.flag = "lower_denoise", "fell_back"
    elif outcome.best.pixels is None:
        outcome.reason = outcome.flag = "bad_output"
    elif options.fallback == "keep" or not has_removal:
        outcome.pixels, outcome.reason, outcome.flag = outcome.best.pixels, "best", "came_back"
    else:
        outcome.reason, outcome.flag = "came_back", "fell_back"
