"""Measures the search for text: what is found of pasted text, and what in photos without any.

Pastes prices, badges, watermarks and small print into photos (``evaluate make --overlays``), and
counts the letters' pixels that the recipe's region covers, by height and contrast; how many of the
photos as they are would be changed; and seconds a photo.
"""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jobs.evaluation.overlays import make_overlays
from stages.detection import Detection
from stages.detection.options import TextOptions
from stages.detection.text import load
from stages.pixels.masks import generation_mask
from stages.recipe.options import MaskOptions
from tests.bench.catalog import bundled_photos
from tests.bench.common import Figures, Pixels, options_of
from tests.support import upright_rgb

#: Lower bounds of the table's bins: height of capitals in px, contrast by WCAG.
_HEIGHTS, _CONTRASTS = (8, 12, 16, 24, 40), (1.0, 2.0, 3.0, 4.5)

#: What the goal is about.
_GOAL_HEIGHT, _GOAL_CONTRAST = 16, 3.0

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def region_of(found: Sequence[Detection], shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """``(h, w)`` bool: what a recipe with default options fills."""
    marked = np.zeros(shape, np.bool_)
    for each in found:
        if each.mask is not None:
            marked[each.box.slices] |= each.mask
    return generation_mask(marked, MaskOptions())


def measure_overlays(
    detect: Any,
    photos: Sequence[Path],
    fonts: Sequence[Path],
    folder: Path,
    figures: Figures,
    keep: Path | None,
) -> None:
    """Paste overlays into photos, and count the letters' pixels that are covered."""
    make_overlays(folder, [str(path) for path in photos], fonts)
    with (folder / "texts.csv").open(encoding="utf-8") as file:
        texts = list(csv.DictReader(file))
    by_photo = defaultdict(list)
    for text in texts:
        by_photo[text["id"]].append(text)
    counts: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    off = total = 0
    for name, found_in in by_photo.items():
        photo = upright_rgb(folder / "photos" / f"{name}.png")
        letters = np.asarray(Image.open(folder / "letters" / f"{name}.png"))
        pasted = np.asarray(Image.open(folder / "masks" / f"{name}.png")) > 0
        found = detect(photo)
        region = region_of(found, letters.shape)
        if keep:
            _show(keep / f"{name}.png", photo, region, found)
        near = generation_mask(pasted, MaskOptions(dilate_px=12))
        off += np.count_nonzero(region & ~near)
        total += near.size
        for text in found_in:
            own = letters == int(text["number"])
            height, contrast = int(text["height_px"]), float(text["contrast"])
            covered, all_px = np.count_nonzero(own & region), np.count_nonzero(own)
            keys = [
                ("size", _bin(height, _HEIGHTS), _bin(contrast, _CONTRASTS)),
                ("kind", text["kind"], contrast >= _GOAL_CONTRAST and height >= _GOAL_HEIGHT),
            ]
            if contrast >= _GOAL_CONTRAST and height >= _GOAL_HEIGHT:
                keys.append(("goal",))
                if covered < 0.9 * all_px:
                    figures.add(
                        missed=name,
                        **text,
                        covered=round(covered / all_px, 2),
                        read=[(d.label, d.reason) for d in found],
                    )
            for key in keys:
                for index, value in enumerate((1, covered >= 0.9 * all_px, covered, all_px)):
                    counts[key][index] += int(value)
    for key in sorted(counts, key=str):
        texts_count, whole, covered, all_px = counts[key]
        figures.add(
            group=key, texts=texts_count, gone=whole / texts_count, covered=covered / all_px
        )
    figures.add(marked_outside_overlays=off / max(total, 1))


def _bin(value: float, bounds: Sequence[float]) -> float:
    return max(bound for bound in bounds if value >= bound or bound == bounds[0])


def measure_untouched(
    detect: Any, photos: dict[str, Pixels], figures: Figures, keep: Path | None
) -> None:
    """Count photos without pasted text that would be changed, and time the search."""
    changed: Counter[str] = Counter()
    boxes = 0
    seconds, megapixels = [], []
    for name, photo in photos.items():
        began = time.process_time()
        found = detect(photo)
        seconds.append(time.process_time() - began)
        megapixels.append(photo.size / 3e6)
        boxes += bool(found)
        removed = [each for each in found if each.remove]
        if removed:
            changed[name] += 1
            figures.add(changed=name, texts=[(d.label, d.reason) for d in removed])
            if keep:
                _show(
                    keep / f"untouched-{Path(name).stem}.png",
                    photo,
                    region_of(found, photo.shape[:2]),
                    found,
                )
    figures.add(
        photos=len(photos),
        with_text=boxes / len(photos),
        changed=len(changed) / len(photos),
        cpu_s_median=float(np.median(seconds)),
        cpu_s_mean=float(np.mean(seconds)),
        cpu_s_max=max(seconds),
        megapixels_median=float(np.median(megapixels)),
    )


def _show(path: Path, photo: Pixels, region: Any, found: Sequence[Detection]) -> None:
    shown = photo.copy()
    shown[region] = shown[region] // 3 + np.uint8([160, 0, 160])
    Image.fromarray(np.concatenate([photo, shown], axis=1)).save(path)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="else the bundled ones")
    parser.add_argument("--count", type=int, default=100, help="of the folder's, evenly chosen")
    parser.add_argument("--fonts", type=Path, metavar="FOLDER", help="TrueType; else Pillow's own")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="keep photos and masks there"
    )
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
            photos = every[:: max(1, len(every) // given.count)][: given.count]
        else:
            photos = [folder / f"{name}.png" for name in bundled_photos()]
            for path, pixels in zip(photos, bundled_photos().values(), strict=True):
                Image.fromarray(pixels).save(path)
        fonts = sorted(given.fonts.rglob("*.ttf")) if given.fonts else []
        if given.only != "untouched":
            measure_overlays(detect, photos, fonts, folder / "overlays", figures, given.pictures)
        if given.only != "overlays":
            untouched = {path.name: upright_rgb(path) for path in photos}
            measure_untouched(detect, untouched, figures, given.pictures)


if __name__ == "__main__":
    main()
