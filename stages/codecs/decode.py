"""Decode photos and masks, and reject photos that cannot be edited without loss.

Pixels are returned in the *displayed* frame: the EXIF orientation is applied to photo and mask
alike, so that they align as they did when the mask was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from PIL import UnidentifiedImageError

from manifests.errors import RowError
from stages.codecs import mask_file, pillow_io
from stages.codecs.errors import DamagedError, UnsupportedError, library_errors
from stages.codecs.formats import detect_codec
from stages.codecs.picture import Decoded
from stages.codecs.pillow_io import open_image
from stages.libraries import configure_libraries
from stages.pixels.masks import Levels
from stages.recipe.options import MaskOptions

#: The kind of file that an error is about; also the first half of its error code.
Role = Literal["image", "mask"]

_DEFAULTS = MaskOptions()


def decode_photo(data: bytes, max_megapixels: float, uri: str) -> Decoded:
    """Decode a photo.

    Args:
        data: the file.
        max_megapixels: maximum size; larger files are rejected before any pixel is decoded.
        uri: the name of the file in errors.

    Raises:
        RowError: ``image.zero_bytes``, ``image.not_an_image``, ``image.unsupported``,
            ``image.too_large``, ``image.truncated`` or ``image.corrupt``.
    """
    with _explained(data, "image", uri):
        _check_head(data, max_megapixels, "image", uri)
        codec = detect_codec(data)
        if codec is None:
            raise UnsupportedError(f"its format is {_other_format(data)}")
        _check_size(*codec.size(data), max_megapixels, "image", uri)
        return codec.decode(data)


def check_photo(data: bytes, max_megapixels: float, uri: str) -> tuple[int, int]:
    """Return the displayed width and height of a photo that is passed through unchanged.

    Kinds that cannot be edited are accepted, and measured in the stored frame. Files with damage
    that can be detected are rejected.

    Raises:
        RowError: as :func:`decode_photo`, but never ``image.unsupported``.
    """
    try:
        decoded = decode_photo(data, max_megapixels, uri)
    except RowError as error:
        if error.code != "image.unsupported":
            raise
    else:
        return decoded.width, decoded.height
    with _explained(data, "image", uri):
        _check_head(data, max_megapixels, "image", uri)
        size = pillow_io.size(data)
        _check_size(*size, max_megapixels, "image", uri)
        return size


def decode_mask(
    data: bytes, max_megapixels: float, uri: str, options: MaskOptions = _DEFAULTS
) -> Levels:
    """Decode a mask to levels: its alpha, or its luminance; see :func:`mask_file.read_levels`.

    Args:
        data: the file; only the first picture of an animation or multi-page file is used.
        max_megapixels: maximum size; larger files are rejected before any pixel is decoded.
        uri: the name of the file in errors.
        options: the channel that marks, its polarity, and the meaning of values.

    Raises:
        RowError: ``mask.zero_bytes``, ``mask.not_an_image``, ``mask.unsupported``,
            ``mask.too_large``, ``mask.truncated``, ``mask.corrupt``, ``mask.no_alpha``,
            ``mask.ambiguous`` or ``mask.too_faint``.
    """
    with _explained(data, "mask", uri):
        _check_head(data, max_megapixels, "mask", uri)
        with open_image(data) as picture:
            _check_size(*picture.size, max_megapixels, "mask", uri)
            if picture.format not in mask_file.FORMATS:
                raise UnsupportedError(f"its format is {picture.format}")
            picture.load()
            return mask_file.read_levels(picture, data, options, uri)


@contextmanager
def _explained(data: bytes, role: Role, uri: str) -> Iterator[None]:
    """Translate errors raised while a file is read into RowErrors."""
    configure_libraries()
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
    """Return the error to report for a file that cannot be read."""
    codec, reason = detect_codec(data), error
    is_truncated = (
        codec.is_truncated(data) if codec and codec.is_truncated else _is_truncation(error)
    )
    if isinstance(error.__cause__, UnidentifiedImageError):
        if codec is None:
            begin = f"it begins {data[:8]!r}"
            return RowError(f"{role}.not_an_image", f"The {role} {uri} is not a picture; {begin}.")
        is_truncated, reason = False, DamagedError("its header is damaged")
        try:
            codec.diagnose(data)
        except UnsupportedError as kind:
            return RowError(f"{role}.unsupported", f"The {role} {uri} cannot be used: {kind}.")
        except DamagedError as damage:
            is_truncated = _is_truncation(damage)
    code = "truncated" if is_truncated else "corrupt"
    return RowError(f"{role}.{code}", f"The {role} {uri} cannot be read: {reason}.")


def _check_head(data: bytes, max_megapixels: float, role: Role, uri: str) -> None:
    """Reject files that would cost too much time or memory before their size is known.

    Raises:
        UnsupportedError: the file has too many parts.
        RowError: the size in its header is too large.
    """
    codec = detect_codec(data)
    if codec is None:
        return
    with suppress(DamagedError):
        for _ in codec.walk(data):
            pass
    if size := codec.declared_size(data):
        _check_size(*size, max_megapixels, role, uri)


def _other_format(data: bytes) -> str:
    """Name a format without a codec; raises UnidentifiedImageError for a file that is no image."""
    with open_image(data) as picture:
        return picture.format or "unknown"


def _check_size(width: int, height: int, max_megapixels: float, role: Role, uri: str) -> None:
    if not width or not height:
        raise RowError(f"{role}.corrupt", f"The {role} {uri} has {width}x{height} pixels.")
    if width * height > max_megapixels * 1e6:
        raise RowError(
            f"{role}.too_large",
            f"The {role} {uri} has {width}x{height} pixels, over {max_megapixels:g} megapixels.",
        )


def _is_truncation(error: DamagedError) -> bool:
    text = str(error).lower()
    ends = ("truncated", "unexpected end", "too small", "end-of-file", "premature")
    return isinstance(error.__cause__, EOFError) or any(word in text for word in ends)
