"""A removal model with an alpha, in place of OSOR: it paints one colour, and says where.

What it misses: everything about diffusion; where it changes something beyond the mask is what a
test says. Steps, codecs and the lineage around it are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest

from stages.arrays import UInt8Array
from stages.models import FillFunction, FillWithAlpha
from stages.recipe.removal_methods import TeleaOptions

#: Of the whole output, also where the alpha is 0.
COLOUR = (30, 200, 60)

#: Alpha of a picture far from anything that the model changed.
HAZE = 9

#: Returns where the model changes a window beyond the mask, ``(h, w)`` uint8, of both.
Casts = Callable[[UInt8Array, UInt8Array], UInt8Array]


def to_the_right(pixels: UInt8Array, mask: UInt8Array) -> UInt8Array:
    """A shadow like the object, at half its width to the right."""
    columns = np.flatnonzero(mask.any(axis=0))
    by = (columns[-1] - columns[0]) // 2 if columns.size else 0
    shifted = np.zeros_like(mask)
    shifted[:, by:] = mask[:, : mask.shape[1] - by]
    return np.asarray(cv2.GaussianBlur(shifted, (0, 0), 1.5), np.uint8)


def dark(pixels: UInt8Array, mask: UInt8Array) -> UInt8Array:
    """All that is darker than the background."""
    return np.asarray((pixels.max(axis=2) < 150) * np.uint8(220), np.uint8)


#: What :func:`load` hands out; tests put their own here.
casts: Casts = to_the_right


def use(monkeypatch: pytest.MonkeyPatch, chosen: Casts = to_the_right) -> None:
    """Let the recipe ``telea`` remove with this model."""
    monkeypatch.setattr(TeleaOptions, "loader", __name__)
    monkeypatch.setattr(TeleaOptions, "returns_alpha", True)
    monkeypatch.setitem(globals(), "casts", chosen)


def load(options: TeleaOptions) -> FillFunction:
    """See :class:`stages.method_options.RemovalOptions`."""

    def fill(
        pixels: Sequence[UInt8Array],
        masks: Sequence[UInt8Array],
        seeds: Sequence[int],
    ) -> list[FillWithAlpha]:
        return [_erased(*each) for each in zip(pixels, masks, strict=True)]

    return fill


def _erased(pixels: UInt8Array, mask: UInt8Array) -> FillWithAlpha:
    alpha = np.maximum(np.maximum(casts(pixels, mask), mask), np.uint8(HAZE))
    return FillWithAlpha(np.full_like(pixels, COLOUR), alpha)
