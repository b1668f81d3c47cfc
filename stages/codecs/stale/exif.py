"""Settle an EXIF block: its thumbnail, the previews in maker notes, the software tag.

Nothing in a block moves, since maker notes hold positions that only their makers know: what is
drawn anew is written where the old one was, or behind everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from PIL import Image

from stages.codecs.stale.exif_strips import Strips, find_strips
from stages.codecs.stale.pictures import (
    Stream,
    as_jpeg,
    drawn_like,
    find_pictures,
    opened,
    stream_at,
)
from stages.codecs.stale.policy import SOFTWARE, Settling
from stages.codecs.stale.tiff import ASCII, LONG, Directory, Tiff

THUMBNAIL, PREVIEW = "EXIF thumbnail", "preview inside the EXIF"
UNREADABLE = "EXIF that cannot be read"

#: What stands before the block in a JPEG.
NAME = b"Exif\0\0"

#: What a JPEG segment holds besides the length and the name, which may be there twice.
MAX_BLOCK = 65_535 - 2 - 2 * len(NAME)

_JPEG_START, _JPEG_LENGTH, _SUB_IFDS, _SOFTWARE = 0x201, 0x202, 0x14A, 0x131
_EXIF_IFD = 0x8769

#: A thumbnail's directory has some ten entries: one with more was misread, and is not cleared.
_MAX_ENTRIES = 64


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture in the chain of directories.

    Attributes:
        link: position of the pointer to its directory.
        directory: what describes it.
        samples: where it is.
    """

    link: int
    directory: Directory
    samples: Stream | Strips

    def read(self, block: bytes) -> Image.Image | None:
        """The picture; None if it is damaged or of an unknown kind."""
        if isinstance(self.samples, Strips):
            return self.samples.read(block)
        return opened(block[self.samples.start : self.samples.end])


def settle_block(exif: bytes, settling: Settling) -> bytes:
    """Settle a bare TIFF-structured block, as PNG, WebP, HEIF and (behind a name) JPEG hold it.

    Not for whole TIFF files, whose first directory is the picture itself. The same object comes
    back if nothing changed; raises RowError ``image.stale_preview`` if the policy is to refuse.

    A block that is no TIFF structure becomes empty, and is to be left out of the file: nobody can
    find the thumbnail in it, nor read anything else.
    """
    if not exif.startswith(NAME):
        return _settle_bare(exif, settling)
    bare = exif[len(NAME) :]  # only JPEG needs the name, but some write it elsewhere too
    settled = _settle_bare(bare, settling)
    if settled is bare:
        return exif
    return NAME + settled if settled else b""


def _settle_bare(exif: bytes, settling: Settling) -> bytes:
    tiff = Tiff.of(exif)
    if exif and (tiff is None or not tiff.chain()):
        settling.drop(UNREADABLE)
        return b""
    thumbnails, previews = find_thumbnails(exif), find_previews(exif)
    if not thumbnails and not previews and not settling.marks:
        return exif
    block = bytearray(exif)
    for preview in previews:
        settling.drop(PREVIEW)
        _clear(block, preview)
    # The last one first: where it goes, the one before it takes over its pointer.
    for thumbnail in reversed(thumbnails):
        _settle_thumbnail(block, exif, thumbnail, settling)
    if settling.marks:
        _mark(block, settling)
    return exif if block == exif else bytes(block)


def find_thumbnails(exif: bytes) -> list[Thumbnail]:
    """The pictures in the chain of directories behind the first."""
    tiff = Tiff.of(exif)
    found = []
    chain = tiff.chain() if tiff else []
    for before, directory in pairwise(chain):
        samples = _samples(tiff, directory) if tiff else None
        if samples:
            found.append(Thumbnail(before.link, directory, samples))
    return found


def find_previews(exif: bytes) -> list[Stream | Strips]:
    """All other pictures: those with a signature wherever they are, and the samples of sub-IFDs."""
    thumbnails = [each.samples for each in find_thumbnails(exif)]
    known = {each.start for each in thumbnails if isinstance(each, Stream)}
    tiff = Tiff.of(exif)
    found: list[Stream | Strips] = [
        _inside_its_value(stream, tiff)
        for stream in find_pictures(exif)
        if stream.start not in known
    ]
    for directory in tiff.chain() if tiff else []:
        for below in tiff.below(directory, _SUB_IFDS) if tiff else []:
            strips = find_strips(tiff, below) if tiff else None
            if strips and any(any(exif[start:end]) for start, end in strips.ranges):
                found.append(strips)
    return found


def _inside_its_value(stream: Stream, tiff: Tiff | None) -> Stream:
    """The part of a picture without a known end that lies in the same tag's value."""
    ends = [
        entry.end
        for directory in (_directories(tiff) if tiff else [])
        for entry in directory.entries.values()
        if entry.start <= stream.start < entry.end
    ]
    return Stream(stream.start, min([stream.end, *ends]))


