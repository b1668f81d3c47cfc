"""Walk over the markers of a JPEG (ITU-T T.81, annex B); nothing else here does.

A segment of no bytes costs a reader as much as one with a photo in it, and each scan goes over all
of the picture, however short it is, so that a small file can keep one busy for minutes. The walk
ends with an error at more of either than any writer of photos makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from stages.codecs.errors import DamagedError, UnsupportedError

SOI, EOI, SOS, APP0, APP1, APP14, APP15, COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE

#: Any marker but restart markers, and neither a stuffed nor a filling byte.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")

_MAX_SEGMENTS = 10_000
#: Some ten are usual.
_MAX_SCANS = 100
#: Bytes that fill the gap before a marker, one over the limit.
_FILL = b"\xff" * 4097


class Segment(NamedTuple):
    """One marker with what belongs to it.

    Attributes:
        marker: its second byte.
        start: position of its first byte.
        content: what follows its length, without the coded samples of a scan.
    """

    marker: int
    start: int
    content: bytes

    @property
    def end(self) -> int:
        """Position behind its content; of the end-of-image marker, which has none, behind that."""
        return self.start + 2 if self.marker == EOI else self.start + 4 + len(self.content)

    @property
    def is_metadata(self) -> bool:
        """Whether it is an application segment or a comment."""
        return APP0 <= self.marker <= APP15 or self.marker == COM


def segments(jpeg: bytes) -> Iterator[Segment]:
    """Yield all segments in order, the last of which is the end-of-image marker.

    Raises:
        DamagedError: the markers make no sense.
        UnsupportedError: there are more of them than any photo has.
    """
    if jpeg[:2] != bytes([0xFF, SOI]):
        raise DamagedError("it does not begin as a JPEG")
    position, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(jpeg, position)
        if not scans and jpeg.find(_FILL, position, found.start() if found else None) >= 0:
            raise UnsupportedError(f"more than {len(_FILL) - 1} bytes fill a gap between segments")
        if found is None:
            raise DamagedError("it has no end")
        start, marker = found.start(), found[0][1]
        if marker == EOI:
            yield Segment(EOI, start, b"")
            return
        length = int.from_bytes(jpeg[start + 2 : start + 4], "big")
        segment = Segment(marker, start, jpeg[start + 4 : start + 2 + length])
        if length < 2 or len(segment.content) != length - 2:
            raise DamagedError("a segment is cut off")
        scans += marker == SOS
        if scans > _MAX_SCANS:
            raise UnsupportedError(f"it has more than {_MAX_SCANS} scans")
        yield segment
        position = segment.end
    raise UnsupportedError(f"it has more than {_MAX_SEGMENTS} segments")


def envelope(jpeg: bytes) -> tuple[list[bytes], bytes]:
    """The application segments and comments, whole, and what follows the image, whatever its kind.

    Raises:
        DamagedError, UnsupportedError: as :func:`segments`.
    """
    found = list(segments(jpeg))
    return [jpeg[s.start : s.end] for s in found if s.is_metadata], jpeg[found[-1].end :]


def is_adobe(segment: bytes) -> bool:
    """Whether a segment tells how the samples make colours (Adobe's APP14)."""
    return segment[1] == APP14 and segment[4:9] == b"Adobe"
