"""Open a photo or a mask, and refuse what cannot be edited without loss.

Pixels are handed on in the *displayed* frame: the EXIF orientation is applied, for photo and mask
alike, so the two meet as a person saw them when drawing the mask.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from manifests.errors import RowError
from stages.masks import Bytes
from stages.recipe import MaskOptions

#: Which file a message is about; also the first half of its error code.
Role = Literal["image", "mask"]

#: Format as Pillow names it (MPO is a JPEG with more pictures behind it) -> file suffix.
SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}

#: Modes that are edited without loss, and the one they are edited in: palettes are widened to the
#: colours they stand for, and a transparent colour to alpha, or paint could turn into a hole.
_MODES = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "1": "L", "P": "RGB", "PA": "RGBA"}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}

#: Formats a mask may have.
_MASK_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF")

_EXIF_ORIENTATION = 0x0112

# Pillow's own limit cannot follow the recipe's; ours is checked before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """A photo as an array.

    Attributes:
        pixels: ``(h, w, c)`` uint8, c = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha);
            displayed frame.
        orientation: EXIF orientation, 1 to 8, that turns the stored frame into this one.
    """

    pixels: Bytes
    orientation: int

    @property
    def width(self) -> int:
        """As displayed, px."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """As displayed, px."""
        return int(self.pixels.shape[0])


def decode_photo(data: bytes, max_megapixels: float, uri: str) -> Decoded:
    """Decode a photo.

    Args:
        data: the file.
        max_megapixels: larger ones are refused before any pixel is decoded.
        uri: names the file in errors.

    Raises:
        RowError: ``image.zero_bytes``, ``image.not_an_image``, ``image.unsupported``,
            ``image.too_large``, ``image.truncated`` or ``image.corrupt``.
    """
    with _opened(data, max_megapixels, "image", uri) as picture:
        orientation = _orientation(picture)
        mode = _MODES[picture.mode]
        if "transparency" in picture.info:
            mode = _WITH_ALPHA[mode]
        same_mode = picture if picture.mode == mode else picture.convert(mode)
        pixels = np.asarray(_upright(same_mode))
    return Decoded(pixels.reshape(*pixels.shape[:2], -1), orientation)


def check_photo(data: bytes, max_megapixels: float, uri: str) -> tuple[int, int]:
    """Width and height, as displayed, of a photo that is to be passed on as it is.

    Kinds that cannot be edited are accepted here; damage, where we can see it, is not.

    Raises:
        RowError: as :func:`decode_photo`, but never ``image.unsupported``.
    """
    with _opened(data, max_megapixels, "image", uri, for_editing=False) as picture:
        turned = _orientation(picture) >= 5
        return (picture.height, picture.width) if turned else picture.size


def suffix_of(source: bytes, uri: str) -> str:
    """File suffix, without the dot: of the format, or where we do not write it, of the URI."""
    with Image.open(io.BytesIO(source)) as picture:
        known = SUFFIXES.get(picture.format or "")
    return known or uri.rpartition(".")[2].lower()


def decode_mask(data: bytes, max_megapixels: float, uri: str, options: MaskOptions) -> Bytes:
    """Decode a mask to ``(h, w)`` uint8, 0 to 255: its alpha, or its luminance.

    Of a file with several pictures (animations, pages) the first counts. Luminance is that over
    the colour that marks nothing: what is transparent is not marked.

    Args:
        data: the file.
        max_megapixels: larger ones are refused before any pixel is decoded.
        uri: names the file in errors.
        options: the channel; the polarity decides which colour marks nothing.

    Raises:
        RowError: ``mask.zero_bytes``, ``mask.not_an_image``, ``mask.unsupported``,
            ``mask.too_large``, ``mask.truncated``, ``mask.corrupt``, ``mask.no_alpha`` or
            ``mask.too_faint``.
    """
    with _opened(data, max_megapixels, "mask", uri) as picture:
        if options.channel == "alpha":
            return _alpha(picture, data, uri)
        deep = picture.mode.startswith("I") or picture.mode == "F" or _is_label_map(picture)
        upright = _upright(picture)
        if deep:
            return _stretch(np.asarray(upright))
        if not upright.has_transparency_data:
            return np.asarray(upright.convert("L"))
        unmarked = 255 if options.polarity == "dark" else 0
        ground = Image.new("RGBA", upright.size, (unmarked, unmarked, unmarked, 255))
        drawn = upright.convert("RGBA")
        luminance = np.asarray(Image.alpha_composite(ground, drawn).convert("L"))
        least, most = drawn.getchannel("A").getextrema()
        if least != most and (luminance == unmarked).all():
            colour = "white" if unmarked else "black"
            raise RowError(
                "mask.too_faint",
                f"The mask {uri} is {colour} all over; only its transparency varies.",
            )
        return luminance


def _alpha(picture: Image.Image, data: bytes, uri: str) -> Bytes:
    """The alpha channel of a mask, or what its palette or its transparent colour stands for."""
    if not picture.has_transparency_data:
        raise RowError("mask.no_alpha", f"The mask {uri} has no alpha channel.")
    key = picture.info.get("transparency")
    upright = _upright(picture)
    if picture.mode.startswith("I"):
        return np.where(np.asarray(upright) == key, 0, 255).astype(np.uint8)
    if picture.mode in ("L", "RGB") and picture.format == "PNG" and data[24] != 8:
        # Pillow scales the samples to 8 bits, but not the colour that is transparent.
        raise RowError(
            "mask.unsupported",
            f"The mask {uri} cannot be used: it has a transparent colour of {data[24]} bits.",
        )
    return np.asarray(upright.convert("RGBA").getchannel("A"))


def _upright(picture: Image.Image) -> Image.Image:
    """The picture in the displayed frame; itself, not a copy, where that is the stored one."""
    return ImageOps.exif_transpose(picture) if _orientation(picture) != 1 else picture


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none, or none that makes sense."""
    orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    return int(orientation) if orientation in range(1, 9) else 1


