"""Measures the search for text: what is found of pasted text, and what in photos without any.

Pastes prices, badges, watermarks and small print into photos (``overlays.py``), and
counts the letters' pixels that the recipe's hole covers, by height and contrast; how many of the
photos as they are would be changed; and seconds of one CPU a photo.
"""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.arrays import BoolMask
from stages.codecs.decode import decode_photo
from stages.detection import Detection, Detector
from stages.detection.options import TextOptions
from stages.detection.text import load
from stages.pixels.masks import hole_mask
from stages.recipe.options import MaskOptions
from stages.steps.detect import on_white, union
from tests.bench.catalog import bundled_photos
from tests.bench.common import Figures, Pixels, options_of
from tests.bench.overlays import make_overlays

#: Lower bounds of the table's rows and columns: height of capitals in px, contrast by WCAG.
_HEIGHTS, _CONTRASTS = (8, 12, 16, 24, 40), (1.0, 2.0, 3.0, 4.5)

#: Texts that the goal is about: at least so high, and with such a contrast.
_GOAL_PX, _GOAL_CONTRAST = 16, 3.0

#: A text is gone if so much of it is covered. What is marked farther from overlays is a loss.
_GONE, _NEAR_PX = 0.9, 12

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class Score:
    """A pasted text: its kind, height and contrast; pixels of its letters, and those covered."""

    kind: str
    height_px: int
    contrast: float
    pixels: int
    covered: int

    @property
    def is_goal(self) -> bool:
        return self.height_px >= _GOAL_PX and self.contrast >= _GOAL_CONTRAST


def measure_overlays(
    detect: Detector, manifest: Path, figures: Figures, keep: Path | None
) -> Iterator[Score]:
    """Look for the texts of a folder that :func:`make_overlays` made."""
    folder, off, total = manifest.parent, 0, 0
    with (folder / "texts.csv").open(encoding="utf-8") as file:
        texts = list(csv.DictReader(file))
    for name in dict.fromkeys(text["id"] for text in texts):
        photo = read(folder / "photos" / f"{name}.png")
        letters, pasted = (
            np.asarray(Image.open(folder / each / f"{name}.png")) for each in ("letters", "masks")
        )
        found = detect(photo)
        hole = hole_of(found, photo)
        _show(keep, name, photo, hole)
        off += int(np.count_nonzero(hole & ~hole_mask(pasted > 0, _grown(_NEAR_PX))))
        total += hole.size
        for text in (each for each in texts if each["id"] == name):
            own = letters == int(text["number"])
            covered = int(np.count_nonzero(own & hole))
            height, contrast = int(text["height_px"]), float(text["contrast"])
            score = Score(text["kind"], height, contrast, int(np.count_nonzero(own)), covered)
            if score.is_goal and covered < _GONE * score.pixels:
                read_as = [(each.label, each.reason) for each in found]
                figures.add(missed=name, text=text["text"], kind=text["kind"], read=read_as)
            yield score
    figures.add(marked_apart_from_overlays=off / max(total, 1))


def tabulate(scores: Sequence[Score], figures: Figures) -> None:
    """Print the share of letters' pixels covered, by height and contrast, by kind, and the goal."""
    for low, high in zip(_HEIGHTS, (*_HEIGHTS[1:], 1000), strict=True):
        row = [score for score in scores if low <= score.height_px < high]
        cells = {}
        for weak, strong in zip(_CONTRASTS, (*_CONTRASTS[1:], 22.0), strict=True):
            cells[f"contrast_{weak}"] = _share(s for s in row if weak <= s.contrast < strong)
        figures.add(height_px=low, **cells)
    goal = [score for score in scores if score.is_goal]
    for kind in sorted({score.kind for score in goal}):
        figures.add(goal_of=kind, covered=_share(s for s in goal if s.kind == kind))
    gone = [score.covered >= _GONE * score.pixels for score in goal]
    each = [score.covered / score.pixels for score in goal]
    figures.add(
        goal=f">= {_GOAL_PX} px, contrast >= {_GOAL_CONTRAST}",
        texts=len(goal),
        pixels_covered=_share(goal),
        mean_of_texts=float(np.mean(each)) if each else 0.0,
        texts_gone=float(np.mean(gone)) if gone else 0.0,
    )


def _share(scores: Iterable[Score]) -> str:
    """Share of pixels covered, and of how many texts."""
    chosen = list(scores)
    pixels = sum(score.pixels for score in chosen)
    return f"{sum(s.covered for s in chosen) / pixels:.3f} of {len(chosen)}" if pixels else "-"


def measure_untouched(
    detect: Detector, photos: Sequence[Path], figures: Figures, keep: Path | None
) -> None:
    """Count photos without pasted text that would be changed, and time the search."""
    changed = with_text = 0
    seconds, megapixels = [], []
    for path in photos:
        photo = read(path)
        began = time.process_time()
        found = detect(photo)
        seconds.append(time.process_time() - began)
        megapixels.append(photo.size / 3e6)
        with_text += bool(found)
        removed = [(each.label, each.reason) for each in found if each.remove]
        if removed:
            changed += 1
            figures.add(changed=path.name, texts=removed)
            _show(keep, f"untouched-{path.stem}", photo, hole_of(found, photo))
    figures.add(
        photos=len(photos),
        share_with_text=with_text / len(photos),
        share_changed=changed / len(photos),
        cpu_s_median=float(np.median(seconds)),
        cpu_s_max=max(seconds),
        megapixels_median=float(np.median(megapixels)),
    )


def read(path: Path) -> Pixels:
    """``(h, w, 3)`` uint8 sRGB, as the step sees a photo."""
    return on_white(decode_photo(path.read_bytes(), 100, str(path)))


def hole_of(found: list[Detection], photo: Pixels) -> BoolMask:
    """``(h, w)`` bool: what a recipe with default options fills."""
    return hole_mask(union(found, photo.shape[:2]), MaskOptions())


def _grown(px: int) -> MaskOptions:
    return MaskOptions(dilate_px=px)


def _show(folder: Path | None, name: str, photo: Pixels, hole: BoolMask) -> None:
    """Keep a photo beside itself with the hole in magenta."""
    if folder:
        shown = photo.copy()
        shown[hole] = shown[hole] // 3 + np.array([160, 0, 160], np.uint8)
        Image.fromarray(np.concatenate([photo, shown], axis=1)).save(folder / f"{name}.png")


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="else the bundled ones")
    parser.add_argument("--count", type=int, default=100, help="photos, evenly chosen")
    parser.add_argument("--fonts", type=Path, metavar="FOLDER", help="TrueType; else Pillow's own")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="keep photos with masks")
    parser.add_argument("--only", choices=("overlays", "untouched"))
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    figures = Figures(given.out)
    detect = load(TextOptions())
    if given.pictures:
        given.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.photos:
            every = sorted(p for p in given.photos.rglob("*") if p.suffix.lower() in _SUFFIXES)
        else:
            for name, pixels in bundled_photos().items():
                Image.fromarray(pixels).save(folder / f"{name}.png")
            every = sorted(folder.iterdir())
        photos = every[:: max(1, len(every) // given.count)][: given.count]
        if given.only != "untouched":
            fonts = sorted(given.fonts.rglob("*.ttf")) if given.fonts else []
            manifest = make_overlays(folder / "overlays", [str(path) for path in photos], fonts)
            tabulate([*measure_overlays(detect, manifest, figures, given.pictures)], figures)
        if given.only != "overlays":
            measure_untouched(detect, photos, figures, given.pictures)


if __name__ == "__main__":
    main()
