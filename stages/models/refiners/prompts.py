"""Encoded prompts, in plain numpy since they are sent between actors."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from stages.arrays import Float32Array

if TYPE_CHECKING:
    import torch

#: Numbers in float32, or the bits of bfloat16, which numpy does not have.
Values = Float32Array | npt.NDArray[np.uint16]


def _nothing() -> Values:
    return np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A text encoded by a refiner's text encoders.

    Attributes:
        embeds: ``(tokens, dim)``, one vector per token.
        pooled: ``(dim,)``, one vector for the whole text; ``(0, 0)`` if the model has none.
        negative: like ``embeds``, for the negative prompt; ``(0, 0)`` if there is none.
    """

    embeds: Values
    pooled: Values = field(default_factory=_nothing)
    negative: Values = field(default_factory=_nothing)

    def to_bytes(self) -> bytes:
        """Pack without loss: 4 MiB for FLUX in bfloat16, 8 in other precisions."""
        packed = io.BytesIO()
        np.savez(packed, embeds=self.embeds, pooled=self.pooled, negative=self.negative)
        return packed.getvalue()

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        """Undo :meth:`to_bytes`."""
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            return cls(**arrays)


def to_numpy(values: torch.Tensor) -> Values:
    """Convert a text encoder's output."""
    import torch

    if values.dtype == torch.bfloat16:
        return values.cpu().view(torch.uint16).numpy()
    return values.float().cpu().numpy()