def _directories(tiff: Tiff) -> list[Directory]:
    """The chain, and the EXIF directory below its first."""
    chain = tiff.chain()
    return chain + [each for first in chain[:1] for each in tiff.below(first, _EXIF_IFD)]


def _samples(tiff: Tiff, directory: Directory) -> Stream | Strips | None:
    stream = stream_at(tiff.data, tiff.integer(directory, _JPEG_START))
    if stream is None:
        return find_strips(tiff, directory)
    if tiff.data[stream.end - 2 : stream.end] != b"\xff\xd9":  # it has no end but the one declared
        end = stream.start + tiff.integer(directory, _JPEG_LENGTH)
        return Stream(stream.start, min(stream.end, max(end, stream.start + 4)))
    return stream


def _settle_thumbnail(
    block: bytearray, exif: bytes, thumbnail: Thumbnail, settling: Settling
) -> None:
    samples = thumbnail.samples
    old = thumbnail.read(exif) if settling.rebuilds(THUMBNAIL) else None
    _clear(block, samples)
    if old is not None:
        drawn = drawn_like(old, settling.edited)
        if isinstance(samples, Strips):
            samples.write(drawn, block)
            settling.rebuilt(THUMBNAIL)
            return
        if _place(block, drawn, thumbnail.directory, samples):
            settling.rebuilt(THUMBNAIL)
            return
    _unlink(block, thumbnail)
    settling.drop(THUMBNAIL)


def _place(block: bytearray, drawn: Image.Image, directory: Directory, old: Stream) -> bool:
    """Write a JPEG where the old one was, or at the end; False if there is no room for it."""
    coded, start = as_jpeg(drawn, old.end - old.start, bare=True), old.start
    if coded is None:
        start = len(block) + len(block) % 2
        coded = as_jpeg(drawn, MAX_BLOCK - start, bare=True)
    if coded is None:
        return False
    block.extend(bytes(max(start - len(block), 0)))
    block[start : start + len(coded)] = coded
    tiff = Tiff(bytes(block[:8]))
    for tag, number in ((_JPEG_START, start), (_JPEG_LENGTH, len(coded))):
        entry = directory.entries.get(tag)
        if entry:
            described = tiff.packed16(LONG) + tiff.packed32(1, number)
            block[entry.position + 2 : entry.position + 12] = described
    return True


def _unlink(block: bytearray, thumbnail: Thumbnail) -> None:
    """Take a directory out of the chain."""
    directory = thumbnail.directory
    following = block[directory.link : directory.end] if directory.next else bytes(4)
    block[thumbnail.link : thumbnail.link + 4] = following
    if directory.end - directory.position <= 12 * _MAX_ENTRIES:
        end = min(directory.end, len(block))
        block[directory.position : end] = bytes(end - directory.position)


def _clear(block: bytearray, samples: Stream | Strips) -> None:
    if isinstance(samples, Strips):
        samples.clear(block)
    else:
        block[samples.start : samples.end] = bytes(samples.end - samples.start)


def _mark(block: bytearray, settling: Settling) -> None:
    """Name ourselves in the software tag: in its old value's place, or in a new first directory."""
    data = bytes(block)
    tiff = Tiff.of(data)
    first = tiff.chain()[:1] if tiff else []
    if tiff is None or not first:
        settling.unmarked("EXIF")
        return
    text = SOFTWARE.encode() + b"\0"
    entry = first[0].entries.get(_SOFTWARE)
    if entry and entry.kind == ASCII and entry.end - entry.start >= len(text):
        block[entry.start : entry.end] = text.ljust(entry.end - entry.start, b"\0")
        block[entry.position + 4 : entry.position + 8] = tiff.packed32(len(text))
        return
    start = len(block) + len(block) % 2
    moved = _with_software(tiff, first[0], start, text)
    # Values that lie behind the end would suddenly lie inside.
    if start + len(moved) > MAX_BLOCK or not first[0].is_sound:
        settling.unmarked("EXIF")
        return
    block.extend(bytes(start - len(block)))
    block.extend(moved)
    block[4:8] = tiff.packed32(start)


def _with_software(tiff: Tiff, first: Directory, start: int, text: bytes) -> bytes:
    """A copy of a directory that names the software, for this position, its text behind it."""
    raw = tiff.data[first.position + 2 : first.end - 4]
    rows = {tiff.u16(raw[at : at + 2]): raw[at : at + 12] for at in range(0, len(raw), 12)}
    count = len(rows | {_SOFTWARE: b""})
    behind = start + 2 + 12 * count + 4
    rows[_SOFTWARE] = tiff.packed16(_SOFTWARE, ASCII) + tiff.packed32(len(text), behind)
    in_order = [rows[tag] for tag in sorted(rows)]
    return b"".join([tiff.packed16(count), *in_order, tiff.packed32(first.next), text])
