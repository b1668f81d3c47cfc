"""The kinds of metadata segments of a JPEG: their markers, names and framing."""

from __future__ import annotations

from typing import NamedTuple


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

    def frame(self, content: bytes) -> bytes:
        """Build a segment, with its marker; ``content`` has at most ``max_content`` bytes."""
        size = 2 + len(self.name) + len(content)
        return bytes([0xFF, self.marker]) + size.to_bytes(2, "big") + self.name + content

    def reframed(self, segment: bytes, content: bytes) -> bytes:
        """A segment with new content: itself if that is the old one, empty if there is none."""
        if content == self.content(segment):
            return segment
        return self.frame(content) if content else b""


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
