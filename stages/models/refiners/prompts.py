"""Encoded prompts, in plain numpy since they are sent between actors."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from stages.arrays import Float32Array

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A text encoded by a refiner's text encoders.

    Attributes:
        embeds: ``(tokens, dim)``, one vector per token.
        pooled: ``(dim,)``, one vector for the whole text; ``(0,)`` if the model has none.
        negative: like ``embeds``, for the negative prompt; ``(0, 0)`` if there is none.
        text_hash: SHA-256 of the text, in hex.
    """

    embeds: Float32Array
    pooled: Float32Array
    negative: Float32Array
    text_hash: str

    def to_bytes(self) -> bytes:
        """Pack without loss: 4 MiB for FLUX in bfloat16, 8 in other precisions."""
        packed = io.BytesIO()
        np.savez(
            packed,
            embeds=_short(self.embeds),
            pooled=_short(self.pooled),
            negative=_short(self.negative),
            text_hash=np.array(self.text_hash),
        )
        return packed.getvalue()

    def __reduce__(self) -> tuple[Callable[[bytes], Prompt], tuple[bytes]]:
        """Pickle as bytes, which are half as many."""
        return Prompt.from_bytes, (self.to_bytes(),)

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        """Undo :meth:`to_bytes`."""
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            return cls(
                _long(arrays["embeds"]),
                _long(arrays["pooled"]),
                _long(arrays["negative"]),
                str(arrays["text_hash"]),
            )


def hash_of(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def to_floats(values: torch.Tensor) -> Float32Array:
    """Convert to float32, since numpy has no bfloat16."""
    return values.float().cpu().numpy()


def _short(values: Float32Array) -> npt.NDArray[np.uint16] | Float32Array:
    """Drop the lower half of float32 values that came from bfloat16, which is the upper half."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return values if np.any(bits & 0xFFFF) else (bits >> 16).astype(np.uint16)


def _long(values: npt.NDArray[np.uint16] | Float32Array) -> Float32Array:
    if values.dtype == np.float32:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.uint32) << 16).view(np.float32)
