"""Refresh the metadata segments of a JPEG, and the bytes after its picture."""

from __future__ import annotations

from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.photoshop import refresh_resources
from stages.codecs.stale.pictures import contains_picture
from stages.codecs.stale.policy import MANIFEST, StaleDataPolicy
from stages.codecs.stale.segments import (
    ADOBE,
    EXIF,
    EXTENDED_XMP,
    ICC,
    ISO_GAIN_MAP,
    JFIF,
    JFXX,
    JUMBF,
    MULTI_PICTURE_INDEX,
    PHOTOSHOP,
    XMP,
)
from stages.codecs.stale.xmp import GAIN_MAP
from stages.codecs.stale.xmp_segments import refresh_xmp_segments

JFIF_THUMBNAIL = "JFIF thumbnail"

#: UUID of the JUMBF boxes that are C2PA manifests (C2PA 2.1, annex A).
_C2PA = bytes.fromhex("6332706100110010800000AA00389B71")

#: Segments that are handled separately, or cannot contain a picture; Adobe's states the colours.
_KNOWN = (XMP, EXTENDED_XMP, PHOTOSHOP, MULTI_PICTURE_INDEX, ICC, ADOBE)


def refresh_jpeg(
    segments: list[bytes], trailer: bytes, policy: StaleDataPolicy
) -> tuple[list[bytes], bytes]:
    """Refresh a JPEG's metadata; unchanged parts are returned as the same objects.

    Args:
        segments: the application segments and comments with their markers, in order.
        trailer: the bytes after the end-of-image marker.
        policy: the policy for the file.

    Returns:
        The new segments and trailer.

    Raises:
        RowError: ``image.stale_preview``, if the policy is to refuse.
    """
    if policy.drops(trailer, "bytes behind the picture"):
        trailer = b""  # and the index of its pictures
        segments = [each for each in segments if not MULTI_PICTURE_INDEX.matches(each)]
    return _refresh_segments(segments, policy), trailer


def _refresh_segments(segments: list[bytes], policy: StaleDataPolicy) -> list[bytes]:
    boxes = [segment for segment in segments if JUMBF.matches(segment)]
    if boxes:
        policy.drop(MANIFEST if any(_C2PA in box for box in boxes) else "JUMBF")
    kept, unknown = [], dict[int, list[bytes]]()
    for segment in [each for each in segments if not JUMBF.matches(each)]:
        if ISO_GAIN_MAP.matches(segment):
            policy.drop(GAIN_MAP)
        elif EXIF.matches(segment):
            kept.append(_refresh_exif_segment(segment, policy))
        elif JFIF.matches(segment) or JFXX.matches(segment):
            kept.append(_without_thumbnail(segment, policy))
        else:
            kept.append(segment)
            if not any(kind.matches(segment) for kind in _KNOWN):
                unknown.setdefault(segment[1], []).append(segment)
    for marker, found in unknown.items():  # a picture may span several segments
        what = "comment" if marker == 0xFE else f"APP{marker - 0xE0}"
        if policy.drops(b"".join(each[4:] for each in found), what):
            gone = set(found)
            kept = [each for each in kept if each not in gone]
    kept = [segment for segment in kept if segment]
    return refresh_xmp_segments(_refresh_photoshop(kept, policy), policy)


def _refresh_exif_segment(segment: bytes, policy: StaleDataPolicy) -> bytes:
    """Refresh an EXIF segment; empty if it is dropped."""
    block = EXIF.content(segment)
    refreshed = refresh_exif(block, policy)
    if refreshed is block:
        return segment
    return EXIF.frame(refreshed) if refreshed else b""


def _without_thumbnail(segment: bytes, policy: StaleDataPolicy) -> bytes:
    """Drop the thumbnail of a JFIF segment; empty for JFXX, which is only that (ITU-T T.871)."""
    is_main, has_size = JFIF.matches(segment), len(segment) >= 18
    has_thumbnail = has_size and segment[16] * segment[17] > 0
    if is_main and not has_thumbnail and not contains_picture(segment):
        return segment
    policy.drop(JFIF_THUMBNAIL)
    return JFIF.frame(segment[9:16] + b"\0\0") if is_main and has_size else b""


def _refresh_photoshop(segments: list[bytes], policy: StaleDataPolicy) -> list[bytes]:
    """Refresh Photoshop's resources, which may span several segments."""
    places = [i for i, segment in enumerate(segments) if PHOTOSHOP.matches(segment)]
    resources = b"".join(PHOTOSHOP.content(segments[i]) for i in places)
    refreshed = refresh_resources(resources, policy)
    if refreshed is resources:
        return segments
    step = PHOTOSHOP.max_content
    parts = [PHOTOSHOP.frame(refreshed[at : at + step]) for at in range(0, len(refreshed), step)]
    behind = [each for each in segments[places[0] :] if not PHOTOSHOP.matches(each)]
    return segments[: places[0]] + parts + behind
