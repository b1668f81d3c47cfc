"""The refiners, which repair texture where a removal left it soft.

The module that a refiner's options name as ``loader`` defines ``load(folder, options, device)`` and
``load_encoder(folder, options, device)``. The text encoders are loaded separately since they are as
large as the model itself, and run once per distinct prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.models.refiners.prompts import Prompt
from stages.recipe.options import RefineOptions

if TYPE_CHECKING:
    from stages.models.refiners.batches import DiffusionRefiner


@dataclass(frozen=True, slots=True)
class Encoder:
    """The text encoders of a refiner.

    Attributes:
        encode: encodes a text, truncated to 512 tokens.
    """

    encode: Callable[[str], Prompt]


def load_refiner(
    options: RefineOptions, folder: Path, device: str | None = None
) -> DiffusionRefiner:
    """Load the model from a diffusers folder, without its text encoders.

    Args:
        options: the recipe's section [refine]; its ``lora`` are local paths.
        folder: a pipeline as ``save_pretrained`` writes it: safetensors, never from the network.
        device: a torch device; None: the first GPU, else the CPU.

    Raises:
        WeightsError: ``weights.unusable``, ``model.unavailable`` for an option that is not
            supported here, ``model.out_of_memory`` or ``model.not_installed``.
    """
    refiner: DiffusionRefiner = options.load_module().load(folder, options, device)
    return refiner


def load_encoder(options: RefineOptions, folder: Path, device: str | None = None) -> Encoder:
    """Load the text encoders alone. Arguments and errors: as :func:`load_refiner`."""
    encoder: Encoder = options.load_module().load_encoder(folder, options, device)
    return encoder
