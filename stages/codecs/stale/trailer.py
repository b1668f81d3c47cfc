"""Drop what follows the primary image of a JPEG if a picture or a video is in it."""

from __future__ import annotations

import re

from stages.codecs.stale.pictures import SOI, find_pictures
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.xmp import FURTHER, GAIN_MAP, VIDEO

_GAIN_MAP_SIGNS = re.compile(rb"hdrgainmap|hdr-gain-map|urn:iso:std:iso:ts:21496:-1", re.I)

#: Bytes at the start of a JPEG in which it says that it is a gain map.
_HEAD = 65_536


def refresh_trailer(trailer: bytes, policy: StaleDataPolicy) -> bytes:
    """Return the trailer unchanged if it holds no picture or video, else empty bytes.

    Raises:
        RowError: ``image.stale_preview``, if the policy is to refuse.
    """
    position, others = 0, []
    for stream in find_pictures(trailer):
        if stream.start < position:  # what looks like a JPEG inside a video is a part of it
            continue
        policy.drop(_kind(trailer[stream.start : stream.end]))
        others.append(trailer[position : stream.start])
        position = stream.end
    if not others:
        return trailer
    if b"".join([*others, trailer[position:]]).strip(b"\0\xff"):  # more than padding
        policy.note("bytes behind the picture dropped")
    return b""


def _kind(picture: bytes) -> str:
    """Name a picture or video by its first bytes."""
    if picture.startswith(SOI):
        return GAIN_MAP if _GAIN_MAP_SIGNS.search(picture, 0, _HEAD) else FURTHER
    return VIDEO if picture[4:8] == b"ftyp" else FURTHER