@contextmanager
def _opened(
    data: bytes, max_megapixels: float, role: Role, uri: str, *, for_editing: bool = True
) -> Iterator[Image.Image]:
    """Open a picture, its size and kind checked, and turn Pillow's errors into ours."""
    if not data:
        raise RowError(f"{role}.zero_bytes", f"The {role} {uri} has no bytes.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; the size limit is our own, below
            with Image.open(io.BytesIO(data)) as picture:
                _check_size(picture, max_megapixels, role, uri)
                if for_editing:
                    _check_kind(picture, data, role, uri)
                if for_editing or picture.format in SUFFIXES:
                    picture.load()
                yield picture
    except UnidentifiedImageError:
        raise RowError(
            f"{role}.not_an_image", f"The {role} {uri} is not a picture; it begins {data[:8]!r}."
        ) from None
    except (OSError, SyntaxError, ValueError, struct.error, EOFError, IndexError) as error:
        kind = "truncated" if _is_truncation(error, data) else "corrupt"
        raise RowError(f"{role}.{kind}", f"The {role} {uri} cannot be read: {error}.") from None


def _check_size(picture: Image.Image, max_megapixels: float, role: Role, uri: str) -> None:
    width, height = picture.size
    if width * height > max_megapixels * 1e6:
        raise RowError(
            f"{role}.too_large",
            f"The {role} {uri} has {width}x{height} pixels, over {max_megapixels:g} megapixels.",
        )


def _is_truncation(error: Exception, data: bytes) -> bool:
    if data[:4] == b"RIFF":  # WebP says how long it is; its decoder only that it failed
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    text = str(error).lower()
    return isinstance(error, EOFError) or "truncated" in text or "unexpected end" in text


def _check_kind(picture: Image.Image, data: bytes, role: Role, uri: str) -> None:
    """Refuse, before anything of it is decoded, what cannot be read safely or stored again."""
    reason = None
    if role == "mask":
        if picture.format not in _MASK_FORMATS:
            reason = f"its format is {picture.format}"
    elif picture.format not in SUFFIXES:
        reason = f"its format is {picture.format}"
    elif picture.mode not in _MODES:
        reason = f"its samples are of the kind {picture.mode}"
    elif picture.format == "PNG" and data[24] == 16:
        reason = "its samples have 16 bits"
    elif picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        reason = "it is animated"
    if reason:
        raise RowError(f"{role}.unsupported", f"The {role} {uri} cannot be used: {reason}.")


def _is_label_map(picture: Image.Image) -> bool:
    """Whether a grey mask says 0 and 1 where 0 and 255 is meant."""
    return picture.mode == "L" and picture.format != "JPEG" and picture.getextrema() == (0, 1)


def _stretch(samples: npt.NDArray[np.generic]) -> Bytes:
    """Scale deep masks to 0..255 by the range their kind has: 1 bit, 8 bits, 16 bits, or unit."""
    values = samples.astype(np.float64)
    peak = float(values.max(initial=0.0))
    full = next((top for top in (1.0, 255.0, 65535.0) if peak <= top), peak)
    return np.rint(np.clip(values / full, 0.0, 1.0) * 255).astype(np.uint8)
