"""Pastes the filled part of a patch back into the photo, and changes nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from stages.arrays import Samples, UInt8Array
from stages.pixels import colour
from stages.pixels.boxes import Box, bounds_of
from stages.pixels.samples import ColourSpace

_MARGIN_PX = 8


def stitch(
    photo: Samples,
    fill: UInt8Array,
    opacity: UInt8Array,
    crop: Box,
    space: ColourSpace,
    *,
    opaque: bool = False,
) -> None:
    """Blend a filled crop into ``photo``, in place, in the photo's own space and depth.

    A sample becomes ``photo + (paint - photo) * opacity / 255``, rounded. Where ``opacity`` is 0 it
    stays as it is, to the bit, and so does alpha unless the paint is ``opaque``.

    Args:
        photo: ``(h, w, c)`` uint8 or uint16; changed in place.
        fill: ``(crop.height, crop.width, 3)`` uint8 sRGB.
        opacity: ``(crop.height, crop.width)`` uint8, 0 to 255.
        crop: the patch's position, inside the photo.
        space: the colour space of ``photo``.
        opaque: also blend alpha towards opaque: for a photo whose own alpha was the mask, so that
            the filled pixels are visible.
    """
    bounds = bounds_of(opacity)
    if bounds is None:
        return
    # The margin is used to measure the loss of the conversion to sRGB and back.
    painted = bounds.shifted(crop.x0, crop.y0).grown(_MARGIN_PX).intersection(crop)
    part = painted.shifted(-crop.x0, -crop.y0).slices
    here = photo[painted.slices]
    if opaque:
        space = replace(space, premultiplied=False)
    paint = colour.to_photo_space(
        np.ascontiguousarray(fill[part]), here, opacity[part] == 255, space
    )
    if opaque and here.shape[2] > space.channels:
        full = np.full((*paint.shape[:2], 1), np.iinfo(photo.dtype).max, photo.dtype)
        paint = np.concatenate([paint, full], axis=2)
    wide: type[np.unsignedinteger[Any]] = np.uint16 if photo.dtype == np.uint8 else np.uint32
    weight = opacity[part].astype(wide)[..., None]
    painted_channels = here[..., : paint.shape[2]]
    mixed = painted_channels * (255 - weight)
    mixed += paint * weight
    mixed += 127
    mixed //= 255
    painted_channels[:] = mixed
