"""Converts between a photo's own colour space and the 8-bit sRGB that fills work in.

A fill always sees 8-bit sRGB; its result is converted to the photo's own space and depth, and
blended there. sRGB, grey and untagged photos are only converted to 8 bits. Others are converted
with their ICC profile (littleCMS). The loss of the round trip (colours outside sRGB, the share of
black ink in a grey) is measured around the hole, extrapolated into it, and added to the fill:
without that, the fill of a saturated wall would be a paler patch.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from stages.arrays import BoolMask, Samples, UInt8Array
from stages.pixels.samples import ColourSpace, composite_on, strips, to_8_bits

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), "rgb"

#: A profile that changes no colour by more levels than this is treated as sRGB.
_MAX_SRGB_DIFFERENCE = 2

#: Minimum visible loss, in levels of 256.
_VISIBLE_LOSS = 1.5

_RELATIVE_COLORIMETRIC = 1


def to_srgb8(pixels: Samples, space: ColourSpace) -> UInt8Array:
    """Convert ``(h, w, c)`` in ``space`` to ``(h, w, 3)`` uint8 sRGB; alpha is dropped."""
    colours = unpremultiplied(pixels, space)
    if space.model == "grey":
        return np.repeat(to_8_bits(colours), 3, axis=2)
    if not _needs_conversion(space):
        return np.ascontiguousarray(to_8_bits(colours))
    return _to_srgb(colours, space)


def grey_to_srgb8(grey: Samples, icc: bytes) -> UInt8Array | None:
    """Convert ``(h, w, 1)`` by a grey profile to ``(h, w, 3)`` uint8 sRGB.

    Returns:
        None if the profile is damaged, or not one of grey.
    """
    try:
        return to_8_bits(_transformed(grey[..., 0], (icc, "gray"), _SRGB, np.uint8))
    except imagecodecs.CmsError:
        return None


def as_displayed(pixels: Samples, space: ColourSpace) -> Image.Image:
    """Convert ``(h, w, c)`` in ``space`` to an 8-bit sRGB Pillow picture, RGB or RGBA."""
    seen = to_srgb8(pixels, space)
    if pixels.shape[2] == space.channels:
        return Image.fromarray(seen)
    return Image.fromarray(np.dstack([seen, to_8_bits(pixels[..., -1])]))


def to_photo_space(
    fill: UInt8Array, around: Samples, hole: BoolMask, space: ColourSpace
) -> Samples:
    """Convert a fill to a photo's own space and depth.

    Args:
        fill: ``(h, w, 3)`` uint8 sRGB.
        around: ``(h, w, c)`` uint8 or uint16, the same part of the photo, with alpha if present.
        hole: ``(h, w)`` bool, where ``around`` shows the object to remove.
        space: the photo's colour space.

    Returns:
        ``(h, w, channels)`` in the type of ``around``, without alpha.
    """
    if space.premultiplied:
        alpha, straight = around[..., -1:], replace(space, premultiplied=False)
        seen = np.concatenate([unpremultiplied(around, space), alpha], axis=2)
        return _times(to_photo_space(fill, seen, hole, straight), alpha)
    if space.model == "grey":
        grey = np.asarray(cv2.cvtColor(fill, cv2.COLOR_RGB2GRAY), np.uint8)
        return _to_depth(grey[..., None], around.dtype)
    if not _needs_conversion(space):
        return _to_depth(fill, around.dtype)
    colours = around[..., : space.channels]
    top = float(np.iinfo(around.dtype).max)
    there_and_back = _from_srgb(_to_srgb(colours, space), space, around.dtype)
    loss = (colours.astype(np.float32) - there_and_back) * (255 / top)
    painted = _from_srgb(fill, space, around.dtype).astype(np.float32)
    if not hole.all() and np.abs(loss[~hole]).max() > _VISIBLE_LOSS:
        painted += _carried_into(loss, hole) * (top / 255)
    return np.clip(np.rint(painted), 0, top).astype(around.dtype)


def unpremultiplied(pixels: Samples, space: ColourSpace) -> Samples:
    """Return the colour channels, divided by alpha if they are premultiplied."""
    colours = pixels[..., : space.channels]
    if not space.premultiplied:
        return colours
    top, straight = np.iinfo(pixels.dtype).max, np.empty(colours.shape, pixels.dtype)
    for rows in strips(colours.shape):
        share = np.maximum(pixels[rows, :, -1:], 1).astype(np.float32) / top
        straight[rows] = np.minimum(np.rint(colours[rows] / share), top)
    return straight


def _times(colours: Samples, alpha: Samples) -> Samples:
    top = np.uint64(np.iinfo(colours.dtype).max)
    product = colours.astype(np.uint64) * alpha
    return ((product + top // np.uint64(2)) // top).astype(colours.dtype)


def _to_depth(colours: UInt8Array, depth: npt.DTypeLike) -> Samples:
    """8-bit samples as uint8 or uint16."""
    return colours if depth == np.uint8 else colours.astype(np.uint16) * np.uint16(257)


def _carried_into(loss: npt.NDArray[np.float32], hole: BoolMask) -> npt.NDArray[np.float32]:
    """Extrapolate ``(h, w, c)``, within +-128, smoothly into the hole."""
    offset = np.clip(np.rint(loss + 128), 0, 255).astype(np.uint8)
    mask = hole.view(np.uint8)
    channels = [
        cv2.inpaint(np.ascontiguousarray(offset[..., i]), mask, 3, cv2.INPAINT_NS)
        for i in range(offset.shape[2])
    ]
    inside = np.stack(channels, axis=2).astype(np.float32) - 128
    return np.where(hole[..., None], inside, loss)


@lru_cache(maxsize=64)
def _needs_conversion(space: ColourSpace) -> bool:
    """Whether colours differ from sRGB."""
    if space.model == "cmyk":
        return True
    if not _has_profile(space):
        return False  # none, or a damaged or non-RGB one, which most viewers ignore
    level = np.linspace(0, 255, 6).astype(np.uint8)
    lattice = np.stack(np.meshgrid(level, level, level), axis=-1).reshape(1, -1, 3)
    moved = _transformed(lattice, (space.icc, "rgb"), _SRGB, np.uint8)
    return int(np.abs(moved.astype(int) - lattice).max()) > _MAX_SRGB_DIFFERENCE


@lru_cache(maxsize=64)
def _has_profile(space: ColourSpace) -> bool:
    """Whether there is a profile that works in both directions."""
    if not space.icc:
        return False
    try:
        black = np.zeros((1, 1, 3), np.uint8)
        stored = _transformed(black, _SRGB, (space.icc, space.model), np.uint8)
        _transformed(stored, (space.icc, space.model), _SRGB, np.uint8)
    except imagecodecs.CmsError:
        return False
    return True


def _to_srgb(colours: Samples, space: ColourSpace) -> UInt8Array:
    if _has_profile(space):
        return to_8_bits(_transformed(colours, (space.icc, space.model), _SRGB, np.uint8))
    ink = to_8_bits(colours)  # CMYK without a profile
    return composite_on(0, 255 - ink[..., :3], 255 - ink[..., 3:])


def _from_srgb(fill: UInt8Array, space: ColourSpace, depth: npt.DTypeLike) -> Samples:
    if _has_profile(space):
        return _transformed(fill, _SRGB, (space.icc, space.model), depth)
    ink = 255 - fill.astype(np.float32)
    black = ink.min(axis=2, keepdims=True)
    colours = (ink - black) / np.maximum(255 - black, 1) * 255
    naive = np.rint(np.concatenate([colours, black], axis=2)).astype(np.uint8)
    return _to_depth(naive, depth)


def _transformed(
    pixels: Samples, source: tuple[bytes, str], target: tuple[bytes, str], depth: npt.DTypeLike
) -> Samples:
    """Convert pixels from one profile and colour model to another."""
    result = imagecodecs.cms_transform(
        np.ascontiguousarray(pixels),
        source[0],
        target[0],
        colorspace=source[1],
        outcolorspace=target[1],
        outdtype=np.dtype(depth).name,
        intent=_RELATIVE_COLORIMETRIC,
    )
    return np.asarray(result)
