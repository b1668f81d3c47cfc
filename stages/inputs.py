"""Encodes pictures in memory as PNG files, which the steps read; no sample changes."""

from __future__ import annotations

import io
import os
from typing import Any, Literal

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from manifests.errors import RowError
from stages.codecs.errors import DamagedError, library_errors

#: A photo or mask: a path or URI (``file://``, ``s3://``); a file's bytes; a Pillow picture; or an
#: array ``(h, w)`` or ``(h, w, c)`` uint8 or uint16, grey or RGB with or without alpha, over the
#: full range of its type. A mask may also be ``(h, w)`` bool.
ImageLike = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]

#: Pillow's modes that PNG stores without conversion.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")

#: zlib level 1, fast: the files are decoded again immediately, so their size hardly matters.
_COMPRESSION_LEVEL = 1


def encode_in_memory(picture: ImageLike, role: Literal["image", "mask"]) -> bytes | None:
    """Return the encoded file of a picture in memory; None for a path or URI.

    A Pillow picture is used as displayed, with its EXIF orientation applied, and keeps its profile.

    Args:
        picture: the photo or mask.
        role: the first half of the errors' codes.

    Raises:
        RowError: ``….unsupported``: PNG cannot store it without changing samples; ``….corrupt``:
            the file of a Pillow picture is damaged.
        TypeError: the picture is none of the types in :data:`ImageLike`.
    """
    if isinstance(picture, str | os.PathLike):
        return None
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, np.ndarray):
        return _file_of_array(picture, role)
    if isinstance(picture, Image.Image):
        try:
            with library_errors():
                return _file_of_pillow(ImageOps.exif_transpose(picture), role)
        except DamagedError as error:
            raise RowError(f"{role}.corrupt", f"The {role} cannot be read: {error}.") from error
    raise TypeError(
        f"the {role} is a {type(picture).__name__}; it must be a path or URI, the bytes of a file, "
        "a Pillow picture or a NumPy array"
    )


def _file_of_pillow(picture: Image.Image, role: str) -> bytes:
    if picture.mode not in _PNG_MODES:
        raise _unsupported(role, f"a Pillow picture of mode {picture.mode}")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=_COMPRESSION_LEVEL)
    return buffer.getvalue()


def _file_of_array(array: npt.NDArray[Any], role: str) -> bytes:
    if array.dtype == np.bool_ and role == "mask":
        array = array * np.uint8(255)
    if array.shape[2:] == (1,):
        array = array[..., 0]
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (2, 3, 4))
    if not is_picture or not array.size or array.dtype not in (np.uint8, np.uint16):
        raise _unsupported(role, f"an array of shape {array.shape} and {array.dtype}")
    if array.dtype == np.uint8:  # encode as Pillow does: the same file gives the same seeds
        return _file_of_pillow(Image.fromarray(array), role)
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(array), level=_COMPRESSION_LEVEL))


def _unsupported(role: str, kind: str) -> RowError:
    return RowError(
        f"{role}.unsupported", f"The {role} is {kind}, which is not supported in memory."
    )
