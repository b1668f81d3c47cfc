"""What follows the primary image of a JPEG: pictures, videos, and whatever else."""

from __future__ import annotations

import re

from stages.codecs.stale.pictures import find_pictures, find_streams
from stages.codecs.stale.policy import Settling
from stages.codecs.stale.samsung import find_trailer
from stages.codecs.stale.xmp import FURTHER, GAIN_MAP, VIDEO

_FTYP = re.compile(rb"\0\0\0[\x08-\xff]ftyp[ -~]{4}")
_BOX_NAME = re.compile(rb"[A-Za-z0-9 _\xa9-]{4}")
_GAIN_MAP_SIGNS = re.compile(rb"hdrgainmap|hdr-gain-map|urn:iso:std:iso:ts:21496:-1", re.I)

#: Where to look for what a picture says of itself.
_HEAD = 65_536


def settle_rest(trailer: bytes, settling: Settling) -> bytes:
    """What is left of a trailer that no index tells of: all but pictures and videos."""
    samsung = find_trailer(trailer)
    if samsung is None:
        return _settle_bytes(trailer, settling)
    kept = [block for block in samsung.blocks if not _is_stale(block[1], settling)]
    end = trailer[samsung.start : samsung.end]
    if len(kept) < len(samsung.blocks):
        end = samsung.with_blocks(kept)
    return _settle_bytes(trailer[: samsung.start], settling) + end


def is_gain_map(jpeg: bytes) -> bool:
    """Whether a further picture says that it is one."""
    return _GAIN_MAP_SIGNS.search(jpeg, 0, _HEAD) is not None


def find_videos(data: bytes) -> list[tuple[int, int]]:
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


def find_parts(data: bytes) -> list[tuple[int, int, bool]]:
    """Begin, end, and whether it is a video and not a JPEG, of each part that is one of the two."""
    found = []
    position = 0
    for start, end in [*find_videos(data), (len(data), 0)]:
        # What looks like a JPEG inside of a video is a part of it.
        for stream in find_streams(data[position:start]):
            found.append((position + stream.start, position + stream.end, False))
        if end:
            found.append((start, end, True))
            position = end
    return found


def _settle_bytes(data: bytes, settling: Settling) -> bytes:
    kept, position = [], 0
    for start, end, is_video in find_parts(data):
        kept.append(data[position:start])
        position = end
        gain_map = not is_video and is_gain_map(data[start:end])
        settling.drop(VIDEO if is_video else GAIN_MAP if gain_map else FURTHER)
    if not position and not find_pictures(data):
        return data
    rest = b"".join([*kept, data[position:]])
    if find_pictures(rest):  # neither a JPEG nor a video: where it ends is not known
        settling.drop(FURTHER)
        return b""
    return rest if rest.strip(b"\0\xff") else b""  # what is left is only what filled gaps


def _is_stale(content: bytes, settling: Settling) -> bool:
    if find_videos(content):
        settling.drop(VIDEO)
        return True
    if find_pictures(content):
        settling.drop(FURTHER)
        return True
    return False
