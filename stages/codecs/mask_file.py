"""Read the plane of a mask file that marks the region, alpha or luminance, as 8-bit levels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from manifests.errors import RowError
from stages.arrays import BoolMask, UInt8Array
from stages.codecs.errors import DamagedError, UnsupportedError
from stages.codecs.picture import as_pillow, to_displayed
from stages.codecs.pillow_io import orientation_of, scale_key
from stages.codecs.png import codec as png
from stages.codecs.png.chunks import bit_depth
from stages.codecs.tiff import codec as tiff
from stages.codecs.webp import codec as webp
from stages.pixels.masks import Levels

Channel = Literal["luminance", "alpha"]
Polarity = Literal["light", "dark"]

#: Supported mask formats, by Pillow's names.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF", "AVIF")

#: Compressions of a TIFF, by Pillow's names, that change samples.
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")

_BITS_PER_SAMPLE = 258


def read_levels(
    picture: Image.Image, data: bytes, channel: Channel, polarity: Polarity, uri: str
) -> Levels:
    """Convert a mask file's first picture to levels in the displayed frame.

    Samples of more than 8 bits are scaled by the range of their type. Transparent pictures are
    composited on the unmarked colour: black or, with polarity ``dark``, white. Any sample that
    differs from that colour also differs in the levels, such as 1 of 65,535, or navy blue.

    Args:
        picture: the file, opened and loaded.
        data: the file.
        channel: the plane that marks the region.
        polarity: whether light or dark pixels are marked.
        uri: the name of the file in errors.

    Raises:
        RowError: ``mask.no_alpha``; ``mask.too_faint`` if the picture varies, but its luminance
            does not.
        UnsupportedError: its samples cannot be converted to levels.
        DamagedError: samples are not finite.
    """
    is_lossy = _is_lossy(picture, data)
    picture = _of_one_depth(picture, data)
    turn = orientation_of(picture)
    if channel == "alpha":
        return Levels(to_displayed(_alpha(picture, uri), turn), is_lossy)
    unmarked = 255 if polarity == "dark" else 0
    levels = _luminance(picture, unmarked)
    if (levels == unmarked).all() and (hidden := _hidden(picture)):
        colour = "white" if unmarked else "black"
        raise RowError("mask.too_faint", f"The mask {uri} is {colour} all over; only {hidden}.")
    return Levels(to_displayed(levels, turn), is_lossy)


def _is_lossy(picture: Image.Image, data: bytes) -> bool:
    """Whether samples may have compression noise; lossless AVIFs are rare, and count as lossy."""
    if picture.format == "WEBP":
        return webp.is_lossy(data)
    if picture.format == "TIFF":
        return picture.info.get("compression") in _LOSSY_TIFF
    return picture.format in ("JPEG", "MPO", "AVIF")


def _of_one_depth(picture: Image.Image, data: bytes) -> Image.Image:
    """Return grey samples of any depth, or several channels of 8 bits.

    Pillow keeps only the upper 8 bits of deeper colours, which would lose labels.
    """
    bits = bit_depth(data) if picture.format == "PNG" else 8
    if picture.format == "TIFF":
        bits = max(picture.tag_v2.get(_BITS_PER_SAMPLE, (8,)))  # type: ignore[attr-defined]
    if bits <= 8 or _is_deep_grey(picture):
        scale_key(picture, data)
        return picture
    decoded = (png if picture.format == "PNG" else tiff).decode(data)
    return as_pillow(_narrowed(decoded.pixels, 65535), decoded.space.model)


def _is_deep_grey(picture: Image.Image) -> bool:
    return picture.mode.startswith("I") or picture.mode == "F"


def _alpha(picture: Image.Image, uri: str) -> UInt8Array:
    """The alpha channel, or that of a palette or a transparent colour."""
    if not picture.has_transparency_data:
        raise RowError("mask.no_alpha", f"The mask {uri} has no alpha channel.")
    if _is_deep_grey(picture):
        return np.where(np.asarray(picture) == picture.info["transparency"], 0, 255).astype(
            np.uint8
        )
    return np.asarray(picture.convert("RGBA").getchannel("A"))


def _luminance(picture: Image.Image, unmarked: int) -> UInt8Array:
    """``(h, w)`` uint8; only pixels of exactly the unmarked colour get the level ``unmarked``."""
    if _is_deep_grey(picture):
        return _deep_luminance(picture, unmarked)
    has_alpha = picture.has_transparency_data
    if picture.mode in ("1", "L") and not has_alpha:
        return np.asarray(picture.convert("L"))
    colours = picture.convert("RGBA" if has_alpha else "RGB")
    farthest = ImageChops.darker if unmarked else ImageChops.lighter
    red, green, blue = colours.split()[:3]
    is_drawn: BoolMask = np.asarray(farthest(farthest(red, green), blue)) != unmarked
    if has_alpha:
        is_drawn &= np.asarray(colours.getchannel("A")) > 0
        ground = Image.new("RGBA", picture.size, (unmarked, unmarked, unmarked, 255))
        colours = Image.alpha_composite(ground, colours)
    levels = np.array(colours.convert("L"))
    levels[is_drawn & (levels == unmarked)] = abs(unmarked - 1)
    return levels


def _deep_luminance(picture: Image.Image, unmarked: int) -> UInt8Array:
    samples = np.asarray(picture)
    if not np.isfinite(samples).all():
        raise DamagedError("it holds samples that are not numbers")
    if samples.min(initial=0) < 0:
        raise UnsupportedError("it has negative samples")
    peak = float(samples.max(initial=0))
    ranges = (1.0, 255.0, 65535.0) if samples.dtype.kind == "f" else (255.0, 65535.0)
    full = next((top for top in ranges if peak <= top), peak)
    levels = _narrowed(samples, full)
    key = picture.info.get("transparency")
    return levels if key is None else np.where(samples == key, np.uint8(unmarked), levels)


def _narrowed(samples: npt.NDArray[Any], full: float) -> npt.NDArray[np.uint8]:
    """Scale 0 to ``full`` to 0 to 255; only 0 becomes 0, and only ``full`` becomes 255."""
    scaled = np.rint(samples * np.float32(255 / full))
    inside = np.clip(scaled, np.where(samples > 0, 1, 0), np.where(samples < full, 254, 255))
    return inside.astype(np.uint8)


def _hidden(picture: Image.Image) -> str:
    """Describe what varies in a picture whose luminance does not; empty if nothing does."""
    extrema: Any = picture.getextrema()
    ranges = extrema if isinstance(extrema[0], tuple) else (extrema,)
    varying = [
        band for band, (low, high) in zip(picture.getbands(), ranges, strict=True) if low != high
    ]
    known = {"": "", "A": "its transparency varies", "P": "its palette index varies"}
    return known.get("".join(varying), "the colours that are transparent vary")
