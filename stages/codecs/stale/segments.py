"""The segments of a JPEG that hold metadata: the marker and name of each kind, and its framing."""

from __future__ import annotations

from typing import NamedTuple


class SegmentKind(NamedTuple):
    """A kind of segment.

    Attributes:
        marker: second byte of its marker.
        name: what its body begins with.
    """

    marker: int
    name: bytes

    @property
    def max_content(self) -> int:
        """What fits behind the name, bytes: the length, of 16 bits, counts itself."""
        return 65_535 - 2 - len(self.name)

    def matches(self, segment: bytes) -> bool:
        """Whether a whole segment is of this kind."""
        return segment[1] == self.marker and segment.startswith(self.name, 4)

    def content(self, segment: bytes) -> bytes:
        """What is behind the name."""
        return segment[4 + len(self.name) :]

    def frame(self, content: bytes) -> bytes:
        """A whole segment; no more than ``max_content`` bytes fit."""
        size = 2 + len(self.name) + len(content)
        return bytes([0xFF, self.marker]) + size.to_bytes(2, "big") + self.name + content


JFIF, JFXX = SegmentKind(0xE0, b"JFIF\0"), SegmentKind(0xE0, b"JFXX\0")
EXIF = SegmentKind(0xE1, b"Exif\0\0")
XMP = SegmentKind(0xE1, b"http://ns.adobe.com/xap/1.0/\0")
EXTENDED_XMP = SegmentKind(0xE1, b"http://ns.adobe.com/xmp/extension/\0")
ICC = SegmentKind(0xE2, b"ICC_PROFILE\0")
MULTI_PICTURE_INDEX = SegmentKind(0xE2, b"MPF\0")
ISO_GAIN_MAP = SegmentKind(0xE2, b"urn:iso:std:iso:ts:21496:-1\0")
JUMBF = SegmentKind(0xEB, b"JP")
PHOTOSHOP = SegmentKind(0xED, b"Photoshop 3.0\0")
