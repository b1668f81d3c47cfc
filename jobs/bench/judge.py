"""Calibrate the judge of refined fills, and tell how often it is right on photos it never saw."""

from __future__ import annotations

import csv
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from jobs.bench.judge_cases import Case, make_cases, original_cases, shrunk
from jobs.demo import MANIFEST
from stages.judge import WEIGHTS, WEIGHTS_ALONE, judge, logistic
from stages.masks import Bytes

#: Of scikit-image's photos, those that come with the package.
_BUNDLED = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "rocket",
)

#: Of the good cases used for choosing, so many may be over the threshold: less than the 5 % that
#: are allowed, since other photos may be a little harder.
_CHOSEN_FALSE_ALARMS = 0.04

#: Keeps weights from growing where they no longer help.
_RIDGE = 1.0

Floats = npt.NDArray[np.float64]


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
    """How a score tells bad from good.

    Attributes:
        bad: how many cases held an object.
        good: how many did not.
        flagged: share of the bad over the threshold.
        false_alarms: share of the good over the threshold.
        auc: area under the ROC curve.
    """

    bad: int
    good: int
    flagged: float
    false_alarms: float
    auc: float


def bundled_photos() -> dict[str, Bytes]:
    """``(h, w, 3)`` uint8 sRGB each: those of the demo, and those that come with scikit-image."""
    import skimage.data  # noqa: PLC0415 - slow to load

    with MANIFEST.open(encoding="utf-8") as rows:
        demo = {
            row["id"]: load_photo(MANIFEST.parent / row["image"]) for row in csv.DictReader(rows)
        }
    others = {name: _as_rgb(getattr(skimage.data, name)()) for name in _BUNDLED}
    return demo | others | {"motorcycle": _as_rgb(skimage.data.stereo_motorcycle()[0])}


def load_photo(path: Path) -> Bytes:
    """A file as displayed."""
    with Image.open(path) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def _as_rgb(pixels: npt.NDArray[Any]) -> Bytes:
    rgb = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels[..., :3]
    return np.ascontiguousarray(rgb, np.uint8)


def judge_photos(
    photos: dict[str, Bytes], holes: int, names: Sequence[str] | None = None
) -> list[Judged]:
    """Make the cases of photos and judge them, over processes; a case follows from names alone.

    Args:
        photos: by name; each also lends objects to the others.
        holes: in each photo.
        names: of those to cut holes into; None: all.
    """
    chosen = list(names if names is not None else photos)
    small = {name: shrunk(photo) for name, photo in photos.items()}
    work: Callable[[str], list[Judged]] = partial(_judge_photo, photos=small, holes=holes)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        return [each for judged in pool.map(work, chosen) for each in judged]


def _judge_photo(name: str, photos: dict[str, Bytes], holes: int) -> list[Judged]:
    cv2.setNumThreads(1)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    others = [photo for other, photo in photos.items() if other != name]
    cases = [*make_cases(name, photos[name], others, holes, rng), *_originals(name, rng)]
    return [_judged(case) for case in cases]


def _originals(name: str, rng: np.random.Generator) -> Iterator[Case]:
    """If it is a photo of the demo: the marks that its own mask is of."""
    mask = MANIFEST.parent / "masks" / f"{name}.png"
    if mask.exists():
        photo = load_photo(next((MANIFEST.parent / "photos").glob(f"{name}.*")))
        yield from original_cases(name, photo, load_photo(mask)[..., 0] >= 128, rng)


def _judged(case: Case) -> Judged:
    both = judge(case.refined, case.removal, case.mask, has_removal=True)
    alone = judge(case.refined, case.removal, case.mask, has_removal=False)
    assert both.departure is not None
    return Judged(
        case.photo,
        case.kind,
        case.is_bad,
        case.extent,
        case.opacity,
        both.departure,
        both.strangeness,
        alone.strangeness,
    )


def split(photos: Sequence[str]) -> tuple[list[str], list[str]]:
    """Photos to choose by, and photos held out: every second, by name."""
    names = sorted(photos)
    return names[::2], names[1::2]


