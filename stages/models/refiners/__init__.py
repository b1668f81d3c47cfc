"""Interface of the refiners, which repair texture where a removal left it soft.

The module that a refiner's options name as ``loader`` defines ``load(folder, options, device)`` and
``load_encoder(folder, options, device)``. The text encoders are loaded separately since they are as
large as the model itself, and run once per distinct prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from manifests.errors import RowError
from stages.arrays import UInt8Array
from stages.models.refiners.prompts import Prompt
from stages.recipe.options import RefineOptions


class Refiner(Protocol):
    """A loaded model."""

    def refine(
        self,
        pixels: Sequence[UInt8Array],
        masks: Sequence[UInt8Array],
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
    ) -> list[UInt8Array | RowError]:
        """Regenerate the masked part of each crop, starting from its current pixels.

        Crops of one size run together; a crop's result does not depend on the others.

        Args:
            pixels: ``(h, w, 3)`` uint8 RGB each, h and w multiples of 16.
            masks: ``(h, w)`` uint8 each; 128 and above is regenerated.
            prompts: one per crop, from this refiner's :class:`Encoder`.
            seeds: one per crop, 0 to 2**32 - 1.

        Returns:
            Full pictures of the same sizes, in order. Their unmasked part may differ from the
            input: paste only the masked one. For a crop that fails, the error instead:
            ``model.out_of_memory`` or ``model.bad_output``.

        Raises:
            ValueError: a size, type or count is wrong, which is the caller's fault.
        """
        ...

    def at_denoise(self, denoise: float) -> Refiner:
        """Return the same model with another starting noise level; nothing is loaded again."""
        ...

    @property
    def record(self) -> dict[str, object]:
        """Settings to record in the lineage, as JSON values."""
        ...


class Encoder(Protocol):
    """The text encoders of a refiner."""

    def encode(self, text: str) -> Prompt:
        """Encode a text; it is truncated to 512 tokens."""
        ...


def load_refiner(options: RefineOptions, folder: Path, device: str | None = None) -> Refiner:
    """Load the model from a diffusers folder, without its text encoders.

    Args:
        options: the recipe's section [refine].
        folder: a pipeline as ``save_pretrained`` writes it: safetensors, never from the network.
        device: a torch device; None: the first GPU, else the CPU.

    Raises:
        WeightsError: ``weights.unusable``, ``model.unavailable`` for an option that is not
            supported here, ``model.out_of_memory`` or ``model.not_installed``.
    """
    refiner: Refiner = options.load_module().load(folder, options, device)
    return refiner


def load_encoder(options: RefineOptions, folder: Path, device: str | None = None) -> Encoder:
    """Load the text encoders alone. Arguments and errors: as :func:`load_refiner`."""
    encoder: Encoder = options.load_module().load_encoder(folder, options, device)
    return encoder
