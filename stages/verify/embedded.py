"""Find pictures in a file's metadata, and check whether they still show the old picture."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from PIL import Image

from stages.verify.blocks import Metadata
from stages.verify.containers import JPEG_START, jpeg_segments
from stages.verify.samples import Decoded

#: Pixels that changed by more levels than this decide whether a preview is old.
_VISIBLE = 8

#: The header of a JPEG's frame (SOF), without which nothing can be decoded.
_JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]")

_VIDEO = re.compile(rb"\0\0\0[\x08-\xff]ftyp[ -~]{4}")


def embedded_pictures(metadata: Metadata) -> Iterator[tuple[str, Image.Image | None]]:
    """Name and picture of each preview; None for data that must not stay in an edited file.

    These are videos, C2PA manifests, a TIFF's smaller copies, and uncompressed previews, which are
    never rebuilt. JPEGs are found anywhere in the metadata.
    """
    for name, value in metadata.values.items():
        is_raw = name.startswith("JFIF thumbnail") and JPEG_START not in value
        is_copy = name.startswith("copy ") and name.endswith("/samples")
        if name.startswith("C2PA") or ((is_raw or is_copy or "raw samples" in name) and any(value)):
            yield name, None
            continue
        raw = _decoded_text(value) or value
        if _VIDEO.search(raw):
            yield name, None
        yield from ((name, picture) for picture in _jpegs(raw))


def _decoded_text(text: bytes) -> bytes:
    """Decode a JPEG in base64; empty if the text is something else."""
    with suppress(ValueError):
        return base64.b64decode(text) if text[:80].lstrip().startswith(b"/9j/") else b""
    return b""


def _jpegs(data: bytes) -> Iterator[Image.Image]:
    """Yield each JPEG that can be decoded."""
    frames = (match.start() for match in _JPEG_FRAME.finditer(data))
    position, last_frame = 0, max(frames, default=0)
    while (start := data.find(JPEG_START, position, last_frame + 1)) >= 0:
        end = jpeg_segments(data, start)[1] or len(data)
        picture = _decoded(data[start:end])
        if picture:
            yield picture
        position = end if picture else start + 3


def _decoded(data: bytes) -> Image.Image | None:
    with warnings.catch_warnings(), suppress(Exception):  # not every match is a picture
        warnings.simplefilter("ignore")
        picture = Image.open(io.BytesIO(data), formats=["JPEG"])
        picture.load()
        return picture
    return None


def is_stale(picture: Image.Image | None, before: Decoded, after: Decoded) -> bool:
    """Whether a preview shows the picture before rather than after; stored frame."""
    if picture is None:
        return True  # a signature, a video: never valid after an edit
    shown = picture.convert("L")
    old, new = (_small(each, shown.size) for each in (before, after))
    moved = np.abs(old - new) > _VISIBLE
    small = np.asarray(shown, np.float32)
    return bool(np.abs(small - old)[moved].sum() < np.abs(small - new)[moved].sum())


def _small(picture: Decoded, size: tuple[int, int]) -> np.ndarray:
    full_size = Image.fromarray(picture.as_rgb()).convert("L")
    return np.asarray(full_size.resize(size, Image.Resampling.BOX), np.float32)
