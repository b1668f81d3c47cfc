"""Compare the pictures of two files outside the pixels that may have changed.

Pillow, tifffile, imagecodecs, and jpeglib for coefficients are called directly; the package's
codecs are not used. Each check returns a phrase for what is identical, and one for the
problem, which is empty if there is none.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from dataclasses import dataclass
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageCms, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from stages.verify.containers import JPEG_START

Samples = npt.NDArray[Any]
BoolMask = npt.NDArray[np.bool_]

#: Maximum mean differences after lossy encoding, in levels of 255: of the picture, and of a tile of
#: 16 x 16 px. Larger differences mean another picture.
_MAX_LEVELS, _MAX_TILE_LEVELS, _TILE_PX = 12.0, 24.0, 16


#: Kinds of alpha, as in TIFF's ExtraSamples.
_PREMULTIPLIED, _ALPHA = 1, 2

_ICC_TAG = 34675


class UncheckableError(Exception):
    """The file cannot be checked; the message says why."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded file.

    Attributes:
        pixels: ``(h, w, c)`` uint8 or uint16: RGB and alpha, or CMYK and further channels. Grey is
            expanded to RGB, and missing alpha is opaque.
        is_cmyk: whether the colours are CMYK.
        is_turned: whether the decoder has already rotated it to the displayed frame.
        alpha: what follows the colours, as in TIFF: premultiplied (1), alpha (2), or no alpha (0).
        grey_icc: the profile of a grey picture.
    """

    pixels: Samples
    is_cmyk: bool = False
    is_turned: bool = False
    alpha: int = _ALPHA
    grey_icc: bytes = b""

    def as_rgb(self) -> npt.NDArray[np.uint8]:
        """``(h, w, 3)``, composited on white, reduced to 8 bits, CMYK as Pillow converts it."""
        is_deep = self.pixels.dtype != np.uint8
        pixels = np.asarray(self.pixels >> 8 if is_deep else self.pixels, np.uint8)
        colours, alpha = np.split(pixels[..., :5], [4 if self.is_cmyk else 3], axis=2)
        alpha = alpha[..., :1].astype(np.uint16)
        if self.alpha == _PREMULTIPLIED:
            colours = np.minimum(colours * np.uint16(255) // np.maximum(alpha, 1), 255)
        if self.grey_icc:
            colours = _shown(np.asarray(colours[..., 0], np.uint8), self.grey_icc)
        if self.alpha and alpha.size:
            white = 0 if self.is_cmyk else 255
            colours = (colours * alpha + white * (255 - alpha)) // 255
        colours = np.ascontiguousarray(colours, np.uint8)
        if self.is_cmyk:
            return np.asarray(Image.fromarray(colours, "CMYK").convert("RGB"))
        return colours


def decode(data: bytes) -> Decoded:
    """Decode a file.

    Raises:
        UncheckableError: no decoder for its format is installed.
        Exception: the decoder's exception for a damaged file.
    """
    if data.startswith(b"\x89PNG") and data[data.find(b"IHDR") + 12] not in (1, 8):
        # Pillow would reduce it to 8 bits
        samples = imagecodecs.png_decode(data)
        with Image.open(io.BytesIO(data)) as picture:
            icc = _grey_icc(picture.info.get("icc_profile"), is_grey=samples[:1, :1].size < 3)
        return Decoded(_as_rgba(samples), grey_icc=icc)
    if data[:2] in (b"II", b"MM"):
        return _decode_tiff(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata
        try:
            picture = Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
        except (OSError, KeyError):  # KeyError: Pillow's plugin for HEIC is not installed
            raise UncheckableError("there is no checker for its format") from None
        is_turned, is_cmyk = picture.format in ("AVIF", "HEIF"), picture.mode == "CMYK"
        icc = _grey_icc(picture.info.get("icc_profile"), is_grey=picture.mode in ("1", "L", "LA"))
        upright = ImageOps.exif_transpose(picture) if is_turned else picture
        if picture.mode in ("1", "P", "PA") or "transparency" in picture.info:
            upright = upright.convert("RGBA")
        return Decoded(_as_rgba(np.asarray(upright)), is_cmyk, is_turned, grey_icc=icc)


def _grey_icc(profile: object, *, is_grey: bool) -> bytes:
    """The profile of a grey picture, if it is one of grey: viewers ignore others."""
    if is_grey and isinstance(profile, bytes) and profile[16:20] == b"GRAY":
        return profile
    return b""


def _shown(grey: npt.NDArray[np.uint8], icc: bytes) -> npt.NDArray[np.uint8]:
    """``(h, w)`` to ``(h, w, 3)`` sRGB by its profile; viewers ignore damaged ones."""
    picture, intent = Image.fromarray(grey), ImageCms.Intent.RELATIVE_COLORIMETRIC
    profiles = io.BytesIO(icc), ImageCms.createProfile("sRGB")
    try:
        return np.asarray(ImageCms.profileToProfile(picture, *profiles, intent, "RGB"))
    except ImageCms.PyCMSError:
        return np.asarray(picture.convert("RGB"))


def _as_rgba(pixels: Samples) -> Samples:
    """``(h, w)`` or ``(h, w, c)`` to ``(h, w, 4)``; more channels are unchanged."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] > 3:
        return pixels
    colours, alpha = np.split(pixels, [3 if pixels.shape[2] == 3 else 1], axis=2)
    if not alpha.shape[2]:
        alpha = np.full_like(colours[..., :1], np.iinfo(pixels.dtype).max)
    return np.concatenate([np.broadcast_to(colours, (*pixels.shape[:2], 3)), alpha], axis=2)


