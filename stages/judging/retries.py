"""Retries when an object came back: more seeds first, then the recipe's fallback and a flag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Literal, get_args

from manifests.errors import RowError
from manifests.schema import LineageRow, TryRecord
from stages.arrays import UInt8Array
from stages.judging.reappearance import Scores
from stages.photo import Patch
from stages.recipe.options import JudgeOptions

#: Refines the patches with the given indices together, one seed each.
Paint = Callable[[Sequence[int], Sequence[int]], Sequence[UInt8Array | RowError]]

#: Scores the refined pixels of a patch.
Judge = Callable[[Patch, UInt8Array], Scores]

Flag = Literal["came_back", "bad_output", "fell_back", "effects_dropped"]

#: In order of precedence, for photos with several flagged patches.
FLAGS: tuple[Flag, ...] = get_args(Flag)


def flag_row(row: LineageRow, flag: Flag) -> None:
    """Record why a person should look at a photo, unless a flag of precedence is recorded."""
    flags = [each for each in FLAGS if each in (row.flag, flag)]
    row.flag = flags[0]


@dataclass(slots=True)
class Outcome:
    """The outcome of a patch.

    Attributes:
        tries: one per seed, in order.
        best: the refined crop with the lowest score; None: no output was a picture.
        score: that score; None: not judged, or no picture.
        pixels: the pixels to paste; None: the removal's fill.
        reason: why these were chosen, see manifests/README.md.
        flag: why a person should look at it; None: no problem.
        bad_output: why the last output that was no picture was none; None: all were pictures.
        error: why the patch failed; the other attributes are then meaningless.
    """

    tries: list[TryRecord] = field(default_factory=list)
    best: UInt8Array | None = None
    score: float | None = None
    pixels: UInt8Array | None = None
    reason: str = ""
    flag: Flag | None = None
    bad_output: RowError | None = None
    error: RowError | None = None


def refine_with_retries(
    patches: Sequence[Patch],
    paint: Paint,
    judge: Judge | None,
    options: JudgeOptions,
    denoise: float,
    *,
    has_removal: bool,
) -> list[Outcome]:
    """Refine patches, retry those that do not pass with the next seeds, and apply the fallback.

    Each round refines all remaining patches together. A patch's outcome depends on that patch
    alone. The patches themselves are not changed.

    Args:
        patches: at the refiner's size, with the removal's fill in their holes.
        paint: the refiner.
        judge: scores results; None: the first picture passes.
        options: number of attempts, threshold and fallback.
        denoise: the recipe's denoise, for the record.
        has_removal: whether the holes show a removal's fill; else they still show the object.
    """
    outcomes = [Outcome() for _ in patches]

    def run_round(remaining: Sequence[int], attempt: int) -> list[int]:
        """Run one round; return the indices of the patches that did not pass."""
        if not remaining:
            return []
        seeds = [(patches[index].seed + attempt) % 2**32 for index in remaining]
        results = paint(remaining, seeds)
        failed = []
        for index, seed, result in zip(remaining, seeds, results, strict=True):
            outcome, pixels = outcomes[index], None if isinstance(result, RowError) else result
            if isinstance(result, RowError):
                if result.code != "model.bad_output":
                    outcome.error = result
                    continue
                outcome.bad_output = result
            scores = judge(patches[index], pixels) if judge and pixels is not None else None
            values = astuple(scores) if scores else ()
            outcome.tries.append(TryRecord(seed, denoise, *values))
            score = scores.reappearance if scores else None
            is_better = outcome.best is None or (score or 0.0) < (outcome.score or 0.0)
            if pixels is not None and is_better:
                outcome.best, outcome.score = pixels, score
            if pixels is None or (score or 0.0) > options.threshold:
                failed.append(index)
            else:
                outcome.pixels = pixels
        return failed

    remaining = list(range(len(patches)))
    for attempt in range(options.attempts):
        remaining = run_round(remaining, attempt)
    for index in remaining:
        if outcomes[index].error is None:
            _apply_fallback(outcomes[index], options, has_removal=has_removal)
    return outcomes


def _apply_fallback(outcome: Outcome, options: JudgeOptions, *, has_removal: bool) -> None:
    """Choose the pixels to paste after all of the recipe's attempts failed."""
    if outcome.best is None and options.bad_output == "fail":
        outcome.error = outcome.bad_output
    elif outcome.best is None:
        outcome.reason = outcome.flag = "bad_output"
    elif options.fallback == "keep" or not has_removal:
        outcome.pixels, outcome.reason, outcome.flag = outcome.best, "best", "came_back"
    else:
        outcome.reason, outcome.flag = "came_back", "fell_back"
