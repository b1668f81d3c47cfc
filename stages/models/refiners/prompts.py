"""Encoded prompts, in plain numpy since they are sent between actors."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from stages.arrays import Float32Array

if TYPE_CHECKING:
    import torch

#: Numbers in float32, or the bits of bfloat16, which numpy does not have.
Values = Float32Array | npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A text encoded by a refiner's text encoders.

    Attributes:
        embeds: ``(tokens, dim)``, one vector per token.
        pooled: ``(dim,)``, one vector for the whole text; ``(0,)`` if the model has none.
        text_hash: SHA-256 of the text, in hex.
    """

    embeds: Values
    pooled: Values
    text_hash: str

    def to_bytes(self) -> bytes:
        """Pack without loss: 4 MiB for FLUX in bfloat16, 8 in other precisions."""
        packed = io.BytesIO()
        np.savez(
            packed,
            embeds=self.embeds,
            pooled=self.pooled,
            text_hash=np.array(self.text_hash),
        )
        return packed.getvalue()

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        """Undo :meth:`to_bytes`."""
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            return cls(arrays["embeds"], arrays["pooled"], str(arrays["text_hash"]))


def hash_of(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def to_numpy(values: torch.Tensor) -> Values:
    """Convert a text encoder's output."""
    import torch

    if values.dtype == torch.bfloat16:
        return values.cpu().view(torch.uint16).numpy()
    return values.float().cpu().numpy()
