"""Calibrates the judge of refined fills, and finds how often it is right on photos it never saw.

Half of the bundled photos choose weights and threshold, the other half, and a folder's, are held
out. Also: how many patches ``refine.when=auto`` leaves as they are, and how well. Takes minutes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from stages.judging.detail import lost_detail
from stages.judging.reappearance import WEIGHTS, WEIGHTS_ALONE, logistic
from stages.recipe.refiners import FluxFillOptions
from tests.bench.catalog import bundled_photos
from tests.bench.common import Figures, Pixels, options_of
from tests.bench.judge_cases import cut_hole, shrunk, soft_fill
from tests.bench.judging import Judged, accuracy, fit, judge_photos, split
from tests.support import upright_rgb


def _flagged_by(judged: Sequence[Judged], by: str) -> dict[str, float]:
    """Share over the threshold in each group of cases that have the same value of a field."""
    groups: dict[str, list[bool]] = {}
    for each in judged:
        score = max(logistic(WEIGHTS, each.departure, each.strangeness), each.text)
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
    parser.add_argument("--holes", type=int, default=5, help="in each photo; seven cases each")
    parser.add_argument("--detail-holes", type=int, default=10, help="in each bundled photo")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="all of them held out")
    parser.add_argument("--bundled", type=int, help="photos that are taken; else all 19")
    parser.add_argument("--text", action="store_true", help="also read, as judge.text does")
    given = parser.parse_args()
    photos = dict(list(bundled_photos().items())[: given.bundled])
    figures = Figures(given.out)
    detail(photos, given.detail_holes, figures)
    chosen_names, _ = split(list(photos))
    judged = judge_photos(photos, given.holes, text=given.text)
    chosen = [each for each in judged if each.photo in chosen_names]
    held = [each for each in judged if each.photo not in chosen_names]
    figures.add(weights="fitted", both=fit(chosen), alone=fit(chosen, alone=True))
    figures.add(weights="shipped", both=WEIGHTS, alone=WEIGHTS_ALONE)
    sets = {"chosen by": chosen, "held out": held}
    if given.photos:
        more = {path.name: upright_rgb(path) for path in sorted(given.photos.iterdir())}
        sets["folder"] = judge_photos(photos | more, given.holes, list(more), text=given.text)
    for name, each in sets.items():
        for has_removal, weights in ((True, WEIGHTS), (False, WEIGHTS_ALONE)):
            right = accuracy(each, weights, alone=not has_removal)
            figures.add(photos=name, has_removal=has_removal, **asdict(right))
    unseen = held + sets.get("folder", [])
    bad = [each for each in unseen if each.is_bad]
    for by in ("kind", "background", "removal_method"):
        figures.add(flagged=f"bad, by {by}", **_flagged_by(bad, by))
    for by in ("extent", "opacity"):
        figures.add(flagged=f"bad, by {by}", **_flagged_by([e for e in bad if e.extent], by))
    good = [each for each in unseen if not each.is_bad]
    for by in ("kind", "background", "removal_method"):
        figures.add(flagged=f"good, by {by}", **_flagged_by(good, by))


if __name__ == "__main__":
    main()
