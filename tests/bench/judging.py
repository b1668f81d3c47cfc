"""How often the judge is right on cases with a known answer, and weights fitted to such cases."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.stats import mannwhitneyu

from stages.judging.reappearance import WEIGHTS, Scores, judge, logistic
from stages.judging.text import TextJudge
from tests.bench.common import Pixels
from tests.bench.judge_cases import make_cases, original_cases, shrunk
from tests.support import DEMO, upright_rgb

#: Of the good cases used for choosing, this share may be over the threshold: less than the 5 % that
#: are allowed, since other photos may be a little harder.
_CHOSEN_FALSE_ALARMS = 0.04

#: Keeps weights from growing where they no longer help.
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Judged:
    """A case and what was found: pictures are not kept.

    ``text`` is what ``judge.text`` alone scores; 0 also if it was not asked for.
    """

    photo: str
    background: str
    removal_method: str
    kind: str
    is_bad: bool
    extent: float
    opacity: float
    departure: float
    strangeness: float
    alone: float
    text: float = 0.0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Cases with an object and without, their shares over the threshold, and the ROC's area."""

    bad: int
    good: int
    flagged: float
    false_alarms: float
    auc: float


def judge_photos(
    photos: dict[str, Pixels], holes: int, names: Sequence[str] | None = None, *, text: bool = False
) -> list[Judged]:
    """Make the cases of photos and judge them, over processes; a case follows from names alone.

    Each photo also lends objects to the others; holes are cut into those named, or all.
    """
    small = {name: shrunk(photo) for name, photo in photos.items()}
    work: Callable[[str], list[Judged]] = partial(
        _judge_photo, photos=small, holes=holes, text=text
    )
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        return [each for found in pool.map(work, list(names or photos)) for each in found]


def _judge_photo(name: str, photos: dict[str, Pixels], holes: int, *, text: bool) -> list[Judged]:
    cv2.setNumThreads(1)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    others = [photo for other, photo in photos.items() if other != name]
    cases = list(make_cases(photos[name], others, holes, rng))
    mask = DEMO / "masks" / f"{name}.png"
    if mask.exists():  # a photo of the demo
        photo = upright_rgb(next((DEMO / "photos").glob(f"{name}.*")))
        cases += original_cases(photo, upright_rgb(mask)[..., 0] >= 128, rng)
    found = []
    for case in cases:
        both = judge(case.refined, case.removal, case.mask, has_removal=True)
        alone = judge(case.refined, case.removal, case.mask, has_removal=False).strangeness
        assert both.departure is not None
        read = 0.0
        if text:
            pixels = (case.refined, case.removal, case.mask)
            unseen = Scores(None, 0.0, 0.0)
            read = _text_judge().with_text_score(unseen, *pixels, has_removal=True).reappearance
        scores = (both.departure, both.strangeness, alone, read)
        of_case = (
            case.background,
            case.removal_method,
            case.kind,
            case.is_bad,
            case.extent,
            case.opacity,
        )
        found.append(Judged(name, *of_case, *scores))
    return found


@cache
def _text_judge() -> TextJudge:
    os.environ["OMP_NUM_THREADS"] = "1"  # of one process among as many as there are cores
    return TextJudge()


def split(photos: Sequence[str]) -> tuple[list[str], list[str]]:
    """Photos to choose by, and photos held out: every second, by name."""
    names = sorted(photos)
    return names[::2], names[1::2]


def fit(judged: Sequence[Judged], *, alone: bool = False) -> tuple[float, ...]:
    """Fit the score's bias and weights: logistic regression, the threshold moved to 0.5."""
    values, bad = _values(judged, alone=alone), _bad(judged)
    inputs = np.column_stack([np.ones(len(values)), np.log1p(values)])
    signs = np.where(bad, 1.0, -1.0)

    def loss(weights: npt.NDArray[np.float64]) -> float:
        ridge = _RIDGE / 2 * float(weights[1:] @ weights[1:])
        return float(np.logaddexp(0, -signs * (inputs @ weights)).sum()) + ridge

    weights = minimize(loss, np.zeros(inputs.shape[1])).x
    weights[0] -= np.quantile((inputs @ weights)[~bad], 1 - _CHOSEN_FALSE_ALARMS)
    return tuple(round(float(each), 2) for each in weights)


def accuracy(
    judged: Sequence[Judged], weights: tuple[float, ...] = WEIGHTS, *, alone: bool = False
) -> Accuracy:
    """How often the score is right at 0.5; with a removal, that of text if it was read."""
    scores = np.array([logistic(weights, *row) for row in _values(judged, alone=alone)])
    if not alone:
        scores = np.maximum(scores, [each.text for each in judged])
    is_bad = _bad(judged)
    bad, good = scores[is_bad], scores[~is_bad]
    auc = float(mannwhitneyu(bad, good).statistic / (len(bad) * len(good)))
    flagged, false_alarms = (float((each > 0.5).mean()) for each in (bad, good))
    return Accuracy(len(bad), len(good), flagged, false_alarms, auc)


def _values(judged: Sequence[Judged], *, alone: bool) -> npt.NDArray[np.float64]:
    return np.array([[e.alone] if alone else [e.departure, e.strangeness] for e in judged])


def _bad(judged: Sequence[Judged]) -> npt.NDArray[np.bool_]:
    return np.array([each.is_bad for each in judged])
