"""From a mask file to the two masks the method needs.

* The **generation mask** is binary and says what is painted anew: the mask as given, its holes
  filled, grown a little so that no soft edge of the object survives.
* The **blend mask** is soft and says how the paint is laid on: 255 on the whole generation mask,
  fading to exactly 0 within ``feather_px`` outside it. The object never shows through the soft
  edge, and nothing changes beyond it.

All lengths are in pixels of the photo, so the edge looks the same whatever the crop's size.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from manifests.errors import RowError
from stages.recipe import MaskOptions

Bits = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

#: Masks of another size count as the same aspect when they differ by no more than a pixel in this
#: many: exporters round the shorter side.
_ASPECT_TOLERANCE = 0.01


def fit_to_photo(mask: Bytes, width: int, height: int, options: MaskOptions, uri: str) -> Bytes:
    """Return the mask at the photo's size.

    Args:
        mask: ``(h, w)`` uint8, 0 to 255.
        width: of the photo as displayed, px.
        height: of the photo as displayed, px.
        options: ``scale_to_photo`` decides whether another size of the same aspect is accepted.
        uri: names the mask in the error.

    Raises:
        RowError: ``mask.size_mismatch``.
    """
    mask_height, mask_width = mask.shape
    if (mask_width, mask_height) == (width, height):
        return mask
    same_aspect = abs(mask_width * height / (mask_height * width) - 1) <= _ASPECT_TOLERANCE
    if not (options.scale_to_photo and same_aspect):
        raise RowError(
            "mask.size_mismatch",
            f"The mask {uri} is {mask_width}x{mask_height}, the photo {width}x{height}.",
        )
    scaled = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(scaled, dtype=np.uint8)


def generation_mask(mask: Bytes, options: MaskOptions) -> Bits:
    """Return ``(h, w)`` bool: True where the photo is painted anew.

    Args:
        mask: ``(h, w)`` uint8, 0 to 255, at the photo's size.
        options: threshold, polarity, holes and dilation.
    """
    region: Bits = mask < 256 - options.threshold if options.invert else mask >= options.threshold
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not rows.size:
        return region
    # Work on the part that holds the mask, with room to grow: marks are small, photos are not.
    margin = options.dilate_px + 1
    part = (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )
    work = region[part].astype(np.uint8)
    if options.fill_holes:
        work = _fill_holes(work)
    if options.dilate_px:
        work = (distance_outside(work.astype(np.bool_)) <= options.dilate_px).astype(np.uint8)
    region[part] = work.astype(np.bool_)
    return region


def distance_outside(region: Bits) -> npt.NDArray[np.float32]:
    """Distance in px from each pixel to the nearest True one: 0 inside, infinite if none is."""
    if not region.any():
        return np.full(region.shape, np.inf, np.float32)
    inverse = np.logical_not(region).view(np.uint8)
    return np.asarray(cv2.distanceTransform(inverse, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))


def blend_mask(region: Bits, feather_px: int) -> Bytes:
    """Return ``(h, w)`` uint8: 255 on ``region``, fading to 0 beyond ``feather_px`` px from it."""
    distance = distance_outside(region)
    ramp = np.where(distance <= feather_px, 1.0 - distance / (feather_px + 1), 0.0)
    return np.asarray(np.rint(ramp * 255), dtype=np.uint8)


def _fill_holes(work: Bytes) -> Bytes:
    """Set what the mask encloses: background that is not joined to the border."""
    framed = np.pad(work, 1)
    cv2.floodFill(framed, None, (0, 0), (2,))
    return np.asarray(framed[1:-1, 1:-1] != 2, dtype=np.uint8)
