"""Settle a whole JPEG: its segments, and the pictures behind the first."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from itertools import accumulate

from PIL import Image, JpegImagePlugin

from stages.codecs.errors import DamagedError, RefusedError
from stages.codecs.jpeg.header import read_header
from stages.codecs.stale import mpf
from stages.codecs.stale.exif import NAME as EXIF
from stages.codecs.stale.exif import settle_block
from stages.codecs.stale.jfif import settle_app0
from stages.codecs.stale.jumbf import without_c2pa
from stages.codecs.stale.photoshop import settle_resources
from stages.codecs.stale.pictures import (
    MAX_PIXELS_BEHIND,
    Stream,
    drawn_like,
    find_pictures,
    in_text,
    opened,
    saved,
    stream_at,
    without_streams,
)
from stages.codecs.stale.policy import Drawing, Settling
from stages.codecs.stale.trailer import is_gain_map, settle_rest
from stages.codecs.stale.xmp import GAIN_MAP
from stages.codecs.stale.xmp_segments import EXTENSION, XMP, settle_xmp_segments
from stages.recipe.options import MetadataOptions

PREVIEW = "MPF preview"

PHOTOSHOP, ICC = b"Photoshop 3.0\0", b"ICC_PROFILE\0"
ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"

_APP1, _APP2, _APP13 = b"\xff\xe1", b"\xff\xe2", b"\xff\xed"
_MAX_BODY = 65_533


@dataclass(frozen=True, slots=True)
class Settled:
    """A JPEG without its picture.

    Attributes:
        segments: application segments and comments, whole, in order.
        trailer: what follows the picture.
        notes: short sentences for the lineage; none if nothing changed.
        listed: the pictures that the multi-picture index is to list, by their old number from 0,
            their places counted from the trailer's start; empty: the index stays as it is.
    """

    segments: list[bytes]
    trailer: bytes
    notes: list[str]
    listed: dict[int, mpf.Listed]

    def assemble(self, body: bytes) -> bytes:
        """The file around a picture.

        Args:
            body: from the first segment that is neither application nor comment through the
                end-of-image marker.
        """
        segments = list(self.segments)
        primary = 2 + sum(map(len, segments)) + len(body)
        for at, position in _indices(segments) if self.listed else []:
            kept = {
                number: replace(each, start=primary + each.start)
                if number
                else replace(each, length=primary)
                for number, each in self.listed.items()
            }
            segments[at] = mpf.write_index(segments[at], position, kept)
        return b"".join([b"\xff\xd8", *segments, body, self.trailer])


def settle_jpeg(
    segments: list[bytes],
    trailer: bytes,
    edited: Drawing,
    options: MetadataOptions,
    *,
    trailer_start: int,
    generative: bool = False,
) -> Settled:
    """Settle all that is around the picture of a JPEG.

    Args:
        segments: its application segments and comments, whole, in order.
        trailer: what follows its end-of-image marker.
        edited: the edited picture in the stored frame.
        options: the policy.
        trailer_start: position of the trailer in the file (``JpegHeader.body_end``), from which
            the multi-picture index counts.
        generative: whether a generative model made the fill.

    Raises:
        RowError: ``image.stale_preview``, if the policy is to refuse.
    """
    settling = Settling(edited, options, generative=generative)
    listed, new_trailer = _settle_pictures(segments, trailer, trailer_start, settling)
    kept = segments
    if new_trailer != trailer and not listed:
        kept = [segment for segment in segments if not mpf.is_index(segment)]
    kept = _settle_segments(kept, settling)
    return Settled(kept, new_trailer, settling.notes, listed)


def _settle_segments(segments: list[bytes], settling: Settling) -> list[bytes]:
    kept = []
    going_on = set[int]()  # markers of segments in which a picture began that did not end
    for segment in without_c2pa(settle_app0(segments, settling), settling):
        if segment[:2] == _APP2 and segment.startswith(ISO_GAIN_MAP, 4):
            settling.drop(GAIN_MAP)
        elif _is_known(segment):
            kept.append(_settle_known(segment, settling))
        elif segment[1] not in going_on:
            settled = _settle_unknown(segment, settling)
            kept.append(settled)
            if not settled and find_pictures(segment):
                going_on.add(segment[1])
    kept = [segment for segment in kept if segment]
    return settle_xmp_segments(_settle_photoshop(kept, settling), settling)


def _is_known(segment: bytes) -> bool:
    """Whether what a segment holds has a place of its own here, or can be no picture."""
    is_exif = segment[:2] == _APP1 and segment.startswith(EXIF, 4)
    is_xmp = segment[:2] == _APP1 and segment.startswith((XMP, EXTENSION), 4)
    is_other = is_photoshop(segment) or mpf.is_index(segment) or segment.startswith(ICC, 4)
    return is_exif or is_xmp or is_other or segment[:2] == b"\xff\xe0"


def _settle_known(segment: bytes, settling: Settling) -> bytes:
    """Settle an EXIF segment, empty if it goes; the others are settled elsewhere."""
    if not segment.startswith(EXIF, 4):
        return segment
    block = segment[4 + len(EXIF) :]
    settled = settle_block(block, settling)
    if settled is block:
        return segment
    return _framed(_APP1, EXIF + settled) if settled else b""


def _settle_unknown(segment: bytes, settling: Settling) -> bytes:
    """A segment of no known kind with its pictures zeroed; empty if one goes on in the next."""
    if not in_text(segment):
        return segment
    where = "a comment" if segment[1] == 0xFE else f"an APP{segment[1] - 0xE0} segment"
    settling.drop(f"preview in {where}")
    pictures = find_pictures(segment)
    is_whole = pictures and (pictures[-1].end < len(segment) or segment.endswith(b"\xff\xd9"))
    return without_streams(segment) if is_whole else b""


def is_photoshop(segment: bytes) -> bool:
    """Whether a segment holds Photoshop's resources, or a part of them."""
    return segment[:2] == _APP13 and segment.startswith(PHOTOSHOP, 4)


