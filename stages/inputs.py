"""Pictures in memory as the files that the steps read: PNG, so that no sample changes."""

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
#: whole range of its type. A mask may also be ``(h, w)`` bool.
Picture = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]

#: Pillow's modes that a PNG holds as they are.
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")

#: They are decoded at once: small files gain nothing.
_COMPRESSION = 1


def in_memory(picture: Picture, role: Literal["image", "mask"]) -> bytes | None:
    """The file of a picture in memory; None for a path or URI.

    A Pillow picture is taken as it is displayed, its EXIF orientation applied, with its profile.

    Args:
        picture: the photo or mask.
        role: the first half of the errors' code.

    Raises:
        RowError: ``….unsupported``: no PNG holds it, so that samples would change; ``….corrupt``:
            the file of a Pillow picture is damaged.
        TypeError: it is nothing of :data:`Picture`.
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
    if picture.mode not in _MODES:
        raise _unsupported(role, f"a Pillow picture of mode {picture.mode}")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


def _file_of_array(array: npt.NDArray[Any], role: str) -> bytes:
    if array.dtype == np.bool_ and role == "mask":
        array = array * np.uint8(255)
    if array.shape[2:] == (1,):
        array = array[..., 0]
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (2, 3, 4))
    if not is_picture or not array.size or array.dtype not in (np.uint8, np.uint16):
        raise _unsupported(role, f"an array of shape {array.shape} and {array.dtype}")
    if array.dtype == np.uint8:  # as what Pillow makes of it: the same file, and so the same seeds
        return _file_of_pillow(Image.fromarray(array), role)
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(array), level=_COMPRESSION))


def _unsupported(role: str, what: str) -> RowError:
    return RowError(f"{role}.unsupported", f"The {role} is {what}, which is not taken in memory.")
