"""Pictures inside of a file's metadata, and whether they still show what was removed."""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from collections.abc import Iterator

import numpy as np
import tifffile
from PIL import Image

from stages.verify.blocks import Parts
from stages.verify.containers import JPEG_START, jpeg_segments, list_parts
from stages.verify.samples import Picture
from stages.verify.tiff import Value

#: A preview counts as old if the picture changed there by more levels than this.
_VISIBLE = 8

_VIDEO = re.compile(rb"\0\0\0[\x08-\xff]ftyp[ -~]{4}")


def embedded_pictures(data: bytes, parts: Parts) -> Iterator[tuple[str, Image.Image | None]]:
    """Name and picture of each preview; None for what vouches for the old picture otherwise.

    That are videos and C2PA manifests. JPEGs are found wherever they lie in the metadata.
    """
    for name, width, height, samples in parts.raw:
        if width * height and len(samples) == 3 * width * height:
            yield name, Image.frombytes("RGB", (width, height), samples)
    for name, value in parts.values.items():
        if name.startswith("C2PA"):
            yield name, None
            continue
        raw = _decoded_text(value) if isinstance(value, str) else value
        if isinstance(raw, bytes):
            if _VIDEO.search(raw):
                yield name, None
            for start, end, picture in _jpegs(raw):
                yield name, picture
                inner = raw[start:end]
                if JPEG_START in inner[3:]:
                    yield from embedded_pictures(inner, list_parts(inner))
    if data[:2] in (b"II", b"MM"):
        yield from (("smaller copy", picture) for picture in _smaller_copies(data))


def without_pictures(value: Value | str) -> Value | str:
    """A value without the JPEGs in it, and without the zeros that may have taken their place."""
    if isinstance(value, str):
        return "" if _decoded_text(value).startswith(JPEG_START) else value
    if not isinstance(value, bytes):
        return value
    left, position = [], 0
    while (start := value.find(JPEG_START, position)) >= 0:
        segments, end = jpeg_segments(value, start)
        end = end or (len(value) if segments else start + 1)
        left.append(value[position:start])
        position = end
    return b"".join([*left, value[position:]]).replace(b"\0", b"")


def _decoded_text(text: str) -> bytes:
    """A JPEG that XMP keeps as base64; empty if the text is something else."""
    packed = "".join(text.split())
    if not packed.startswith("/9j/"):
        return b""
    try:
        return base64.b64decode(packed)
    except (binascii.Error, ValueError):
        return b""


def _jpegs(data: bytes) -> Iterator[tuple[int, int, Image.Image]]:
    """Start, end and picture of each JPEG in some bytes that can be decoded."""
    position = 0
    while (start := data.find(JPEG_START, position)) >= 0:
        position = start + 3
        end = jpeg_segments(data, start)[1] or len(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                picture = Image.open(io.BytesIO(data[start:end]), formats=["JPEG"])
                picture.load()
            except Exception:  # noqa: S112 - bytes that only look like a picture
                continue
        yield start, end, picture
        position = end


def _smaller_copies(data: bytes) -> Iterator[Image.Image]:
    """Of a TIFF's pages, and of those below them, the smaller copies that can be decoded."""
    with tifffile.TiffFile(io.BytesIO(data)) as reader:
        pages = [page.aspage() for page in reader.pages]
        below = [each.aspage() for page in pages for each in page.pages or ()]
        for page in pages + below:
            if page.is_reduced or page not in pages:
                try:
                    samples = np.asarray(page.asarray())
                except Exception:  # noqa: S112 - of a kind that nobody can look at
                    continue
                grey = samples if samples.ndim == 2 else samples.mean(axis=2)
                top = np.iinfo(samples.dtype).max
                yield Image.fromarray((grey * (255.0 / top)).astype(np.uint8))


def is_stale(picture: Image.Image | None, before: Picture, after: Picture) -> bool:
    """Whether a preview shows the picture before rather than after; stored frame."""
    if picture is None:
        return True  # a signature, a video: never right after an edit
    shown = picture.convert("L")
    old, new = (_small(each, shown.size) for each in (before, after))
    moved = np.abs(old - new) > _VISIBLE
    if not moved.any():
        return False
    small = np.asarray(shown, np.float32)
    return bool(np.abs(small - old)[moved].mean() < np.abs(small - new)[moved].mean())


def _small(picture: Picture, size: tuple[int, int]) -> np.ndarray:
    whole = Image.fromarray(picture.as_rgb()).convert("L")
    return np.asarray(whole.resize(size, Image.Resampling.BOX), np.float32)