def _settle_photoshop(segments: list[bytes], settling: Settling) -> list[bytes]:
    """Settle the resources, which may go on from segment to segment."""
    places = [i for i, segment in enumerate(segments) if is_photoshop(segment)]
    resources = b"".join(segments[i][4 + len(PHOTOSHOP) :] for i in places)
    settled = settle_resources(resources, settling)
    if settled is resources:
        return segments
    step = _MAX_BODY - len(PHOTOSHOP)
    parts = [
        _framed(_APP13, PHOTOSHOP + settled[at : at + step]) for at in range(0, len(settled), step)
    ]
    before = segments[: places[0]]
    return before + parts + [s for s in segments[places[0] :] if not is_photoshop(s)]


def _settle_pictures(
    segments: list[bytes], trailer: bytes, trailer_start: int, settling: Settling
) -> tuple[dict[int, mpf.Listed], bytes]:
    """Draw listed previews anew, and drop all other pictures and videos.

    Returns:
        As in :class:`Settled`: the pictures still listed, and the new trailer.
    """
    found = find_listed(segments, trailer, trailer_start)
    previews: dict[int, bytes] = {}
    for number, (listed, stream) in found.items():
        old = trailer[stream.start : stream.end]
        new = _redrawn(old, settling) if listed.is_preview and settling.rebuilds(PREVIEW) else None
        if new is not None:
            previews[number] = new
            settling.rebuilt(PREVIEW)
        elif listed.is_preview:
            settling.drop(PREVIEW)
        else:
            settling.drop(GAIN_MAP if is_gain_map(old) else listed.name)
    spans = sorted((stream.start, stream.end) for _, stream in found.values())
    left = settle_rest(_without_spans(trailer, spans), settling)
    if found and not left.strip(b"\0\xff"):
        left = b""
    index = next(iter(_indices(segments)), None)
    if not previews or index is None:
        return {}, left
    starts = [0, *accumulate(map(len, previews.values()))]
    entries = mpf.read_index(segments[index[0]], index[1])
    kept = {0: entries[0]}
    for (number, jpeg), start in zip(previews.items(), starts, strict=False):
        kept[number] = replace(entries[number], start=start, length=len(jpeg))
    return kept, b"".join([*previews.values(), left])


def find_listed(
    segments: list[bytes], trailer: bytes, trailer_start: int
) -> dict[int, tuple[mpf.Listed, Stream]]:
    """The pictures of a trailer that the index lists, by number, with their places in the trailer.

    Those whose place makes no sense are left out.
    """
    found: dict[int, tuple[mpf.Listed, Stream]] = {}
    behind = 0
    for at, position in _indices(segments)[:1]:
        entries = list(enumerate(mpf.read_index(segments[at], position)))[1:]
        for number, listed in sorted(entries, key=lambda entry: entry[1].start):
            start = listed.start - trailer_start
            stream = stream_at(trailer, start) if start >= behind else None
            if stream:
                # What the index adds to the stream (padding, a second stream) goes with it.
                behind = max(stream.end, min(start + listed.length, len(trailer)))
                found[number] = (listed, Stream(start, behind))
    return dict(sorted(found.items()))


def _redrawn(jpeg: bytes, settling: Settling) -> bytes | None:
    """A picture like a further one, with its segments and tables; None if it is damaged."""
    old = opened(jpeg, MAX_PIXELS_BEHIND)
    if old is None:
        return None
    try:
        header = read_header(jpeg)
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as source:
            assert isinstance(source, JpegImagePlugin.JpegImageFile)
            tables, subsampling = source.quantization, JpegImagePlugin.get_sampling(source)
        drawn = drawn_like(old, settling.edited)
        coded = saved(drawn, qtables=tables, subsampling=max(subsampling, 0))
        made = read_header(coded)
    except (DamagedError, RefusedError, OSError, ValueError):
        return None
    if header.model not in ("ycc", "grey"):
        return None  # its segments would misname our colours
    segments = _settle_segments(header.segments, settling.without_marks())
    return b"".join([b"\xff\xd8", *segments, coded[made.body_start :]])


def _indices(segments: list[bytes]) -> list[tuple[int, int]]:
    """Which segments are multi-picture indices that list pictures, and their positions."""
    positions = accumulate(map(len, segments), initial=2)
    return [
        (at, position)
        for at, (segment, position) in enumerate(zip(segments, positions, strict=False))
        if mpf.is_index(segment) and mpf.read_index(segment, position)
    ]


def _without_spans(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    kept, position = [], 0
    for start, end in spans:
        kept.append(data[position:start])
        position = end
    return b"".join([*kept, data[position:]])


def _framed(marker: bytes, body: bytes) -> bytes:
    return marker + (len(body) + 2).to_bytes(2, "big") + body
