"""List the previews in a file, to look at what an edit made of them."""

from __future__ import annotations

from PIL import Image

from stages.codecs.metadata import exif, jfif, jumbf, photoshop, xmp
from stages.codecs.metadata.containers import Blocks, read_blocks
from stages.codecs.metadata.exif_strips import Strips
from stages.codecs.metadata.jpeg import PREVIEW, find_listed
from stages.codecs.metadata.pictures import MAX_PIXELS_BEHIND, opened
from stages.codecs.metadata.trailer import find_parts, is_gain_map
from stages.codecs.metadata.xmp_packet import Packet

#: What it is, in the words of the notes, and the picture; None if it cannot be shown.
Preview = tuple[str, Image.Image | None]


def previews(file_bytes: bytes) -> list[Preview]:
    """All previews and other stale data that can be found in a JPEG, PNG, WebP or TIFF.

    Damaged files are read as far as they can be.
    """
    blocks = read_blocks(file_bytes)
    found: list[Preview] = []
    for block in blocks.exif:
        found += _in_exif(block)
    for packet in blocks.xmp:
        found += _in_xmp(packet)
    found += _in_photoshop(blocks.photoshop)
    found += _in_jpeg(blocks)
    chunks = {name.rpartition(" ")[0].encode() for name in blocks.others}
    if chunks & {jumbf.PNG_CHUNK, jumbf.WEBP_CHUNK}:
        found.append((jumbf.MANIFEST, None))
    return found


def _in_exif(block: bytes) -> list[Preview]:
    found: list[Preview] = [(exif.THUMBNAIL, t.read(block)) for t in exif.find_thumbnails(block)]
    for each in exif.find_previews(block):
        if isinstance(each, Strips):
            found.append((exif.PREVIEW, each.read(block)))
        else:
            found.append((exif.PREVIEW, opened(block[each.start : each.end])))
    return found


def _in_xmp(packet: bytes) -> list[Preview]:
    try:
        parsed = Packet(packet)
    except ValueError:
        return []
    return [(xmp.THUMBNAIL, picture) for _, picture in xmp.thumbnails(parsed)]


def _in_photoshop(resources: bytes) -> list[Preview]:
    found: list[Preview] = []
    for resource in photoshop.read_resources(resources)[0]:
        if resource.number in (photoshop.THUMBNAIL_RGB, photoshop.THUMBNAIL_BGR):
            found.append((photoshop.THUMBNAIL, resource.thumbnail()))
        elif resource.number == photoshop.EXIF:
            found += _in_exif(resource.content)
        elif resource.number == photoshop.XMP:
            found += _in_xmp(resource.content)
    return found


def _in_jpeg(blocks: Blocks) -> list[Preview]:
    found: list[Preview] = []
    for segment in blocks.segments:
        picture = jfif.thumbnail(segment)
        if picture:
            found.append((jfif.THUMBNAIL, picture))
        if jumbf.is_c2pa_segment(segment):
            found.append((jumbf.MANIFEST, None))
    listed = find_listed(blocks.segments, blocks.trailer, blocks.trailer_start)
    names = {stream.start: each for each, stream in listed.values()}
    for start, end, is_video in find_parts(blocks.trailer):
        if is_video:
            found.append((xmp.VIDEO, None))
            continue
        jpeg = blocks.trailer[start:end]
        picture = opened(jpeg, MAX_PIXELS_BEHIND)
        entry = names.get(start)
        name = PREVIEW if entry and entry.is_preview else entry.name if entry else xmp.FURTHER
        found.append((xmp.GAIN_MAP if is_gain_map(jpeg) else name, picture))
    return found