def _decode_tiff(data: bytes) -> Decoded:
    """Decode the first page that is no smaller copy."""
    with tifffile.TiffFile(io.BytesIO(data)) as reader:
        page = next(
            page for page in (each.aspage() for each in reader.pages) if not page.is_reduced
        )
        pixels = np.asarray(page.asarray())
        if page.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
        profile = page.tags.valueof(_ICC_TAG)
        return Decoded(
            _as_rgba(pixels),
            page.photometric == 5,
            alpha=int(page.extrasamples[0]) if page.extrasamples else 0,
            grey_icc=_grey_icc(profile, is_grey=page.photometric == 1),
        )


def check_samples(before: Decoded, after: Decoded, changed: BoolMask) -> tuple[str, str]:
    """Whether every sample outside of ``changed`` is the same."""
    old, new = before.pixels, after.pixels
    is_alike = (old.shape, old.dtype) == (new.shape, new.dtype)
    if is_alike and bool(((old == new).all(axis=2) | changed).all()):
        return "all samples identical", ""
    return "", "samples outside the mask changed"


def check_reencoded(before: Decoded, after: Decoded, changed: BoolMask) -> tuple[str, str]:
    """Whether it is the same picture outside of ``changed``, except for compression loss.

    Raises:
        UncheckableError: the two have colours of different kinds.
    """
    if before.is_cmyk != after.is_cmyk:
        raise UncheckableError("CMYK was converted by a profile")
    difference = after.as_rgb().astype(np.int16) - before.as_rgb()
    outside = ~changed
    height, width = (each // _TILE_PX * _TILE_PX for each in changed.shape)
    shape = (height // _TILE_PX, _TILE_PX, width // _TILE_PX, _TILE_PX)
    tiles = difference[:height, :width].reshape(*shape, 3).mean(axis=(1, 3))
    kept = outside[:height, :width].reshape(shape).all(axis=(1, 3))
    tile = float(np.abs(tiles[kept]).max(initial=0.0))
    mean = float(np.abs(difference[outside]).mean()) if outside.any() else 0.0
    is_other = mean > _MAX_LEVELS or tile > _MAX_TILE_LEVELS
    words = f"re-encoded: mean difference {mean:.2f} of 255 levels"
    return words, "another picture outside the mask" if is_other else ""


def check_coefficients(
    source: bytes, result: bytes, pictures: tuple[Decoded, Decoded], changed: BoolMask
) -> tuple[str, str]:
    """Compare two JPEGs block by block, and the decoded samples away from touched blocks.

    Decoders smooth chroma across block edges: that far, samples may differ.

    Args:
        source: the original file.
        result: the new one.
        pictures: both files, decoded.
        changed: ``(h, w)`` bool, stored frame.
    """
    if result[:3] != JPEG_START:
        return "", "it is not a JPEG"
    old, new = _read_jpeg(source), _read_jpeg(result)
    for what in ("kind", "sampling", "quantisation tables"):
        if old[what] != new[what]:
            return "", f"JPEG {what} changed"
    sampling = np.array(old["sampling"])[:, 1:]
    steps = (sampling.max(axis=0) // sampling).tolist()
    (height, width), (ys, xs), kept = changed.shape, np.nonzero(changed), 0
    touched = np.zeros(changed.shape, np.bool_)
    for (across, down), before, after in zip(steps, old["planes"], new["planes"], strict=True):
        hit = np.zeros(before.shape[:2], np.bool_)
        hit[ys // (8 * down), xs // (8 * across)] = True
        if before.shape != after.shape or not np.array_equal(before[~hit], after[~hit]):
            return "", "coefficients outside the mask changed"
        kept += int(np.count_nonzero(~hit))
        shown = hit.repeat(8 * down, axis=0).repeat(8 * across, axis=1)[:height, :width]
        smoothed = np.ones((4 * down - 3, 4 * across - 3), np.uint8)
        touched |= np.asarray(cv2.dilate(shown.astype(np.uint8), smoothed) > 0)
    _, problem = check_samples(*pictures, touched)
    return f"coefficients of {kept:,} blocks identical", problem


def _read_jpeg(data: bytes) -> dict[str, Any]:
    """Read encoding parameters, and ``(rows, columns, 8, 8)`` coefficients of each component.

    Raises:
        UncheckableError: jpeglib cannot read them.
    """
    try:
        import jpeglib
    except ImportError:  # there are no wheels for Linux on ARM
        raise UncheckableError("jpeglib is not installed, which reads coefficients") from None
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file, Image.open(io.BytesIO(data)) as header:
        assert isinstance(header, JpegImageFile)
        file.write(data)
        file.flush()
        try:
            read = jpeglib.read_dct(file.name)
            planes = [getattr(read, name) for name in ("Y", "Cb", "Cr", "K")]
        except Exception as error:
            raise UncheckableError(f"its coefficients cannot be read: {error}") from error
        return {
            "kind": (bool(header.info.get("progressive")), header.bits, header.size),
            "sampling": [layer[:3] for layer in header.layer],
            "quantisation tables": [header.quantization[number] for *_, number in header.layer],
            "planes": [plane for plane in planes if plane is not None],
        }
