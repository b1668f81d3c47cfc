"""A refiner that paints objects back into holes, in place of FLUX.

What it misses: everything about diffusion; what it paints is an ellipse, a word or a copy. The
policy, the judge, the steps around it and the lineage are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from manifests.errors import RowError
from stages.arrays import UInt8Array
from stages.models.refiners.prompts import Prompt
from stages.pixels.boxes import bounds_of

Paints = Literal["object", "wide", "word", "texture", "nothing"]


@dataclass
class Painter:
    """Paints as the position of a call among its calls says; the last of ``paints`` goes on.

    Attributes:
        paints: an object; one in holes that are wide, not high; a faint word; a little grain over
            what is there; or no picture.
        calls: the seeds of each call.
    """

    paints: tuple[Paints, ...] = ("object",)
    calls: list[tuple[int, ...]] = field(default_factory=list)
    sigmas: tuple[float, ...] = (0.9, 0.0)
    guidance: float = 1.0

    def refine(
        self,
        pixels: Sequence[UInt8Array],
        masks: Sequence[UInt8Array],
        prompts: Sequence[Prompt],  # noqa: ARG002 - as the protocol
        seeds: Sequence[int],
        originals: Sequence[UInt8Array],  # noqa: ARG002 - as the protocol
    ) -> list[UInt8Array | RowError]:
        what = self.paints[min(len(self.calls), len(self.paints) - 1)]
        self.calls.append(tuple(seeds))
        return [self._paint(what, *each) for each in zip(pixels, masks, seeds, strict=True)]

    def _paint(
        self, kind: Paints, pixels: UInt8Array, mask: UInt8Array, seed: int
    ) -> UInt8Array | RowError:
        if kind == "nothing":
            return RowError("model.bad_output", "The refiner's output is black.")
        grain = np.random.default_rng(seed).normal(0, 2, pixels.shape)
        made = np.clip(pixels + grain, 0, 255).astype(np.uint8)
        box = bounds_of(mask)
        assert box is not None
        centre = ((box.x0 + box.x1) // 2, (box.y0 + box.y1) // 2)
        if kind == "object" or (kind == "wide" and box.width > box.height):
            axes = (max(box.width // 4, 2), max(box.height // 4, 2))
            cv2.ellipse(made, centre, axes, 0, 0, 360, (30, 200, 60), -1)
        if kind == "word":
            made = written(made, "cake", centre, box.width / 3, levels=-60)
        return made


def written(
    pixels: UInt8Array, word: str, centre: tuple[int, int], size_px: float, levels: int
) -> UInt8Array:
    """A word, darker than the picture by a number of levels, in the font that Pillow brings."""
    drawn = Image.new("L", pixels.shape[1::-1])
    font = ImageFont.load_default(size_px)
    ImageDraw.Draw(drawn).text(centre, word, fill=255, font=font, anchor="mm")
    darker = pixels + np.float32(levels / 255) * np.asarray(drawn, np.float32)[..., None]
    return np.asarray(np.rint(np.clip(darker, 0, 255)), np.uint8)


def encode(text: str) -> Prompt:
    nothing = np.zeros((0, 0), np.float32)
    return Prompt(nothing, nothing, text)


#: What ``load`` hands out; tests put their own here.
painter = Painter()


def load(folder: Path, options: Any) -> Painter:
    return painter


def load_encoder(folder: Path, options: Any) -> Callable[[str], Prompt]:
    return encode
