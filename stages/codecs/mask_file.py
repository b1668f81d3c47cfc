"""Read the plane of a mask file that marks, alpha or luminance; write a mask."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageOps

from manifests.errors import RowError
from stages.arrays import BoolMask, UInt8Array
from stages.codecs.picture import as_pillow, to_displayed
from stages.codecs.pillow_io import orientation_of, scale_key
from stages.codecs.png import codec as png
from stages.codecs.png.chunks import bit_depth
from stages.codecs.tiff import codec as tiff
from stages.codecs.webp import codec as webp
from stages.pixels.masks import Levels
from stages.recipe.options import MaskOptions

#: Supported mask formats, by Pillow's names.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF", "AVIF")

#: Compressions of a TIFF, by Pillow's names, that change samples.
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")

_BITS_PER_SAMPLE = 258

#: A mask is taken for a photo if more than this share of it has levels in this range, without the
#: most frequent ones, which are labels or a colour. Photos that fill their frame have 0.57 to 0.97,
#: products on white up to 0.58; of masks, small text scaled down has 0.36. Soft brushes and ramps
#: may have all of it, but are smooth. So there must also be texture: at a longer side of 256 px,
#: more than this share of these pixels differs from its neighbours by a Laplacian of over 3 levels.
#: In photos 0.31 to 0.77 do, in brushes, ramps and blurred discs at most 0.09. Small masks are all
#: edge. In a picture with alpha, only opaque pixels are examined.
_BETWEEN, _LABELS, _MAX_BETWEEN, _OPAQUE = slice(32, 224), 4, 0.5, 224
_MAX_TEXTURE, _TEXTURE, _TEXTURE_SIDE_PX, _MIN_SIDE_PX = 0.2, 3, 256, 64


def read_levels(picture: Image.Image, data: bytes, options: MaskOptions, uri: str) -> Levels:
    """Convert a mask file's first picture to levels in the displayed frame.

    Samples of more than 8 bits are scaled by the range of their type. Transparent pictures are
    composited on the unmarked colour: black or, with polarity ``dark``, white. Any sample that
    differs from that colour also differs in the levels, such as 1 of 65,535, or navy blue.

    Args:
        picture: the file, opened and loaded.
        data: the file.
        options: the channel that marks, its polarity, and the meaning of values.
        uri: the name of the file in errors.

    Raises:
        RowError: ``mask.no_alpha``; ``mask.ambiguous`` if it looks like a photo, and the recipe
            does not say what its values mean; ``mask.too_faint`` if the picture varies, but its
            luminance does not.
        UnsupportedError: its samples have more than 16 bits, or are no whole numbers.
    """
    is_lossy = _is_lossy(picture, data)
    picture = _of_8_bits(picture, data)
    turn = orientation_of(picture)
    has_alpha = picture.has_transparency_data
    alpha = picture.convert("RGBA").getchannel("A") if has_alpha else None
    if options.channel == "alpha":
        if alpha is None:
            raise RowError("mask.no_alpha", f"The mask {uri} has no alpha channel.")
        return Levels(to_displayed(np.asarray(alpha), turn), is_lossy)
    if options.guesses_values and not options.anchor and min(picture.size) >= _MIN_SIDE_PX:
        seen = picture if picture.mode in ("1", "L") else picture.convert("RGB")
        _reject_photo(seen.convert("L"), alpha, uri)
    unmarked = 255 if options.polarity == "dark" else 0
    levels = _luminance(picture, unmarked)
    if (levels == unmarked).all() and _varies(picture):
        colour = "white" if unmarked else "black"
        what = "palette index" if picture.mode == "P" else "transparency"
        raise RowError(
            "mask.too_faint",
            f"The mask {uri} is {colour} all over; only its {what} varies.",
        )
    return Levels(to_displayed(levels, turn), is_lossy)


def _reject_photo(grey: Image.Image, alpha: Image.Image | None, uri: str) -> None:
    """Reject a photo, or a cut-out of one."""
    counts = grey.histogram(alpha and alpha.point([0] * _OPAQUE + [255] * (256 - _OPAQUE)))
    share = sum(sorted(counts[_BETWEEN])[:-_LABELS]) / max(sum(counts), 1)
    if share > _MAX_BETWEEN and _texture(grey, alpha) > _MAX_TEXTURE:
        raise RowError(
            "mask.ambiguous",
            f"The mask {uri} looks like a photo: {share:.0%} of what it shows is neither black nor "
            "white.",
        )


def _texture(grey: Image.Image, alpha: Image.Image | None) -> float:
    """The share of the opaque pixels between black and white that have texture."""
    levels, opacity = (
        np.asarray(ImageOps.contain(each, (_TEXTURE_SIDE_PX,) * 2, Image.Resampling.BOX))
        if max(each.size) > _TEXTURE_SIDE_PX
        else np.asarray(each)
        for each in (grey, alpha or Image.new("L", grey.size, 255))
    )
    seen = (opacity >= _OPAQUE) & (levels >= _BETWEEN.start) & (levels < _BETWEEN.stop)
    is_textured = np.abs(cv2.Laplacian(levels, cv2.CV_16S)) > _TEXTURE
    return float(is_textured[seen].mean()) if seen.any() else 0.0


def encode_mask(marked: BoolMask, options: MaskOptions) -> bytes:
    """Encode ``(h, w)`` bool as a PNG that a recipe with these options reads likewise.

    It is white on black; where the options ask for it, black on white or an alpha channel.
    """
    levels = (marked ^ (options.polarity == "dark")).astype(np.uint8) * np.uint8(255)
    if options.channel == "alpha":
        picture = Image.fromarray(np.dstack([np.zeros_like(levels), levels]), "LA")
    else:
        picture = Image.fromarray(levels).convert("1")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _is_lossy(picture: Image.Image, data: bytes) -> bool:
    """Whether samples may have compression noise; lossless AVIFs are rare, and count as lossy."""
    if picture.format == "WEBP":
        return webp.is_lossy(data)
    if picture.format == "TIFF":
        return picture.info.get("compression") in _LOSSY_TIFF
    return picture.format in ("JPEG", "MPO", "AVIF")


def _of_8_bits(picture: Image.Image, data: bytes) -> Image.Image:
    """Scale deeper samples to 8 bits; Pillow would keep only the upper 8, which would lose labels.

    Samples that all fit into 8 bits are kept as they are.
    """
    bits = bit_depth(data) if picture.format == "PNG" else 8
    if picture.format == "TIFF":
        bits = max(picture.tag_v2.get(_BITS_PER_SAMPLE, (8,)))  # type: ignore[attr-defined]
    if bits <= 8:
        scale_key(picture, data)
        return picture
    decoded = (png if picture.format == "PNG" else tiff).decode(data)
    samples, full = decoded.pixels, 255 if decoded.pixels.max(initial=0) <= 255 else 65535
    scaled = np.rint(samples * np.float32(255 / full))
    # Only 0 becomes 0, and only the maximum becomes 255.
    inside = np.clip(scaled, np.where(samples > 0, 1, 0), np.where(samples < full, 254, 255))
    return as_pillow(inside.astype(np.uint8), decoded.space.model)


def _luminance(picture: Image.Image, unmarked: int) -> UInt8Array:
    """``(h, w)`` uint8; only pixels of exactly the unmarked colour get the level ``unmarked``."""
    has_alpha = picture.has_transparency_data
    if picture.mode in ("1", "L") and not has_alpha:
        return np.asarray(picture.convert("L"))
    colours = picture.convert("RGBA" if has_alpha else "RGB")
    farthest = ImageChops.darker if unmarked else ImageChops.lighter
    red, green, blue = colours.split()[:3]
    is_drawn: BoolMask = np.asarray(farthest(farthest(red, green), blue)) != unmarked
    if has_alpha:
        is_drawn &= np.asarray(colours.getchannel("A")) > 0
        background = Image.new("RGBA", picture.size, (unmarked, unmarked, unmarked, 255))
        colours = Image.alpha_composite(background, colours)
    levels = np.array(colours.convert("L"))
    levels[is_drawn & (levels == unmarked)] = abs(unmarked - 1)
    return levels


def _varies(picture: Image.Image) -> bool:
    """Whether any band does, or the palette's index."""
    return any(low != high for low, high in np.reshape(picture.getextrema(), (-1, 2)))
