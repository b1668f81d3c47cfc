"""Reading and writing through Pillow, shared by several codecs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from stages.arrays import Samples
from stages.codecs import orientation
from stages.codecs.base import Metadata
from stages.codecs.errors import UnsupportedError
from stages.codecs.picture import Decoded, as_pillow, to_displayed
from stages.codecs.png.chunks import bit_depth
from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp
from stages.pixels.samples import ColourModel, ColourSpace

#: Modes that can be edited without loss, and the modes they are edited in. Palettes are expanded to
#: colours, and a transparent colour to alpha, so that a fill of that colour stays visible.
_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "CMYK": "CMYK",
}
#: How notes name modes that are expanded.
_EXPANDED = {"1": "1 bit", "P": "palette", "PA": "palette with alpha"}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
_MODELS: dict[str, ColourModel] = {"L": "grey", "LA": "grey", "RGB": "rgb", "RGBA": "rgb"}

_EXIF_NAME = b"Exif\0\0"

#: The key under which ``open_image`` stores the orientation in a picture's ``info``.
_DISPLAYED = "displayed_orientation"


@contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """Open a picture without Pillow's warnings (odd metadata, size).

    Its orientation is that of :mod:`stages.codecs.orientation`, not Pillow's, which follows XMP.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as picture:
            if picture.format == "TIFF":  # Pillow rotates it on load, by XMP if there is no tag
                picture.info.pop("xmp", None)
            picture.info[_DISPLAYED] = _displayed(picture, data)
            yield picture


def size(data: bytes) -> tuple[int, int]:
    """Width and height in the stored frame, px."""
    with open_image(data) as picture:
        return picture.size


def decode(data: bytes) -> Decoded:
    """Decode a picture of 8 bits a sample.

    Raises:
        UnsupportedError: it is animated, or has other samples.
    """
    with open_image(data) as picture:
        if picture.mode not in _MODES:
            raise UnsupportedError(f"its pixel format is {picture.mode}")
        if picture.format not in ("MPO", "HEIF") and getattr(picture, "n_frames", 1) > 1:
            raise UnsupportedError("it is animated")
        picture.load()
        scale_key(picture, data)
        mode = _MODES[picture.mode]
        if "transparency" in picture.info:
            mode = _WITH_ALPHA[mode]
        same_mode = picture if picture.mode == mode else picture.convert(mode)
        stored = np.asarray(same_mode)
        turn = orientation_of(picture)
        own = _EXPANDED.get(picture.mode, picture.mode)
        return Decoded(
            to_displayed(stored.reshape(*stored.shape[:2], -1), turn),
            turn,
            ColourSpace(_MODELS.get(mode, "cmyk"), picture.info.get("icc_profile") or b""),
            "" if picture.mode == mode else f"{own} expanded to {mode}",
        )


def scale_key(picture: Image.Image, data: bytes) -> None:
    """Scale the transparent colour of a grey PNG of 2 or 4 bits, as Pillow scales its samples."""
    key = picture.info.get("transparency")
    if picture.format != "PNG" or picture.mode != "L" or not isinstance(key, int):
        return
    if (bits := bit_depth(data)) < 8:
        picture.info["transparency"] = key * 255 // ((1 << bits) - 1)


def orientation_of(picture: Image.Image) -> int:
    """The displayed orientation, 1 to 8, of a picture opened by :func:`open_image`."""
    return int(picture.info.get(_DISPLAYED, 1))


def _displayed(picture: Image.Image, data: bytes) -> int:
    if picture.format == "AVIF":  # Pillow returns irot and imir as EXIF orientation
        exif = picture.info.get("exif", b"")
        return orientation.exif_orientation(exif.removeprefix(_EXIF_NAME)) or 1
    return orientation.display_orientation(data)


def metadata(data: bytes) -> Metadata:
    """Read the metadata that Pillow finds."""
    with open_image(data) as picture:
        info = picture.info
        xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
        return Metadata(
            exif=info.get("exif") or b"",
            xmp=xmp.encode() if isinstance(xmp, str) else bytes(xmp),
            dpi=info.get("dpi"),
            further_pictures=int(getattr(picture, "n_frames", 1)) - 1,
        )


def refreshed(info: Mapping[Any, Any], policy: StaleDataPolicy) -> dict[str, bytes]:
    """Refresh the metadata of a picture that is written again, from Pillow's ``info``.

    Returns:
        ICC profile, EXIF and XMP as Pillow's save arguments, those that are not empty.

    Raises:
        RowError: ``image.stale_preview``, if the policy is to refuse.
    """
    icc, exif, xmp = (info.get(key) or b"" for key in ("icc_profile", "exif", "xmp"))
    blocks = {
        "icc_profile": icc,
        "exif": refresh_exif(exif, policy),
        "xmp": refresh_xmp(xmp, policy),
    }
    return {name: block for name, block in blocks.items() if block}


def write_lossy(
    format_: str, pixels: Samples, space: ColourSpace, metadata: Metadata, quality: int
) -> tuple[bytes, list[str]]:
    """Write a file of 8 bits a sample; ``format_`` is Pillow's name. The notes are empty."""
    options = writing_options(metadata, space)
    picture = as_pillow(pixels, space.model)
    return save_image(picture, format=format_, quality=quality, **options), []


def writing_options(metadata: Metadata, space: ColourSpace) -> dict[str, Any]:
    """Pillow's save arguments for the metadata that is present."""
    blocks = {"exif": metadata.exif, "xmp": metadata.xmp, "icc_profile": space.icc}
    options: dict[str, Any] = {name: value for name, value in blocks.items() if value}
    return options | ({"dpi": metadata.dpi} if metadata.dpi else {})


def save_image(picture: Image.Image, **options: Any) -> bytes:
    """Encode a picture; the bytes are the same on every machine."""
    if options.get("format") == "AVIF":
        options["max_threads"] = (
            1  # the default depends on the number of cores, which changes the tiles
        )
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()
