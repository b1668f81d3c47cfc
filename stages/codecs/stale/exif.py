"""Refresh an EXIF block: its thumbnail, the previews in maker notes, the software tag.

Nothing in a block moves, since maker notes hold positions that only their makers know: a JPEG
thumbnail is drawn again where the old one was, or behind everything else. All other pictures are
zeroed, the uncompressed thumbnails of cameras before 2004 among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice, pairwise

from PIL import Image
from PIL.ExifTags import IFD, Base

from stages.codecs.stale.pictures import (
    Stream,
    as_jpeg,
    drawn_like,
    find_pictures,
    open_jpeg,
    stream_at,
)
from stages.codecs.stale.policy import SOFTWARE, StaleDataPolicy
from stages.codecs.stale.segments import EXIF
from stages.codecs.tiff.file import ASCII, TiffFile

THUMBNAIL, PREVIEW = "EXIF thumbnail", "preview inside the EXIF"
UNREADABLE = "EXIF that cannot be read"

#: What a JPEG segment holds besides the name, which may be there twice.
MAX_BLOCK = EXIF.max_content - len(EXIF.name)

_MAX_DIRECTORIES, _MAX_SUB_IFDS = 8, 32

#: Tags that say where uncompressed samples lie, and how long they are.
_SAMPLES = ((Base.StripOffsets, Base.StripByteCounts), (Base.TileOffsets, Base.TileByteCounts))


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture in the chain of directories.

    Attributes:
        directory: position of what describes it.
        parts: where it lies: a JPEG in one part, or strips of samples.
        is_jpeg: whether it is a JPEG.
    """

    directory: int
    parts: list[Stream]
    is_jpeg: bool


def refresh_exif(exif: bytes, policy: StaleDataPolicy, *, label: bool = True) -> bytes:
    """Refresh a TIFF-structured block, with or without the name that JPEG puts before it.

    Not for whole TIFF files, whose first directory is the picture itself. The same object comes
    back if nothing changed; raises RowError ``image.stale_preview`` if the policy is to refuse.

    A block that is no TIFF structure becomes empty, and is to be left out of the file: nobody can
    find the thumbnail in it, nor read anything else.

    Args:
        exif: the block.
        policy: of the file.
        label: False where another block is the one to be labelled.
    """
    name = EXIF.name if exif.startswith(EXIF.name) else b""
    bare = exif[len(name) :]
    if not bare:
        return exif
    file = TiffFile.of_exif(bare)
    chain = list(islice(file.directories(), _MAX_DIRECTORIES)) if file else []
    if file is None or not chain:
        policy.drop(UNREADABLE)
        return b""
    thumbnails = _find_thumbnails(file, chain)
    for preview in _find_previews(file, chain, thumbnails):
        policy.drop(PREVIEW)
        file.wipe(preview.start, preview.size)
    for thumbnail in thumbnails:
        _refresh_thumbnail(file, thumbnail, policy)
    if label and policy.labels_edit:
        file = _labelled(file, chain[0], policy)
    new = bytes(file.data)
    return exif if new == bare else name + new


def _find_thumbnails(file: TiffFile, chain: list[int]) -> list[Thumbnail]:
    """The pictures in the chain of directories behind the first."""
    data, found = bytes(file.data), []
    for directory in chain[1:]:
        entries = file.entries(directory)
        stream = stream_at(data, file.integer(entries.get(Base.JpegIFOffset)))
        if stream is None:
            if strips := _strips(file, directory, chain):
                found.append(Thumbnail(directory, strips, is_jpeg=False))
            continue
        if data[stream.end - 2 : stream.end] != b"\xff\xd9":  # it has no end but the one declared
            end = stream.start + file.integer(entries.get(Base.JpegIFByteCount))
            stream = Stream(stream.start, min(stream.end, max(end, stream.start + 4)))
        found.append(Thumbnail(directory, [stream], is_jpeg=True))
    return found


