"""A removal model in one module, as a new one is added: its options with their traits, its loader.

It paints the one colour that its file of weights holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from manifests.errors import RowError
from stages.arrays import UInt8Array
from stages.method_options import NOT_HASHED, Pool, RemovalOptions, WeightsPin
from stages.models import FillFunction

#: Pixels and masks of each call, in order.
calls: list[tuple[Sequence[UInt8Array], Sequence[UInt8Array]]] = []


class ToyOptions(RemovalOptions):
    """Sees 20 px on each side, in windows of multiples of 32 px, up to 96 px."""

    pool: ClassVar[Pool] = "small_gpu"
    loader: ClassVar[str] = __name__
    is_generative: ClassVar[bool] = True
    window_multiple_px: ClassVar[int] = 32
    working_multiple_px: ClassVar[int] = 16

    method: Literal["toy"] = "toy"
    weights: str = "toy-model"
    weights_pin: WeightsPin = ""
    fails_at: int = -1
    batch_size: Annotated[int, NOT_HASHED] = Field(4, ge=1)

    def context_for(self, width: int, height: int) -> tuple[float, int]:  # noqa: ARG002
        """See the base class."""
        return 1.0, 20

    @property
    def own_max_side_px(self) -> int:
        """See the base class."""
        return 96


def load(options: ToyOptions) -> FillFunction:
    """See the base class."""
    colour = np.frombuffer(Path(options.weights).read_bytes(), np.uint8)

    def fill(
        pixels: Sequence[UInt8Array], masks: Sequence[UInt8Array], seeds: Sequence[int]
    ) -> list[UInt8Array | RowError]:
        assert len(pixels) == len(masks) == len(seeds)
        calls.append((pixels, masks))
        filled: list[UInt8Array | RowError] = [
            np.where(mask[..., None] > 0, colour, each)
            for each, mask in zip(pixels, masks, strict=True)
        ]
        if options.fails_at >= 0:
            filled[options.fails_at] = RowError("model.bad_output", "The toy's output is none.")
        return filled

    return fill
