"""From mask files to the two masks the method needs.

* The **generation mask** is binary and says what is painted anew: what the mask marks, on request
  with its holes filled, grown a little so that no soft edge of the object survives.
* The **blend mask** is soft and says how the paint is laid on: 255 on the whole generation mask,
  falling evenly to 0 at ``feather_px`` + 1 px outside it. The object never shows through the soft
  edge, and nothing changes from there on.

All lengths are in pixels of the photo, so the edge looks the same whatever the crop's size.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from manifests.errors import RowError
from stages.geometry import bounds_of
from stages.options import MaskOptions
from stages.storage import is_same

Bits = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

#: Masks of another size count as the same aspect within this share: exporters round the sides.
_ASPECT_TOLERANCE = 0.01

#: A mask whose strongest sample is below this is empty: coding noise, not a drawing.
_FAINTEST = 32


def marked(mask: Bytes, options: MaskOptions, uri: str) -> Bits:
    """Return ``(h, w)`` bool: what the mask marks, by threshold and polarity.

    Args:
        mask: ``(h, w)`` uint8, 0 to 255.
        options: threshold and polarity.
        uri: names the mask in the error.

    Raises:
        RowError: ``mask.too_faint`` if there is something in it, but nothing over the threshold.
    """
    drawn = 255 - mask if options.polarity == "dark" else mask
    region: Bits = drawn >= options.threshold
    strongest = int(drawn.max(initial=0))
    if _FAINTEST <= strongest < options.threshold:
        raise RowError(
            "mask.too_faint",
            f"The mask {uri} marks nothing: its strongest sample is {strongest}, the threshold "
            f"{options.threshold}.",
        )
    return region


def is_own_alpha(image_uri: str, mask_uris: Iterable[str], options: MaskOptions) -> bool:
    """Whether a mask is the alpha channel of the photo itself."""
    return options.channel == "alpha" and any(is_same(image_uri, uri) for uri in mask_uris)


def fit_to_photo(region: Bits, width: int, height: int, options: MaskOptions, uri: str) -> Bits:
    """Return what a mask marks at the photo's size.

    Args:
        region: ``(h, w)`` bool.
        width: of the photo as displayed, px.
        height: of the photo as displayed, px.
        options: ``scale_to_photo`` decides whether another size of the same aspect is accepted.
            Thin lines survive shrinking: a pixel is marked if any part of it was.
        uri: names the mask in the error.

    Raises:
        RowError: ``mask.size_mismatch``.
    """
    mask_height, mask_width = region.shape
    if (mask_width, mask_height) == (width, height):
        return region
    same_aspect = abs(mask_width * height / (mask_height * width) - 1) <= _ASPECT_TOLERANCE
    if not (options.scale_to_photo and same_aspect):
        raise RowError(
            "mask.size_mismatch",
            f"The mask {uri} is {mask_width}x{mask_height}, the photo {width}x{height}.",
        )
    shrinks = width < mask_width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    share = cv2.resize(region.astype(np.float32), (width, height), interpolation=how)
    return np.asarray(share > (1e-6 if shrinks else 0.5))


def grown(region: Bits, options: MaskOptions) -> Bits:
    """Return ``(h, w)`` bool: the generation mask, True where the photo is painted anew.

    Args:
        region: ``(h, w)`` bool, what the mask marks, at the photo's size.
        options: holes and dilation.
    """
    bounds = bounds_of(region)
    if bounds is None:
        return region
    # Work on the part that holds the mask, with room to grow: marks are small, photos are not.
    height, width = region.shape
    dilate_px = options.dilate_for(width, height)
    part = bounds.grown(dilate_px + 1).clipped(width, height).slices
    work = region[part].astype(np.uint8)
    if options.fill_holes:
        work = _fill_holes(work)
    result = region.copy()
    result[part] = distance_outside(work.astype(np.bool_)) <= dilate_px
    return result


def distance_outside(region: Bits) -> npt.NDArray[np.float32]:
    """Distance in px from each pixel to the nearest True one: 0 inside, infinite if none is."""
    if not region.any():
        return np.full(region.shape, np.inf, np.float32)
    inverse = np.logical_not(region).view(np.uint8)
    return np.asarray(cv2.distanceTransform(inverse, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))


def blend_mask(region: Bits, feather_px: int) -> Bytes:
    """Return ``(h, w)`` uint8: 255 on ``region``, falling evenly to 0 at ``feather_px`` + 1 px.

    No step between neighbours is steeper than 1 / (``feather_px`` + 1), however the edge runs.
    """
    ramp = np.clip(1 - distance_outside(region) / (feather_px + 1), 0, 1)
    return np.asarray(np.rint(ramp * 255), dtype=np.uint8)


def _fill_holes(work: Bytes) -> Bytes:
    """Set what the mask encloses: background that is not joined to the border."""
    framed = np.pad(work, 1)
    cv2.floodFill(framed, None, (0, 0), (2,))
    return np.asarray(framed[1:-1, 1:-1] != 2, dtype=np.uint8)
