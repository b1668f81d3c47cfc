"""Walk over the markers of a JPEG (ITU-T T.81, annex B), and frame its segments of metadata.

An empty segment costs a reader as much as a long one, and each scan covers the entire picture,
however few bytes it has, so a small file can take minutes to read. The walk raises an error when a
file has more of either than any photo.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from stages.codecs.errors import DamagedError, UnsupportedError

SOI, EOI, SOS, APP0, APP1, APP15, COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEF, 0xFE
_DNL = 0xDC

#: Markers of a frame, and those of Huffman-coded DCT frames: baseline, sequential, progressive.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DCT_FRAMES = (0xC0, 0xC1, 0xC2)

#: Any marker except restart markers, stuffed bytes and fill bytes.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")

_MAX_SEGMENTS = 10_000
#: A progressive file usually has about ten.
_MAX_SCANS = 100
#: Fill bytes before a marker, one more than allowed.
_FILL = b"\xff" * 4097


class Segment(NamedTuple):
    """A marker and its content.

    Attributes:
        marker: the second byte of the marker.
        start: the position of its first byte.
        content: the bytes after the length field, without the coded samples of a scan.
    """

    marker: int
    start: int
    content: bytes

    @property
    def end(self) -> int:
        """The position after its content, or after the end-of-image marker, which has none."""
        return self.start + 2 if self.marker == EOI else self.start + 4 + len(self.content)

    @property
    def is_metadata(self) -> bool:
        """Whether it is an application segment or a comment."""
        return APP0 <= self.marker <= APP15 or self.marker == COM


class SegmentKind(NamedTuple):
    """A kind of segment.

    Attributes:
        marker: the second byte of its marker.
        name: the first bytes of its body.
    """

    marker: int
    name: bytes

    @property
    def max_content(self) -> int:
        """Maximum bytes after the name: the 16-bit length field includes itself."""
        return 65_535 - 2 - len(self.name)

    def matches(self, segment: bytes) -> bool:
        """Whether a segment, with its marker, is of this kind."""
        return segment[1] == self.marker and segment.startswith(self.name, 4)

    def content(self, segment: bytes) -> bytes:
        """The bytes after the name."""
        return segment[4 + len(self.name) :]

    def build_segment(self, content: bytes) -> bytes:
        """Build a segment, with its marker; ``content`` has at most ``max_content`` bytes."""
        size = 2 + len(self.name) + len(content)
        return bytes([0xFF, self.marker]) + size.to_bytes(2, "big") + self.name + content

    def rebuild_segment(self, segment: bytes, content: bytes) -> bytes:
        """A segment with new content: itself if that is the old one, empty if there is none."""
        if content == self.content(segment):
            return segment
        return self.build_segment(content) if content else b""


JFIF, JFXX = SegmentKind(0xE0, b"JFIF\0"), SegmentKind(0xE0, b"JFXX\0")
EXIF = SegmentKind(0xE1, b"Exif\0\0")
XMP = SegmentKind(0xE1, b"http://ns.adobe.com/xap/1.0/\0")
EXTENDED_XMP = SegmentKind(0xE1, b"http://ns.adobe.com/xmp/extension/\0")
ICC = SegmentKind(0xE2, b"ICC_PROFILE\0")
MULTI_PICTURE_INDEX = SegmentKind(0xE2, b"MPF\0")
ISO_GAIN_MAP = SegmentKind(0xE2, b"urn:iso:std:iso:ts:21496:-1\0")
JUMBF = SegmentKind(0xEB, b"JP")
PHOTOSHOP = SegmentKind(0xED, b"Photoshop 3.0\0")
ADOBE = SegmentKind(0xEE, b"Adobe")


def segments(jpeg: bytes) -> Iterator[Segment]:
    """Yield all segments in order, the last of which is the end-of-image marker.

    Raises:
        DamagedError: the markers are invalid.
        UnsupportedError: there are more of them than any photo has.
    """
    if jpeg[:2] != bytes([0xFF, SOI]):
        raise DamagedError("it does not begin as a JPEG")
    position, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(jpeg, position)
        if not scans and jpeg.find(_FILL, position, match.start() if match else None) >= 0:
            raise UnsupportedError(f"more than {len(_FILL) - 1} bytes fill a gap between segments")
        if match is None:
            raise DamagedError("it has no end")
        start, marker = match.start(), match[0][1]
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


def split_metadata(jpeg: bytes) -> tuple[list[bytes], bytes, bytes]:
    """Split a JPEG of any kind.

    Returns:
        The application segments and comments; what lies between the first other segment and the end
        of the image; and the bytes after the image.

    Raises:
        DamagedError, UnsupportedError: as :func:`segments`.
    """
    walked = list(segments(jpeg))
    start, end = next(s.start for s in walked if not s.is_metadata), walked[-1].end
    return [jpeg[s.start : s.end] for s in walked if s.is_metadata], jpeg[start:end], jpeg[end:]


def check_kind(jpeg: bytes) -> None:
    """Check that a JPEG is of a kind whose coefficients can be edited.

    Raises:
        DamagedError: its markers are invalid.
        UnsupportedError: it is of another kind.
    """
    has_frame = in_scans = False
    for segment in segments(jpeg):
        marker, content = segment.marker, segment.content
        in_scans |= marker == SOS
        if in_scans and segment.is_metadata:
            raise UnsupportedError("application data between its scans")
        if marker == _DNL or (marker in _FRAMES and content[1:3] == b"\0\0"):
            raise UnsupportedError("its height is stated after its first scan")
        if marker not in _FRAMES:
            continue
        if has_frame:
            raise UnsupportedError("several frames")
        if marker not in _DCT_FRAMES or content[:1] != b"\x08":
            bits = int.from_bytes(content[:1], "big")
            raise UnsupportedError(f"frame type SOF{marker - 0xC0}, {bits} bits a sample")
        has_frame = True
    if not has_frame or not in_scans:
        raise DamagedError("it has no picture")
