"""Refiners repair texture where a removal left it soft.

The module that a refiner's options name as ``loader`` offers ``load(folder, options, device)`` and
``load_encoder(folder, options, device)``. The text encoders are apart since they are as large as
the model itself, and run once per distinct prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from manifests.errors import RowError
from stages.models.refiners.prompts import Prompt
from stages.pixels.masks import Bytes
from stages.recipe.options import RefineOptions


class Refiner(Protocol):
    """A loaded model."""

    def refine(
        self,
        pixels: Sequence[Bytes],
        masks: Sequence[Bytes],
        prompts: Sequence[Prompt],
        seeds: Sequence[int],
    ) -> list[Bytes | RowError]:
        """Paint the masked part of each crop anew, starting from what is there.

        Crops of one size run together; a crop's result does not depend on which others do.

        Args:
            pixels: ``(h, w, 3)`` uint8 RGB each, h and w multiples of 16.
            masks: ``(h, w)`` uint8 each; paint from 128 on.
            prompts: one per crop, from this refiner's :class:`Encoder`.
            seeds: one per crop, 0 to 2**32 - 1.

        Returns:
            Whole pictures of the same sizes, in order. Their unmasked part differs from the
            input: paste only the masked one. Or the error of a crop that cannot be done:
            ``model.out_of_memory`` or ``model.bad_output``.

        Raises:
            ValueError: a size, a type or a count is wrong, which is the caller's fault.
        """
        ...

    def at_denoise(self, denoise: float) -> Refiner:
        """The same model, which starts from another noise level; nothing is loaded anew."""
        ...

    @property
    def record(self) -> dict[str, object]:
        """What the lineage says about how it ran: JSON values."""
        ...


class Encoder(Protocol):
    """The text encoders of a refiner."""

    def encode(self, text: str) -> Prompt:
        """Read a text, up to 512 tokens; what is longer is cut."""
        ...


def load_refiner(options: RefineOptions, folder: Path, device: str | None = None) -> Refiner:
    """Load the model from a diffusers folder, without its text encoders.

    Args:
        options: say which model, and how it runs.
        folder: a pipeline as ``save_pretrained`` writes it: safetensors, never from the network.
        device: of torch; None: the first GPU, or the CPU where there is none.

    Raises:
        WeightsError: ``weights.unusable``, ``model.unavailable`` for a switch that cannot be had
            here, ``model.out_of_memory`` or ``model.not_installed``.
    """
    refiner: Refiner = options.load_module().load(folder, options, device)
    return refiner


def load_encoder(options: RefineOptions, folder: Path, device: str | None = None) -> Encoder:
    """Load the text encoders alone. Arguments and errors: as :func:`load_refiner`."""
    encoder: Encoder = options.load_module().load_encoder(folder, options, device)
    return encoder