def fit(judged: Sequence[Judged], *, alone: bool = False) -> tuple[float, ...]:
    """Fit the score's bias and weights: logistic regression, the threshold moved to 0.5."""
    from scipy.optimize import minimize  # noqa: PLC0415 - slow to load

    values, bad = _values(judged, alone=alone), _bad(judged)
    inputs = np.column_stack([np.ones(len(values)), np.log1p(values)])
    signs = np.where(bad, 1.0, -1.0)

    def loss(weights: Floats) -> float:
        ridge = _RIDGE / 2 * float(weights[1:] @ weights[1:])
        return float(np.logaddexp(0, -signs * (inputs @ weights)).sum()) + ridge

    weights = minimize(loss, np.zeros(inputs.shape[1])).x
    weights[0] -= np.quantile((inputs @ weights)[~bad], 1 - _CHOSEN_FALSE_ALARMS)
    return tuple(round(float(each), 2) for each in weights)


def accuracy(
    judged: Sequence[Judged], weights: tuple[float, ...] = WEIGHTS, *, alone: bool = False
) -> Accuracy:
    """How often the score is right at 0.5."""
    from scipy.stats import mannwhitneyu  # noqa: PLC0415 - slow to load

    scores = np.array([logistic(weights, *row) for row in _values(judged, alone=alone)])
    bad = _bad(judged)
    pairs = np.count_nonzero(bad) * np.count_nonzero(~bad)
    return Accuracy(
        bad=int(np.count_nonzero(bad)),
        good=int(np.count_nonzero(~bad)),
        flagged=float((scores[bad] > 0.5).mean()),
        false_alarms=float((scores[~bad] > 0.5).mean()),
        auc=float(mannwhitneyu(scores[bad], scores[~bad]).statistic / pairs),
    )


def flagged_by(judged: Sequence[Judged], by: Callable[[Judged], object]) -> dict[object, float]:
    """Share over the threshold in each group that ``by`` makes, sorted."""
    groups: dict[object, list[bool]] = {}
    for each in judged:
        score = logistic(WEIGHTS, each.departure, each.strangeness)
        groups.setdefault(by(each), []).append(score > 0.5)
    return {name: float(np.mean(groups[name])) for name in sorted(groups, key=str)}


def _values(judged: Sequence[Judged], *, alone: bool) -> Floats:
    if alone:
        return np.array([[each.alone] for each in judged])
    return np.array([[each.departure, each.strangeness] for each in judged])


def _bad(judged: Sequence[Judged]) -> npt.NDArray[np.bool_]:
    return np.array([each.is_bad for each in judged])


def report(holes: int, folder: Path | None) -> Iterator[str]:
    """Lines that tell what was found.

    Args:
        holes: in each photo.
        folder: of further photos, all of which are held out.
    """
    photos = bundled_photos()
    chosen_names, held_names = split(list(photos))
    judged = judge_photos(photos, holes)
    chosen = [each for each in judged if each.photo in chosen_names]
    held = [each for each in judged if each.photo in held_names]
    yield f"fitted   {fit(chosen)}, alone {fit(chosen, alone=True)}"
    yield f"shipped  {WEIGHTS}, alone {WEIGHTS_ALONE}"
    sets = {"chosen by": chosen, "held out": held}
    if folder is not None:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        more = {path.name: load_photo(path) for path in paths}
        sets[folder.name] = judge_photos(photos | more, holes, list(more))
    yield f"{'photos':24} {'bad':>5} {'good':>5} {'flagged':>8} {'false':>7} {'AUC':>7}"
    for name, each in sets.items():
        for title, weights, alone in (
            (name, WEIGHTS, False),
            (f"{name}, no removal", WEIGHTS_ALONE, True),
        ):
            found = accuracy(each, weights, alone=alone)
            yield (
                f"{title:24} {found.bad:5} {found.good:5} {found.flagged:8.1%} "
                f"{found.false_alarms:7.1%} {found.auc:7.3f}"
            )
    unseen = [each for name, each in sets.items() if name != "chosen by"]
    together = [each for one in unseen for each in one]
    yield "on photos not used for choosing, flagged"
    for title, by in _GROUPS.items():
        bad = [each for each in together if each.is_bad and (title == "kind" or each.extent)]
        yield f"  by {title}: {_told(flagged_by(bad, by))}"
    good = [each for each in together if not each.is_bad]
    yield f"  of the good: {_told(flagged_by(good, _GROUPS['kind']))}"


_GROUPS: dict[str, Callable[[Judged], object]] = {
    "kind": lambda each: each.kind,
    "side of the object over the hole's": lambda each: each.extent,
    "opacity": lambda each: each.opacity,
}


def _told(shares: dict[object, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
