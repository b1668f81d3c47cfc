"""Refresh the metadata segments of a JPEG, and the bytes after its picture."""

from __future__ import annotations

from stages.codecs.jpeg.markers import (
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
from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.photoshop import refresh_resources
from stages.codecs.stale.policy import C2PA_MANIFEST, StaleDataPolicy
from stages.codecs.stale.xmp import GAIN_MAP, UNLABELLED, refresh_xmp

#: Bytes of a JFIF segment without a thumbnail, which has no pixels across and down then.
_JFIF_SIZE, _JFIF_THUMBNAIL = 18, "JFIF thumbnail"

#: Segments that are handled separately, or cannot contain a picture; Adobe's states the colours.
_KNOWN = (JFIF, PHOTOSHOP, MULTI_PICTURE_INDEX, ICC, ADOBE)

#: Bytes of an extended XMP segment before its part of the packet: marker, length and name; GUID,
#: length of the packet, offset of the part (XMP part 3, 1.1.3.1).
_EXTENDED_HEAD = 4 + len(EXTENDED_XMP.name) + 40


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
    if policy.must_drop(trailer, "data after the end of the image"):
        trailer = b""  # and the index of its pictures
        segments = [each for each in segments if not MULTI_PICTURE_INDEX.matches(each)]
    kept = _refresh_photoshop(_without_pictures(segments, policy), policy)
    if policy.labels_edit and not any(XMP.matches(each) for each in kept):
        # After the JFIF and EXIF segments, which must come first.
        first = (i for i, each in enumerate(kept) if not (JFIF.matches(each) or EXIF.matches(each)))
        kept.insert(next(first, len(kept)), XMP.build_segment(refresh_xmp(b"", policy)))
    return kept, trailer


def _without_pictures(segments: list[bytes], policy: StaleDataPolicy) -> list[bytes]:
    """Refresh all segments but Photoshop's; unknown ones of a kind may hold a picture together."""
    kept, unknown, has_xmp = list[bytes](), dict[str, list[bytes]](), False
    for segment in segments:
        if JUMBF.matches(segment):  # in photos always a C2PA manifest
            policy.note_dropped(C2PA_MANIFEST)
        elif ISO_GAIN_MAP.matches(segment):
            policy.note_dropped(GAIN_MAP)
        elif EXIF.matches(segment):
            kept.append(EXIF.rebuild_segment(segment, refresh_exif(EXIF.content(segment), policy)))
        elif XMP.matches(segment):
            kept.append(_refresh_xmp_segment(segment, policy, label=not has_xmp))
            has_xmp = True
        elif JFXX.matches(segment):  # it holds nothing else (ITU-T T.871)
            policy.note_dropped(_JFIF_THUMBNAIL)
        elif JFIF.matches(segment) and len(segment) > _JFIF_SIZE:
            policy.note_dropped(_JFIF_THUMBNAIL)
            kept.append(JFIF.build_segment(segment[9:16] + b"\0\0"))
        else:
            kept.append(segment)
            if not any(kind.matches(segment) for kind in _KNOWN):
                unknown.setdefault(_name(segment), []).append(segment)
    for name, found in unknown.items():
        if policy.must_drop(_joined(found), name):
            gone = set(found)
            kept = [each for each in kept if each not in gone]
    return [segment for segment in kept if segment]


def _name(segment: bytes) -> str:
    """The name of a segment in notes."""
    if EXTENDED_XMP.matches(segment):
        return "extended XMP"
    return "comment" if segment[1] == 0xFE else f"APP{segment[1] - 0xE0}"


def _joined(segments: list[bytes]) -> bytes:
    """The content of segments of a kind; parts of extended XMP are ordered by packet and offset."""
    if EXTENDED_XMP.matches(segments[0]):
        return b"".join(
            each[_EXTENDED_HEAD:] for each in sorted(segments, key=EXTENDED_XMP.content)
        )
    return b"".join(each[4:] for each in segments)


def _refresh_xmp_segment(segment: bytes, policy: StaleDataPolicy, *, label: bool) -> bytes:
    """Refresh the packet of a segment; empty if it is dropped."""
    refreshed = refresh_xmp(XMP.content(segment), policy, label=label)
    if len(refreshed) <= XMP.max_content:
        return XMP.rebuild_segment(segment, refreshed)
    if label and policy.labels_edit:
        policy.note(UNLABELLED)
        return _refresh_xmp_segment(segment, policy, label=False)
    policy.note("XMP over 64 KB left out")  # escaping made it longer
    return b""


def _refresh_photoshop(segments: list[bytes], policy: StaleDataPolicy) -> list[bytes]:
    """Refresh Photoshop's resources, which may span several segments."""
    places = [i for i, segment in enumerate(segments) if PHOTOSHOP.matches(segment)]
    resources = b"".join(PHOTOSHOP.content(segments[i]) for i in places)
    refreshed = refresh_resources(resources, policy)
    if refreshed is resources:
        return segments
    step = PHOTOSHOP.max_content
    parts = [
        PHOTOSHOP.build_segment(refreshed[at : at + step]) for at in range(0, len(refreshed), step)
    ]
    behind = [each for each in segments[places[0] :] if not PHOTOSHOP.matches(each)]
    return segments[: places[0]] + parts + behind
