"""Settle the thumbnails of JFIF segments and of their extension JFXX (ITU-T T.871)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from stages.codecs.stale.pictures import as_jpeg, drawn_like, opened, without_streams
from stages.codecs.stale.policy import Settling

THUMBNAIL = "JFIF thumbnail"

_APP0, _JFIF, _JFXX = b"\xff\xe0", b"JFIF\0", b"JFXX\0"
_JPEG, _PALETTE, _RGB = 0x10, 0x11, 0x13

#: What a segment holds besides its length, the name and the kind.
_MAX_JPEG = 65_535 - 2 - 6


def settle_app0(segments: list[bytes], settling: Settling) -> list[bytes]:
    """Settle the APP0 segments of a JPEG; the others are passed on."""
    settled = []
    for segment in segments:
        old = thumbnail(segment)
        if old is None:
            settled.append(_swept(segment, settling))
            continue
        new = (
            _with(segment, drawn_like(old, settling.edited))
            if settling.rebuilds(THUMBNAIL)
            else b""
        )
        if new:
            settling.rebuilt(THUMBNAIL)
        else:
            settling.drop(THUMBNAIL)
            new = _without(segment)
        settled += [new] if new else []
    return settled


def _swept(segment: bytes, settling: Settling) -> bytes:
    """The segment without JPEGs that a damaged head no longer tells of."""
    cleared = without_streams(segment) if segment[:2] == _APP0 else segment
    if cleared is not segment:
        settling.drop(THUMBNAIL)
    return cleared


def thumbnail(segment: bytes) -> Image.Image | None:
    """The thumbnail of an APP0 segment; None if it has none, or a damaged one."""
    if segment[:2] != _APP0 or segment[4:9] not in (_JFIF, _JFXX):
        return None
    if segment[4:9] == _JFIF:
        return _rgb(segment[16:18], segment[18:])
    kind, body = segment[9:10], segment[10:]
    if kind == bytes([_JPEG]):
        return opened(body)
    if kind == bytes([_RGB]):
        return _rgb(body[:2], body[2:])
    return _paletted(body) if kind == bytes([_PALETTE]) else None


def _rgb(size: bytes, samples: bytes) -> Image.Image | None:
    count = 3 * size[0] * size[1] if len(size) == 2 else 0
    if not count or len(samples) < count:
        return None
    return Image.frombytes("RGB", (size[0], size[1]), samples[:count])


def _paletted(body: bytes) -> Image.Image | None:
    """``body`` is the width, the height, 256 colours and an index for each pixel."""
    count = body[0] * body[1] if len(body) > 770 else 0
    if not count or len(body) < 770 + count:
        return None
    colours = np.frombuffer(body, np.uint8, 768, 2).reshape(256, 3)
    indices = np.frombuffer(body, np.uint8, count, 770).reshape(body[1], body[0])
    return Image.fromarray(colours[indices])


def _with(segment: bytes, drawn: Image.Image) -> bytes:
    """The segment with another thumbnail of the same size and kind; empty if it does not fit."""
    samples = drawn.convert("RGB").tobytes()
    if segment[4:9] == _JFIF:
        return segment[:18] + samples + segment[18 + len(samples) :]
    kind = segment[9]
    if kind == _JPEG:
        coded = as_jpeg(drawn, len(segment) - 10) or as_jpeg(drawn, _MAX_JPEG)
        return _framed(segment[4:10] + coded) if coded else b""
    if kind == _RGB:
        return segment[:12] + samples + segment[12 + len(samples) :]
    few = drawn.convert("RGB").quantize(256)
    colours = bytes(few.getpalette() or []).ljust(768, b"\0")
    indices = few.tobytes()
    return segment[:12] + colours + indices + segment[780 + len(indices) :]


def _without(segment: bytes) -> bytes:
    """The segment without its thumbnail; empty if it held nothing else."""
    if segment[4:9] == _JFXX:
        return b""
    samples = 3 * segment[16] * segment[17]
    return _framed(segment[4:16] + b"\0\0" + segment[18 + samples :])


def _framed(body: bytes) -> bytes:
    return _APP0 + (len(body) + 2).to_bytes(2, "big") + body
