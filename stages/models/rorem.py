"""RORem as a removal method: :mod:`stages.models.refiners.rorem` with one prompt for all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from manifests.errors import RowError
from stages.arrays import UInt8Array
from stages.models import FillFunction
from stages.models.padding import pad, unpad_and_keep_known
from stages.models.refiners.rorem import Rorem
from stages.recipe.removal_methods import RoremOptions

#: Sides of windows become a multiple of this: 8 px to a latent, which the UNet halves twice.
_SIDE_PX = 32


def load(options: RoremOptions) -> FillFunction:
    """Load the model. See :class:`stages.method_options.RemovalOptions`.

    The text encoders are loaded first, and freed before the network is loaded.

    Raises:
        WeightsError: ``weights.unusable``: a file is damaged, or of another network;
            ``model.unavailable``: ``offload`` without a GPU.
        RowError: ``model.out_of_memory``.
    """
    folder = Path(options.weights)
    prompt = Rorem.load_encoder(folder, options)(options.prompt)
    model = Rorem.load(folder, options)

    def fill(
        pixels: Sequence[UInt8Array], masks: Sequence[UInt8Array], seeds: Sequence[int]
    ) -> list[UInt8Array | RowError]:
        """See :class:`stages.models.FillFunction`."""
        marked = [(mask > 0).astype(np.uint8) * 255 for mask in masks]
        padded = [pad(*each, _SIDE_PX) for each in zip(pixels, marked, strict=True)]
        painted = model.refine(
            [window for window, _ in padded],
            [mask for _, mask in padded],
            [prompt] * len(padded),
            seeds,
        )
        return [unpad_and_keep_known(*each) for each in zip(painted, pixels, masks, strict=True)]

    return fill
