"""Open a photo or a mask, and refuse what cannot be edited without loss.

Pixels are handed on in the *displayed* frame: the EXIF orientation is applied, for photo and mask
alike, so the two meet as a person saw them when drawing the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from manifests.errors import RowError
from stages.codecs import pillow_io, webp
from stages.codecs.bounds import refuse_endless
from stages.codecs.errors import DamagedError, RefusedError, library_errors
from stages.codecs.formats import CODECS, format_of
from stages.codecs.jpeg_header import read_header
from stages.codecs.orientation import ignored
from stages.codecs.picture import Decoded, UnsupportedError
from stages.codecs.pillow_io import opened, upright_of
from stages.masks import Bytes
from stages.options import MaskOptions

#: Which file a message is about; also the first half of its error code.
Role = Literal["image", "mask"]

#: Formats a mask may have.
_MASK_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF", "AVIF")


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
    with _explained(data, "image", uri):
        _check_head(data, max_megapixels, "image", uri)
        name = format_of(data)
        if name is None:
            raise UnsupportedError(f"its format is {_other_format(data)}")
        codec = CODECS[name]
        _check_size(*codec.size(data), max_megapixels, "image", uri)
        decoded = codec.decode(data)
        notes = [decoded.note, *ignored(data, decoded.orientation)]
        return replace(decoded, note="; ".join(filter(None, notes)))


def check_photo(data: bytes, max_megapixels: float, uri: str) -> tuple[int, int]:
    """Width and height, as displayed, of a photo that is to be passed on as it is.

    Kinds that cannot be edited are accepted here, and measured as stored; damage, where we can see
    it, is not.

    Raises:
        RowError: as :func:`decode_photo`, but never ``image.unsupported``.
    """
    with _explained(data, "image", uri):
        _check_head(data, max_megapixels, "image", uri)
        name = format_of(data)
        if name is None:
            size = pillow_io.size(data)
            _check_size(*size, max_megapixels, "image", uri)
            return size
        try:
            size = CODECS[name].size(data)
        except UnsupportedError:  # nothing of it is edited
            size = pillow_io.size(data)
        _check_size(*size, max_megapixels, "image", uri)
        with suppress(UnsupportedError):
            decoded = CODECS[name].decode(data)
            size = decoded.width, decoded.height
        return size


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
    with _explained(data, "mask", uri):
        _check_head(data, max_megapixels, "mask", uri)
        return _read_mask(data, max_megapixels, uri, options)


def _read_mask(data: bytes, max_megapixels: float, uri: str, options: MaskOptions) -> Bytes:
    with opened(data) as picture:
        _check_size(*picture.size, max_megapixels, "mask", uri)
        if picture.format not in _MASK_FORMATS:
            raise UnsupportedError(f"its format is {picture.format}")
        picture.load()
        if options.channel == "alpha":
            return _alpha(picture, data, uri)
        deep = picture.mode.startswith("I") or picture.mode == "F" or _is_label_map(picture)
        upright = upright_of(picture)
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
    upright = upright_of(picture)
    if picture.mode.startswith("I"):
        return np.where(np.asarray(upright) == key, 0, 255).astype(np.uint8)
    if picture.mode in ("L", "RGB") and picture.format == "PNG" and data[24] != 8:
        # Pillow scales the samples to 8 bits, but not the colour that is transparent.
        raise RowError(
            "mask.unsupported",
            f"The mask {uri} cannot be used: it has a transparent colour of {data[24]} bits.",
        )
    return np.asarray(upright.convert("RGBA").getchannel("A"))


@contextmanager
def _explained(data: bytes, role: Role, uri: str) -> Iterator[None]:
    """Turn the errors of whatever reads a file into ours."""
    if not data:
        raise RowError(f"{role}.zero_bytes", f"The {role} {uri} has no bytes.")
    try:
        with library_errors():
            yield
    except UnsupportedError as error:
        raise RowError(
            f"{role}.unsupported", f"The {role} {uri} cannot be used: {error}."
        ) from None
    except DamagedError as error:
        raise _damaged(error, data, role, uri) from None


def _damaged(error: DamagedError, data: bytes, role: Role, uri: str) -> RowError:
    """What to say of a file that cannot be read."""
    # Pillow takes half an AVIF for no picture at all.
    if isinstance(error.__cause__, UnidentifiedImageError) and format_of(data) != "avif":
        return _unidentified(data, role, uri)
    is_cut = isinstance(error.__cause__, UnidentifiedImageError) or _is_truncation(error, data)
    kind = "truncated" if is_cut else "corrupt"
    return RowError(f"{role}.{kind}", f"The {role} {uri} cannot be read: {error}.")


def _unidentified(data: bytes, role: Role, uri: str) -> RowError:
    """What to say of a file that no reader takes for its own."""
    if format_of(data) is None:
        told = f"The {role} {uri} is not a picture; it begins {data[:8]!r}."
        return RowError(f"{role}.not_an_image", told)
    try:
        if format_of(data) == "jpeg":
            read_header(data)
    except RefusedError as error:
        return RowError(f"{role}.unsupported", f"The {role} {uri} cannot be used: {error}.")
    except DamagedError:
        pass
    return RowError(f"{role}.corrupt", f"The {role} {uri} cannot be read: its head is damaged.")


def _check_head(data: bytes, max_megapixels: float, role: Role, uri: str) -> None:
    """Refuse what costs time or memory before its size is known; raises UnsupportedError, too."""
    refuse_endless(data)
    if canvas := webp.canvas(data):  # its reader allocates that at once
        _check_size(*canvas, max_megapixels, role, uri)


def _other_format(data: bytes) -> str:
    """The format of a picture that is none of ours; raises UnidentifiedImageError if it is none."""
    with opened(data) as picture:
        return picture.format or "unknown"


def _check_size(width: int, height: int, max_megapixels: float, role: Role, uri: str) -> None:
    if not width or not height:
        raise RowError(f"{role}.corrupt", f"The {role} {uri} has {width}x{height} pixels.")
    if width * height > max_megapixels * 1e6:
        raise RowError(
            f"{role}.too_large",
            f"The {role} {uri} has {width}x{height} pixels, over {max_megapixels:g} megapixels.",
        )


def _is_truncation(error: DamagedError, data: bytes) -> bool:
    if data[:4] == b"RIFF":  # WebP says how long it is; its decoder only that it failed
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    text = str(error).lower()
    ends = ("truncated", "unexpected end", "too small", "end-of-file", "premature")
    return isinstance(error.__cause__, EOFError) or any(word in text for word in ends)


def _is_label_map(picture: Image.Image) -> bool:
    """Whether a grey mask says 0 and 1 where 0 and 255 is meant."""
    return picture.mode == "L" and picture.format != "JPEG" and picture.getextrema() == (0, 1)


def _stretch(samples: npt.NDArray[np.generic]) -> Bytes:
    """Scale deep masks to 0..255 by the range their kind has: 1 bit, 8 bits, 16 bits, or unit."""
    values = samples.astype(np.float64)
    peak = float(values.max(initial=0.0))
    full = next((top for top in (1.0, 255.0, 65535.0) if peak <= top), peak)
    return np.rint(np.clip(values / full, 0.0, 1.0) * 255).astype(np.uint8)
