"""Calibrates the judge of refined fills, and finds how often it is right on photos it never saw.

Half of the bundled photos choose weights and threshold, the other half, and a folder's, are held
out. Also: how many patches ``refine.when=auto`` leaves as they are, and how well. Takes minutes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.stats import mannwhitneyu

from stages.detail import lost_detail
from stages.judge import WEIGHTS, WEIGHTS_ALONE, judge, logistic
from stages.options import FluxFillOptions
from tests.bench.catalog import bundled_photos
from tests.bench.common import Figures, Pixels, options_of
from tests.judge_cases import cut_hole, make_cases, original_cases, shrunk, soft_fill
from tests.support import DEMO, upright_rgb

#: Of the good cases used for choosing, this share may be over the threshold: less than the 5 % that
#: are allowed, since other photos may be a little harder.
_CHOSEN_FALSE_ALARMS = 0.04

#: Keeps weights from growing where they no longer help.
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Judged:
    """A case and what was found: pictures are not kept."""

    photo: str
    kind: str
    is_bad: bool
    extent: float
    opacity: float
    departure: float
    strangeness: float
    alone: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Cases with an object and without, the shares of both over the threshold, and the ROC's area."""

    bad: int
    good: int
    flagged: float
    false_alarms: float
    auc: float


def judge_photos(
    photos: dict[str, Pixels], holes: int, names: Sequence[str] | None = None
) -> list[Judged]:
    """Make the cases of photos and judge them, over processes; a case follows from names alone.

    Each photo also lends objects to the others; holes are cut into those named, or all.
    """
    small = {name: shrunk(photo) for name, photo in photos.items()}
    work: Callable[[str], list[Judged]] = partial(_judge_photo, photos=small, holes=holes)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        return [each for found in pool.map(work, list(names or photos)) for each in found]


def _judge_photo(name: str, photos: dict[str, Pixels], holes: int) -> list[Judged]:
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
        scores = (both.departure, both.strangeness, alone)
        found.append(Judged(name, case.kind, case.is_bad, case.extent, case.opacity, *scores))
    return found


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
    """How often the score is right at 0.5."""
    scores = np.array([logistic(weights, *row) for row in _values(judged, alone=alone)])
    is_bad = _bad(judged)
    bad, good = scores[is_bad], scores[~is_bad]
    auc = float(mannwhitneyu(bad, good).statistic / (len(bad) * len(good)))
    shares = (float((each > 0.5).mean()) for each in (bad, good))
    return Accuracy(len(bad), len(good), *shares, auc)


def _values(judged: Sequence[Judged], *, alone: bool) -> npt.NDArray[np.float64]:
    return np.array([[e.alone] if alone else [e.departure, e.strangeness] for e in judged])


def _bad(judged: Sequence[Judged]) -> npt.NDArray[np.bool_]:
    return np.array([each.is_bad for each in judged])


def _flagged_by(judged: Sequence[Judged], by: str) -> dict[str, float]:
    """Share over the threshold in each group of cases that have the same value of a field."""
    groups: dict[str, list[bool]] = {}
    for each in judged:
        score = logistic(WEIGHTS, each.departure, each.strangeness)
        groups.setdefault(str(getattr(each, by)), []).append(score > 0.5)
    return {name: round(float(np.mean(groups[name])), 3) for name in sorted(groups)}


def detail(photos: dict[str, Pixels], holes: int, figures: Figures) -> None:
    """Fill holes by a soft PatchMatch, and compare with what was there, in levels of 255."""
    found = []
    for name, photo in photos.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        for _ in range(holes):
            crop, mask = cut_hole(shrunk(photo), rng)
            fill = soft_fill(crop, mask, int(rng.integers(2**31)))
            found.append((lost_detail(fill, mask), cv2.absdiff(fill, crop)[mask > 0].mean()))
    lost, off = np.array(found).T
    left = lost <= FluxFillOptions().auto_detail
    for title, group in (("left as they are", off[left]), ("refined", off[~left])):
        median, ninth = np.quantile(group, (0.5, 0.9)).tolist() if len(group) else (0.0, 0.0)
        figures.add(holes=title, count=len(group), off_median=median, off_of_9_in_10=ninth)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--holes", type=int, default=5, help="in each photo; five cases each")
    parser.add_argument("--detail-holes", type=int, default=10, help="in each bundled photo")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="all of them held out")
    parser.add_argument("--bundled", type=int, help="photos that are taken; else all 19")
    given = parser.parse_args()
    photos = dict(list(bundled_photos().items())[: given.bundled])
    figures = Figures(given.out)
    detail(photos, given.detail_holes, figures)
    chosen_names, _ = split(list(photos))
    judged = judge_photos(photos, given.holes)
    chosen = [each for each in judged if each.photo in chosen_names]
    held = [each for each in judged if each.photo not in chosen_names]
    figures.add(weights="fitted", both=fit(chosen), alone=fit(chosen, alone=True))
    figures.add(weights="shipped", both=WEIGHTS, alone=WEIGHTS_ALONE)
    sets = {"chosen by": chosen, "held out": held}
    if given.photos:
        more = {path.name: upright_rgb(path) for path in sorted(given.photos.iterdir())}
        sets["folder"] = judge_photos(photos | more, given.holes, list(more))
    for name, each in sets.items():
        for has_removal, weights in ((True, WEIGHTS), (False, WEIGHTS_ALONE)):
            right = accuracy(each, weights, alone=not has_removal)
            figures.add(photos=name, has_removal=has_removal, **asdict(right))
    unseen = held + sets.get("folder", [])
    bad = [each for each in unseen if each.is_bad]
    figures.add(flagged="bad, by kind", **_flagged_by(bad, "kind"))
    for by in ("extent", "opacity"):
        figures.add(flagged=f"bad, by {by}", **_flagged_by([e for e in bad if e.extent], by))
    good = [each for each in unseen if not each.is_bad]
    figures.add(flagged="good, by kind", **_flagged_by(good, "kind"))


if __name__ == "__main__":
    main()
