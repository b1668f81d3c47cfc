"""To the size at which a fill works, and back to the crop's.

``cv2.resize`` maps pixel centres (half-pixel offsets) and rounds, so a way down and up again moves
nothing.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.masks import Bytes


def working_size(width: int, height: int, max_side_px: int) -> tuple[int, int]:
    """The size, (width, height) in px, at which a window of that size is filled; 0: as it is."""
    longest = max(width, height)
    if not max_side_px or longest <= max_side_px:
        return width, height
    scale = max_side_px / longest
    return max(round(width * scale), 1), max(round(height * scale), 1)


def scale_pixels(pixels: Bytes, width: int, height: int) -> Bytes:
    """Resample ``(h, w, 3)`` uint8: area averages down, bicubic up; a copy if the size is right."""
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    shrinks = width <= pixels.shape[1] and height <= pixels.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), dtype=np.uint8)


def scale_mask(mask: Bytes, width: int, height: int) -> Bytes:
    """Shrink ``(h, w)`` uint8 so that a pixel is 255 if the mask touches any part of it.

    The area average looks at just the pixels that :func:`scale_pixels` averages, so no colour of
    the object survives in a pixel that counts as known.
    """
    if mask.shape == (height, width):
        return mask.copy()
    covered = (mask > 0).astype(np.float32)
    share = cv2.resize(covered, (width, height), interpolation=cv2.INTER_AREA)
    return (share > 1e-6).astype(np.uint8) * 255
