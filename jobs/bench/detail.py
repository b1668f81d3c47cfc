"""What ``refine.when`` = auto leaves out, and how far such fills are from the truth."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from jobs.bench.judge import bundled_photos
from jobs.bench.judge_cases import cut_hole, shrunk, soft_fill
from stages.detail import lost_detail
from stages.masks import Bytes
from stages.options import FluxFillOptions


@dataclass(frozen=True, slots=True)
class Hole:
    """A hole in a photo, filled by a soft PatchMatch.

    Attributes:
        photo: its name.
        lost: what `auto` goes by, levels of 255.
        off: how far the fill is from what the photo shows there, mean levels of 255.
    """

    photo: str
    lost: float
    off: float


def measure(photos: dict[str, Bytes], holes: int) -> Iterator[Hole]:
    """Cut holes into photos, fill them, and compare with what was there."""
    for name, photo in photos.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        small = shrunk(photo)
        for _ in range(holes):
            crop, mask = cut_hole(small, rng)
            fill = soft_fill(crop, mask, int(rng.integers(2**31)))
            off = cv2.absdiff(fill, crop)[mask > 0].mean()
            yield Hole(name, lost_detail(fill, mask), float(off))


def report(holes: int) -> Iterator[str]:
    """Lines that tell what was found, on the photos that come with the program's parts."""
    found = list(measure(bundled_photos(), holes))
    threshold = FluxFillOptions().auto_detail
    groups = {
        "left as they are": [each for each in found if each.lost <= threshold],
        "refined": [each for each in found if each.lost > threshold],
    }
    for name, each in groups.items():
        off = [hole.off for hole in each]
        middle, most = (np.quantile(off, share) for share in (0.5, 0.9)) if off else (0.0, 0.0)
        yield (
            f"{name:16} {len(each):4} of {len(found)} holes in {len({h.photo for h in each})} "
            f"photos; the fill is off by {middle:.1f} levels of 255 (9 of 10: under {most:.1f})"
        )