def _find_previews(
    file: TiffFile, chain: list[int], thumbnails: list[Thumbnail]
) -> Iterable[Stream]:
    """All other pictures: those with a signature wherever they are, and the samples of sub-IFDs."""
    data = bytes(file.data)
    known = {part.start for thumbnail in thumbnails for part in thumbnail.parts}
    values = [
        Stream(entry.value, entry.value + entry.size)
        for directory in [*chain, *file.below(chain[0], IFD.Exif)]
        for entry in file.entries(directory).values()
    ]
    for stream in find_pictures(data):
        if stream.start not in known:  # one without a known end ends with the tag that it is in
            ends = [value.end for value in values if value.start <= stream.start < value.end]
            yield Stream(stream.start, min([stream.end, *ends]))
    for directory in chain:
        for below in file.below(directory, Base.SubIFDs)[:_MAX_SUB_IFDS]:
            strips = _strips(file, below, chain)
            yield from (strip for strip in strips if any(data[strip.start : strip.end]))


def _strips(file: TiffFile, directory: int, chain: list[int]) -> list[Stream]:
    """Where a directory's uncompressed samples lie; none if it has none, or not where it says."""
    entries = file.entries(directory)
    inner = [each for tag in (IFD.Exif, IFD.GPSInfo) for each in file.below(chain[0], tag)]
    extents = [file.extent(each) for each in {*chain, *inner, directory}]
    taken = [Stream(start, start + size) for start, size in extents]
    for offsets, sizes in _SAMPLES:
        starts, lengths = file.integers(entries.get(offsets)), file.integers(entries.get(sizes))
        pairs = zip(starts, lengths, strict=False)
        found = [Stream(start, start + length) for start, length in pairs if length]
        inside = all(each.start >= 8 and each.end <= len(file.data) for each in found)
        in_order = sorted([*found, *taken], key=lambda each: each.start)
        # Where they overlap the block is damaged: clearing them would clear the directories.
        if found and inside and all(one.end <= two.start for one, two in pairwise(in_order)):
            return found
    return []


def _refresh_thumbnail(file: TiffFile, thumbnail: Thumbnail, policy: StaleDataPolicy) -> None:
    old = None
    if policy.should_rebuild(THUMBNAIL) and thumbnail.is_jpeg:
        (place,) = thumbnail.parts
        old = open_jpeg(bytes(file.data[place.start : place.end]))
    for part in thumbnail.parts:
        file.wipe(part.start, part.size)
    if old is not None and _write_jpeg(file, thumbnail, drawn_like(old, policy.edited)):
        policy.rebuilt(THUMBNAIL)
        return
    file.unlink(thumbnail.directory)
    policy.drop(THUMBNAIL)


def _write_jpeg(file: TiffFile, thumbnail: Thumbnail, drawn: Image.Image) -> bool:
    """Write a JPEG where the old one was, or at the end; False if there is no room for it."""
    (old,) = thumbnail.parts
    coded, start = as_jpeg(drawn, old.size, bare=True), old.start
    if coded is None:
        coded = as_jpeg(drawn, MAX_BLOCK - len(file.data) - 1, bare=True)
        if coded is None:
            return False
        start = file.append(coded)
    file.data[start : start + len(coded)] = coded
    entries = file.entries(thumbnail.directory)
    for tag, number in ((Base.JpegIFOffset, start), (Base.JpegIFByteCount, len(coded))):
        if tag in entries:
            file.set_long(entries[tag], number)
    return True


def _labelled(file: TiffFile, directory: int, policy: StaleDataPolicy) -> TiffFile:
    """The block with our name in the software tag; as it was, with a note, if there is no room."""
    labelled = TiffFile(bytes(file.data))
    labelled.set_content(directory, Base.Software, ASCII, SOFTWARE.encode() + b"\0")
    # In a longer block, values that lay behind the end would suddenly lie inside.
    may_grow = file.is_sound(directory) and len(labelled.data) <= MAX_BLOCK
    if len(labelled.data) > len(file.data) and not may_grow:
        policy.unlabelled("EXIF")
        return file
    return labelled
