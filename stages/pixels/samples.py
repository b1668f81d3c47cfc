"""Sample arrays of photos, and their colour spaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from stages.arrays import Samples

#: What the channels mean; CMYK as Pillow has it, 0: no ink.
ColourModel = Literal["grey", "rgb", "cmyk"]

_CHANNELS: dict[ColourModel, int] = {"grey": 1, "rgb": 3, "cmyk": 4}


@dataclass(frozen=True, slots=True)
class Space:
    """The colour space of a photo's samples.

    Attributes:
        model: meaning of the colour channels; alpha may follow them.
        icc: the embedded profile; empty if there is none.
        premultiplied: whether colours are multiplied by alpha.
    """

    model: ColourModel
    icc: bytes = b""
    premultiplied: bool = False

    @property
    def channels(self) -> int:
        """Number of colour channels: 1, 3 or 4."""
        return _CHANNELS[self.model]


def to_8_bits(samples: Samples) -> npt.NDArray[np.uint8]:
    """Convert samples to 8 bits, rounded to the nearest level."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
