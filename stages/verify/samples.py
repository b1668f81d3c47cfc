"""Compare the pictures of two files outside of what may have changed.

Decoders are libraries' own (Pillow, tifffile, imagecodecs, pillow-heif, and jpeglib for
coefficients), called directly: no codec of this package is used.
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
from PIL import Image, ImageOps

from stages.verify.blocks import Parts

Samples = npt.NDArray[Any]
BoolMask = npt.NDArray[np.bool_]

#: Coding a photo again moves its samples by a few levels of 255 on average, and the mean of a tile
#: of 16 x 16 px by less than noise shows; more is another picture, there or all over.
MAX_LEVELS, MAX_TILE_LEVELS, _TILE_PX = 12.0, 24.0, 16


class UncheckableError(Exception):
    """There is nothing here to check the file with; the message says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded file.

    Attributes:
        pixels: ``(h, w, c)`` uint8 or uint16: grey, RGB or CMYK, and alpha where there is some.
        is_cmyk: whether the colours are inks.
        is_turned: whether the frame is the displayed one already, whatever the orientation.
    """

    pixels: Samples
    is_cmyk: bool = False
    is_turned: bool = False

    def as_rgb(self) -> npt.NDArray[np.uint8]:
        """``(h, w, 3)``, alpha laid on white, 16 bits reduced to 8, inks as Pillow shows them."""
        is_deep = self.pixels.dtype != np.uint8
        pixels = np.asarray(self.pixels >> 8 if is_deep else self.pixels, np.uint8)
        if self.is_cmyk:
            return np.asarray(Image.fromarray(pixels[..., :4], "CMYK").convert("RGB"))
        has_alpha = pixels.shape[2] in (2, 4)
        colours = pixels[..., :-1] if has_alpha else pixels
        colours = np.broadcast_to(colours, (*pixels.shape[:2], 3))
        if not has_alpha:
            return colours
        alpha = pixels[..., -1:].astype(np.uint16)
        return np.asarray((colours * alpha + 255 * (255 - alpha)) // 255, np.uint8)


def decode(data: bytes) -> Picture:
    """Decode a file.

    Raises:
        UncheckableError: no decoder for its format is installed.
        Exception: whatever its decoder raises at damage.
    """
    if data.startswith(b"\x89PNG") and data[data.find(b"IHDR") + 12] not in (1, 8):
        # which Pillow would make 8 bits
        return Picture(_with_channels(imagecodecs.png_decode(data)))
    if data[:2] in (b"II", b"MM"):
        return _decode_tiff(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata that are odd
        if data[4:8] == b"ftyp" and b"avif" not in data[8:64] and b"avis" not in data[8:64]:
            return _decode_heic(data)
        try:
            opened = Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP", "AVIF"])
        except OSError:
            raise UncheckableError("there is no checker for its format") from None
        with opened as picture:
            picture.load()
            is_avif = picture.format == "AVIF"
            upright = ImageOps.exif_transpose(picture) if is_avif else picture
            if picture.mode in ("1", "P", "PA") or "transparency" in picture.info:
                upright = upright.convert("RGBA")
            return Picture(_with_channels(np.asarray(upright)), picture.mode == "CMYK", is_avif)


def _with_channels(pixels: Samples) -> Samples:
    return np.asarray(pixels).reshape(*pixels.shape[:2], -1)


def _decode_heic(data: bytes) -> Picture:
    try:
        import pillow_heif
    except ImportError:
        raise UncheckableError("there is no pillow-heif to decode it") from None
    picture = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
    return Picture(_with_channels(np.asarray(picture)), is_turned=True)


def _decode_tiff(data: bytes) -> Picture:
    """The first page that is no smaller copy; grey where white is 0 is turned to its negative."""
    with tifffile.TiffFile(io.BytesIO(data)) as reader:
        page = next(page for page in map(_as_page, reader.pages) if not page.is_reduced)
        pixels = np.asarray(page.asarray())
        if page.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = _with_channels(pixels)
        if page.photometric == 0:
            pixels = np.iinfo(pixels.dtype).max - pixels
        return Picture(pixels, page.photometric == 5)


def _as_page(page: tifffile.TiffPage | tifffile.TiffFrame) -> tifffile.TiffPage:
    return page.aspage()


def is_same_outside(before: Picture, after: Picture, changed: BoolMask) -> bool:
    """Whether every sample outside of ``changed`` is the same.

    A file without alpha and one that is opaque there are the same, as are grey and equal RGB.
    """
    old, new = before.pixels, after.pixels
    if old.shape[2] != new.shape[2]:
        old, new = _as_rgba(old), _as_rgba(new)
    return old.dtype == new.dtype and bool(((old == new).all(axis=2) | changed).all())


def _as_rgba(pixels: Samples) -> Samples:
    top = np.full((*pixels.shape[:2], 1), np.iinfo(pixels.dtype).max, pixels.dtype)
    alpha = pixels[..., -1:] if pixels.shape[2] in (2, 4) else top
    colours = pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels
    return np.concatenate([np.broadcast_to(colours, (*top.shape[:2], 3)), alpha], axis=2)


def levels_apart(before: Picture, after: Picture, changed: BoolMask) -> tuple[float, float]:
    """How far two pictures are apart outside of ``changed``, as shown.

    Returns:
        The mean difference of samples, and the largest of the mean colours of a tile, both in
        levels of 255.
    """
    difference = after.as_rgb().astype(np.int16) - before.as_rgb()
    outside = ~changed
    if not outside.any():
        return 0.0, 0.0
    mean = float(np.abs(difference[outside]).mean())
    height, width = (each // _TILE_PX * _TILE_PX for each in changed.shape)
    shape = (height // _TILE_PX, _TILE_PX, width // _TILE_PX, _TILE_PX)
    tiles = difference[:height, :width].reshape(*shape, 3).mean(axis=(1, 3))
    kept = outside[:height, :width].reshape(shape).all(axis=(1, 3))
    return mean, float(np.abs(tiles[kept]).max(initial=0.0))


def check_coefficients(
    source: bytes, result: bytes, coding: tuple[Parts, Parts], changed: BoolMask
) -> tuple[int, str]:
    """Compare two JPEGs block by block, and the decoded samples away from touched blocks.

    A chroma block is shown smoothed over its neighbours' edges: that far samples may differ.

    Args:
        source: the original file.
        result: the new one.
        coding: of both.
        changed: ``(h, w)`` bool, stored frame.

    Returns:
        Blocks that the mask does not touch, and what is not the same; empty if all is.
    """
    for what, old, new in zip(
        ("kind", "sampling", "quantisation tables"), *map(_coding, coding), strict=True
    ):
        if old != new:
            return 0, f"JPEG {what} changed"
    frame = coding[0].coding["sampling"]
    most = [max(each[axis] for each in frame) for axis in (1, 2)]
    touched_px = np.zeros(changed.shape, np.bool_)
    kept = 0
    for component, before, after in zip(
        frame, _coefficients(source), _coefficients(result), strict=True
    ):
        across, down = most[0] // component[1], most[1] // component[2]
        hit = _blocks_hit(changed, before.shape[:2], 8 * across, 8 * down)
        if before.shape != after.shape or not np.array_equal(before[~hit], after[~hit]):
            return 0, "coefficients outside the mask changed"
        kept += int(np.count_nonzero(~hit))
        reach = hit.repeat(8 * down, axis=0).repeat(8 * across, axis=1)
        seen = np.asarray(reach[: changed.shape[0], : changed.shape[1]], np.uint8)
        edge = np.ones((2 * down + 1, 2 * across + 1), np.uint8)
        grown = cv2.dilate(seen, edge) if across * down > 1 else seen
        touched_px[: len(grown), : len(grown[0])] |= np.asarray(grown > 0)
    if not is_same_outside(decode(source), decode(result), touched_px):
        return kept, "samples outside the mask changed"
    return kept, ""


def _coding(parts: Parts) -> tuple[object, ...]:
    """Kind, sampling, and the quantisation table of each component, whatever its number."""
    frame = parts.coding["sampling"]
    tables = [parts.coding.get(f"table {number}") for *_, number in frame]
    return parts.coding["kind"], [each[:3] for each in frame], tables


def _blocks_hit(changed: BoolMask, shape: tuple[int, ...], width: int, height: int) -> BoolMask:
    """Which blocks of a component hold a changed pixel, each covering width x height px."""
    hit = np.zeros(shape, np.bool_)
    ys, xs = np.nonzero(changed)
    hit[ys // height, xs // width] = True
    return hit


def _coefficients(data: bytes) -> list[npt.NDArray[np.int16]]:
    """``(blocks down, blocks across, 8, 8)`` of each component.

    Raises:
        UncheckableError: jpeglib cannot read them.
    """
    try:
        import jpeglib
    except ImportError:  # there are no wheels for Linux on ARM
        raise UncheckableError("jpeglib is not installed, which reads coefficients") from None
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(data)
        file.flush()
        try:
            read = jpeglib.read_dct(file.name)
            planes = [getattr(read, name) for name in ("Y", "Cb", "Cr", "K")]
        except Exception as error:
            raise UncheckableError(f"its coefficients cannot be read: {error}") from error
    return [plane for plane in planes if plane is not None]
