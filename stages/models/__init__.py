"""Networks and classical fills: how they are loaded and run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from stages.arrays import UInt8Array

if TYPE_CHECKING:
    from manifests.errors import RowError


@dataclass(frozen=True, slots=True, eq=False)
class FillWithAlpha:
    """The fill of a model that also removes what the object casts beyond the mask, e.g. a shadow.

    Attributes:
        pixels: ``(h, w, 3)`` uint8 RGB, the model's whole output.
        alpha: ``(h, w)`` uint8, where the model changed the picture: 0 where it kept it. Its output
            is mixed with the picture already: this says where it applies, not how much. The caller
            decides what of it applies outside the mask.
    """

    pixels: UInt8Array
    alpha: UInt8Array


class FillFunction(Protocol):
    """What a removal method's ``load(options)`` returns: it fills windows."""

    def __call__(
        self, pixels: Sequence[UInt8Array], masks: Sequence[UInt8Array], seeds: Sequence[int]
    ) -> Sequence[UInt8Array | FillWithAlpha | RowError]:
        """Fill windows.

        Args:
            pixels: ``(h, w, 3)`` uint8 RGB each, of any size from 1 x 1.
            masks: ``(h, w)`` uint8 each; what is not 0 is filled.
            seeds: 0 to 2**32 - 1 each; deterministic methods ignore them.

        Returns:
            In order, new pixels that are the given ones where the mask is 0; or the whole output
            with its alpha, if the options' trait ``returns_alpha`` is set. Or, not raised, the
            RowError of a window that cannot be filled: ``model.out_of_memory`` or
            ``model.bad_output``. It may raise if that is the fault of one window: each photo is
            then tried alone.
        """
        ...
