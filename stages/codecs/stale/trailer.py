"""What follows the primary image of a JPEG: pictures, videos, and whatever else."""

from __future__ import annotations

import re

from stages.codecs.stale.pictures import find_pictures, find_streams
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.samsung import find_trailer
from stages.codecs.stale.xmp import FURTHER, GAIN_MAP, VIDEO

_FTYP = re.compile(rb"\0\0\0[\x08-\xff]ftyp[ -~]{4}")
_BOX_NAME = re.compile(rb"[A-Za-z0-9 _\xa9-]{4}")
_GAIN_MAP_SIGNS = re.compile(rb"hdrgainmap|hdr-gain-map|urn:iso:std:iso:ts:21496:-1", re.I)

#: Where a picture says of itself that it is a gain map.
_HEAD = 65_536


def refresh_trailer(trailer: bytes, policy: StaleDataPolicy) -> bytes:
    """What is left of a trailer: all but pictures and videos."""
    samsung = find_trailer(trailer)
    if samsung is None:
        return _refresh_bytes(trailer, policy)
    kept = [block for block in samsung.blocks if not _is_stale(block[1], policy)]
    end = trailer[samsung.start :]
    if len(kept) < len(samsung.blocks):
        end = samsung.with_blocks(kept)
    return _refresh_bytes(trailer[: samsung.start], policy) + end


def _find_videos(data: bytes) -> list[tuple[int, int]]:
    """Where MP4 videos begin and end."""
    found, position = [], 0
    while match := _FTYP.search(data, position):
        position = _video_end(data, match.start())
        found.append((match.start(), position))
    return found


def _video_end(data: bytes, start: int) -> int:
    """Behind the last of the boxes that follow each other from there."""
    position = start
    while position + 8 <= len(data) and _BOX_NAME.fullmatch(data, position + 4, position + 8):
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size == 0 or position + size >= len(data):
            return len(data)
        if size < 8:
            break
        position += size
    return position


def _refresh_bytes(data: bytes, policy: StaleDataPolicy) -> bytes:
    kept, position = [], 0
    for start, end in [*_find_videos(data), (len(data), len(data))]:
        # What looks like a JPEG inside of a video is a part of it.
        kept += _without_jpegs(data[position:start], policy)
        if start < end:
            policy.drop(VIDEO)
        position = end
    rest = b"".join(kept)
    if find_pictures(rest):  # neither a JPEG nor a video: where it ends is not known
        policy.drop(FURTHER)
        return b""
    if len(rest) == len(data):
        return data
    return rest if rest.strip(b"\0\xff") else b""  # what is left is only what filled gaps


def _without_jpegs(data: bytes, policy: StaleDataPolicy) -> list[bytes]:
    """What is between the JPEGs."""
    kept, position = [], 0
    for stream in find_streams(data):
        is_gain_map = _GAIN_MAP_SIGNS.search(
            data, stream.start, min(stream.end, stream.start + _HEAD)
        )
        policy.drop(GAIN_MAP if is_gain_map else FURTHER)
        kept.append(data[position : stream.start])
        position = stream.end
    return [*kept, data[position:]]


def _is_stale(content: bytes, policy: StaleDataPolicy) -> bool:
    what = VIDEO if _find_videos(content) else FURTHER if find_pictures(content) else ""
    if what:
        policy.drop(what)
    return bool(what)
