"""How much of cast shadows ``mask.effects = grow`` finds, and how much that is none.

    python -m tests.bench.shadows [--photos FOLDER] [--out FILE]

``recall`` is the share of the pixels that a shadow darkens by over 4 % of their light; ``false``
the pixels that are found where there is none, in hundredths of the object's. ``found`` is the share
of scenes where anything is.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from stages.arrays import BoolMask, UInt8Array
from stages.pixels.masks import distance_outside
from stages.pixels.resize import scale_pixels
from stages.pixels.shadows import find_shadow
from tests.bench.common import Figures, options_of
from tests.bench.shadow_scenes import OBJECT_PX, SIDE_PX, Scene, on_photos, shadowed, unshadowed
from tests.support import DEMO, upright_rgb

#: What the step dilates masks by, and the reach of the recipe.
_DILATE_PX, _REACH = 3, 1.0

#: Share of the light that a shadow takes where it is to be found; where finding it is not false;
#: and how far from there finding is not false either.
_VISIBLE, _PRESENT, _TOLERANCE_PX = 0.04, 0.01, 4


def found_in(scene: Scene) -> BoolMask:
    mask = distance_outside(scene.mask) <= _DILATE_PX
    reach_px = _REACH * OBJECT_PX
    return find_shadow(scene.pixels, mask, mask, reach_px, (False, False, False, False))


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found in a scene.

    Attributes:
        scene: the scene.
        recall: share of the visible shadow that was found; None: there is none.
        false: px found elsewhere, over the object's.
        found: whether anything was.
    """

    scene: Scene
    recall: float | None
    false: float
    found: bool


def measure(scene: Scene) -> Measured:
    grown = found_in(scene)
    visible = (scene.shade > _VISIBLE) & (distance_outside(scene.mask) > _DILATE_PX)
    wrong = grown & (distance_outside(scene.shade > _PRESENT) > _TOLERANCE_PX)
    return Measured(
        scene,
        np.count_nonzero(grown & visible) / np.count_nonzero(visible) if visible.any() else None,
        np.count_nonzero(wrong) / np.count_nonzero(scene.mask),
        bool(grown.any()),
    )


def means(measured: Sequence[Measured]) -> dict[str, float]:
    """Means over scenes."""
    recalls = [each.recall for each in measured if each.recall is not None]
    return ({"recall": fmean(recalls)} if recalls else {}) | {
        "false %": 100 * fmean(each.false for each in measured),
        "found": fmean(each.found for each in measured),
        "scenes": len(measured),
    }


def places_in(paths: Sequence[Path], each: int = 8, seed: int = 0) -> list[UInt8Array]:
    """Random squares of photos, at random scales, whatever they show."""
    random, found = np.random.default_rng(seed), list[UInt8Array]()
    for path in paths:
        photo = upright_rgb(path)
        for _ in range(each):
            side = int(min(photo.shape[:2]) * random.uniform(0.35, 1))
            y, x = (int(random.integers(0, full - side + 1)) for full in photo.shape[:2])
            square = photo[y : y + side, x : x + side]
            found.append(scale_pixels(square, SIDE_PX, SIDE_PX))
    return found


def by(measured: Iterable[Measured], name: str) -> dict[str, list[Measured]]:
    groups: dict[str, list[Measured]] = defaultdict(list)
    for each in measured:
        groups[str(getattr(each.scene, name))].append(each)
    return groups


def main(arguments: argparse.Namespace) -> None:
    figures = Figures(arguments.out)
    photos = sorted((DEMO / "photos").iterdir())
    if arguments.photos:
        photos += sorted(arguments.photos.rglob("*.jpg"))[:: arguments.every]
    places = places_in(photos, each=arguments.places)
    cast = [measure(scene) for scene in shadowed(arguments.step)]
    cast += [measure(scene) for scene in on_photos(places, shaded=True)]
    for name in ("kind", "strength", "softness", "direction"):
        for value, some in by(cast, name).items():
            figures.add(**{name: value}, **means(some))
    none = [measure(scene) for scene in unshadowed(step=arguments.step)]
    none += [measure(scene) for scene in on_photos(places)]
    for value, some in by(none, "kind").items():
        figures.add(without=value, **means(some))


if __name__ == "__main__":
    parser = options_of(__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of further photos")
    parser.add_argument("--every", type=int, default=1, help="take each N-th of them")
    parser.add_argument("--places", type=int, default=8, help="squares of each photo")
    parser.add_argument("--step", type=int, default=1, help="take each N-th scene")
    main(parser.parse_args())
