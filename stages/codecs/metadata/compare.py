"""Tell whether two files hold the same metadata, but for what an edit may change."""

from __future__ import annotations

from PIL import Image

from stages.codecs.metadata import jumbf
from stages.codecs.metadata.containers import Blocks, read_blocks, tags
from stages.codecs.metadata.exif import settle_block
from stages.codecs.metadata.jpeg import settle_jpeg
from stages.codecs.metadata.photoshop import IPTC, read_resources, settle_resources
from stages.codecs.metadata.pictures import without_streams
from stages.codecs.metadata.settling import Settling
from stages.codecs.metadata.tiff import Tiff
from stages.codecs.metadata.xmp import HAS_EXTENDED, MARKS, settle_packet
from stages.codecs.metadata.xmp_packet import RDF, Element, Node, Packet
from stages.options import MetadataOptions

_SOFTWARE = 0x131

#: Of a TIFF's first directory: what tells where and how the samples are stored, and the blocks
#: that are compared by themselves.
_STORAGE = {
    *(0xFE, 0xFF, 0x100, 0x101, 0x102, 0x103, 0x106, 0x10A, 0x111, 0x115, 0x116, 0x117, 0x11C),
    *(0x13D, 0x140, 0x142, 0x143, 0x144, 0x145, 0x14A, 0x152, 0x153, 0x15B, 0x212, 0x213),
    *(700, 33_723, 34_377, 34_675, 0x8769, 0x8825, 0xA005, jumbf.TIFF_TAG),
}


def comparable(file_bytes: bytes, *, marked: bool = False) -> dict[str, bytes | str]:
    """The metadata of a JPEG, PNG, WebP or TIFF, without what the policies may change.

    Two files of which this returns the same differ, in metadata, only in previews, gain maps,
    videos, signatures, and what points to them: each of them is dropped here, if it is there.

    Args:
        file_bytes: the file; of a damaged one, what can be read is returned.
        marked: also leave out what ``metadata.mark_edit`` writes.

    Returns:
        By name: EXIF, XMP (as text), IPTC, each Photoshop resource, the ICC profile, density,
        comments, and every other segment or chunk.
    """
    dropping = Settling(Image.new("RGB", (1, 1)), MetadataOptions(stale_preview="drop"))
    blocks = read_blocks(file_bytes)
    found: dict[str, bytes | str] = {}
    for number, exif in enumerate(blocks.exif, 1):
        found[f"exif {number}"] = _comparable_exif(settle_block(exif, dropping), marked=marked)
    packets = [_described(settle_packet(xmp, dropping), marked=marked) for xmp in blocks.xmp]
    found["xmp"] = "\n".join(filter(None, packets))
    resources, rest = read_resources(settle_resources(blocks.photoshop, dropping))
    for resource in resources:
        name = "iptc" if resource.number == IPTC else f"photoshop {resource.number}"
        found[name] = found.get(name, b"") + resource.content  # type: ignore[operator]
    found |= {"photoshop rest": rest, "icc": blocks.icc}
    found |= {name: data for name, data in blocks.others.items() if not _is_manifest(name)}
    if blocks.tiff:
        found["tags"] = _listed_tags(blocks.tiff, marked=marked, moved=True)
    found |= _of_jpeg(blocks)
    return {name: content for name, content in found.items() if content}


def _is_manifest(name: str) -> bool:
    """Whether a chunk is a C2PA manifest, by the name that it has in :class:`Blocks`."""
    return name.rpartition(" ")[0].encode() in (jumbf.PNG_CHUNK, jumbf.WEBP_CHUNK)


def _comparable_exif(block: bytes, *, marked: bool) -> bytes | str:
    """A block without previews; its tags only, if its first directory may have moved."""
    tiff = Tiff.of(block)
    if marked and tiff:
        return _listed_tags(tiff, marked=True, moved=False)
    return block.rstrip(b"\0")  # where a preview was put at the end, zeros are left


def _listed_tags(tiff: Tiff, *, marked: bool, moved: bool) -> str:
    """A line for each tag.

    Args:
        tiff: of which.
        marked: leave out the software.
        moved: leave out what tells of positions.
    """
    lines = []
    for name, directory in tags(tiff):
        for tag, entry in sorted(directory.entries.items()):
            if (moved and tag in _STORAGE) or (marked and tag == _SOFTWARE):
                continue
            value = without_streams(tiff.data[entry.start : entry.end])
            lines.append(f"{name} {tag:#06x} {entry.kind} {entry.count} {value.hex()}")
    return "\n".join(lines)


def _described(packet: bytes, *, marked: bool) -> str:
    """A packet as lines of names and values; as it is, if it cannot be parsed."""
    try:
        parsed = Packet(packet)
    except ValueError:
        return packet.decode("latin-1")
    lines, depths = [], dict[Element, int]()
    says_something = False
    for element in parsed.elements:
        depths[element] = depths[element.parent] + 1 if element.parent else 0
        if _is_passed_over(element, marked=marked):
            continue
        text = element.text.strip() if not element.is_leaf else element.text
        lines.append(f"{' ' * depths[element]}{element.name} {text!r}")
        for attribute in element.attributes:
            if not _is_passed_over(attribute, marked=marked):
                lines.append(f"{' ' * depths[element]}@{attribute.name} {attribute.text!r}")
        says_something |= element.name[0] not in (RDF, "adobe:ns:meta/")
    says_something |= any("@" in line and RDF not in line for line in lines)
    return "\n".join(lines) if says_something else ""


def _is_passed_over(node: Node, *, marked: bool) -> bool:
    """Whether a property is a mark, or the name, which is the hash, of an extended packet."""
    return node.name == HAS_EXTENDED or (marked and node.name in MARKS)


def _of_jpeg(blocks: Blocks) -> dict[str, bytes | str]:
    """Density, comments and other segments, in order, and unknown bytes behind the picture."""
    settled = settle_jpeg(
        blocks.segments,
        blocks.trailer,
        Image.new("RGB", (1, 1)),
        MetadataOptions(stale_preview="drop"),
        trailer_start=blocks.trailer_start,
    )
    found: dict[str, bytes | str] = {"trailer": settled.trailer}
    numbers: dict[str, int] = {}
    for segment in settled.segments:
        if segment[1] in (0xE1, 0xE2, 0xED) and _is_compared_elsewhere(segment[4:]):
            continue
        name = "comment" if segment[1] == 0xFE else f"APP{segment[1] - 0xE0}"
        numbers[name] = numbers.get(name, 0) + 1
        found[f"{name} {numbers[name]}"] = segment[4:]
    return found


def _is_compared_elsewhere(body: bytes) -> bool:
    """Whether a segment is EXIF, XMP, ICC or Photoshop, or a multi-picture index."""
    return body.startswith(
        (b"Exif\0\0", b"http://ns.adobe.com/x", b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"MPF\0")
    )
