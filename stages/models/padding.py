"""Windows padded to the sizes that a network takes."""

from __future__ import annotations

import numpy as np

from manifests.errors import RowError
from stages.arrays import UInt8Array


def pad(
    pixels: UInt8Array, mask: UInt8Array, multiple_px: int, min_side_px: int = 1
) -> tuple[UInt8Array, UInt8Array]:
    """Pad a window at the right and bottom, masked as to be filled: it is no part of the photo.

    Args:
        pixels: ``(h, w, 3)`` uint8 RGB.
        mask: ``(h, w)`` uint8, not 0 where to fill.
        multiple_px: the sides become multiples of this.
        min_side_px: and at least this.
    """
    extra = [(0, max(-side % multiple_px, min_side_px - side)) for side in mask.shape]
    return np.pad(pixels, [*extra, (0, 0)], mode="edge"), np.pad(mask, extra, constant_values=255)


def unpad_and_keep_known(
    painted: UInt8Array | RowError, pixels: UInt8Array, mask: UInt8Array
) -> UInt8Array | RowError:
    """Remove the padding, and restore the input outside the mask."""
    if isinstance(painted, RowError):
        return painted
    height, width = mask.shape
    return np.where(mask[..., None] > 0, painted[:height, :width], pixels)
