"""Refresh an EXIF block: its thumbnail, the previews in maker notes, the software tag.

Nothing in a block moves, since maker notes contain offsets in undocumented places: a JPEG thumbnail
is rebuilt at the position of the old one, or at the end. All other pictures are zeroed, including
the uncompressed thumbnails of cameras before 2004.
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

#: Maximum size of a block: a JPEG segment less the name, which may occur twice.
MAX_BLOCK = EXIF.max_content - len(EXIF.name)

_MAX_DIRECTORIES, _MAX_SUB_IFDS = 8, 32

#: Tags with the positions and lengths of uncompressed samples.
_SAMPLES = ((Base.StripOffsets, Base.StripByteCounts), (Base.TileOffsets, Base.TileByteCounts))


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A thumbnail in the chain of directories.

    Attributes:
        directory: position of the directory that describes it.
        parts: its position: one range for a JPEG, else one for each strip of samples.
        is_jpeg: whether it is a JPEG.
    """

    directory: int
    parts: list[Stream]
    is_jpeg: bool


def refresh_exif(exif: bytes, policy: StaleDataPolicy, *, label: bool = True) -> bytes:
    """Refresh an EXIF block, with or without the prefix that JPEG puts before it.

    Not for TIFF files, whose first directory is the picture itself. Returns the same object if
    nothing changed; raises RowError ``image.stale_preview`` if the policy is to refuse.

    A block that is no valid TIFF structure becomes empty, and must be left out of the file: a
    thumbnail in it could not be found.

    Args:
        exif: the block.
        policy: the policy for the file.
        label: whether to label the edit in this block if the policy labels edits.
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
    """Find the pictures in the chain of directories after the first."""
    data, found = bytes(file.data), []
    for directory in chain[1:]:
        entries = file.entries(directory)
        stream = stream_at(data, file.integer(entries.get(Base.JpegIFOffset)))
        if stream is None:
            if strips := _strips(file, directory, chain):
                found.append(Thumbnail(directory, strips, is_jpeg=False))
            continue
        if (
            data[stream.end - 2 : stream.end] != b"\xff\xd9"
        ):  # no end marker: use the declared length
            end = stream.start + file.integer(entries.get(Base.JpegIFByteCount))
            stream = Stream(stream.start, min(stream.end, max(end, stream.start + 4)))
        found.append(Thumbnail(directory, [stream], is_jpeg=True))
    return found


def _find_previews(
    file: TiffFile, chain: list[int], thumbnails: list[Thumbnail]
) -> Iterable[Stream]:
    """Find all other pictures: any with a known signature, and the samples of sub-IFDs."""
    data = bytes(file.data)
    known = {part.start for thumbnail in thumbnails for part in thumbnail.parts}
    values = [
        Stream(entry.value, entry.value + entry.size)
        for directory in [*chain, *file.below(chain[0], IFD.Exif)]
        for entry in file.entries(directory).values()
    ]
    for stream in find_pictures(data):
        if stream.start not in known:  # one of unknown length ends with its tag
            ends = [value.end for value in values if value.start <= stream.start < value.end]
            yield Stream(stream.start, min([stream.end, *ends]))
    for directory in chain:
        for below in file.below(directory, Base.SubIFDs)[:_MAX_SUB_IFDS]:
            strips = _strips(file, below, chain)
            yield from (strip for strip in strips if any(data[strip.start : strip.end]))


def _strips(file: TiffFile, directory: int, chain: list[int]) -> list[Stream]:
    """Positions of a directory's uncompressed samples; none if it has none, or they are invalid."""
    entries = file.entries(directory)
    inner = [place for tag in (IFD.Exif, IFD.GPSInfo) for place in file.below(chain[0], tag)]
    extents = [file.extent(each) for each in {*chain, *inner, directory}]
    taken = [Stream(start, start + size) for start, size in extents]
    for offsets, sizes in _SAMPLES:
        starts, lengths = file.integers(entries.get(offsets)), file.integers(entries.get(sizes))
        pairs = zip(starts, lengths, strict=False)
        found = [Stream(start, start + length) for start, length in pairs if length]
        inside = all(strip.start >= 8 and strip.end <= len(file.data) for strip in found)
        in_order = sorted([*found, *taken], key=lambda each: each.start)
        # If they overlap, the block is damaged, and zeroing them would destroy the directories.
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
    """Write a JPEG at the old one's position, or at the end; False if it does not fit."""
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
    """Set the software tag; leave the block unchanged, with a note, if it does not fit."""
    labelled = TiffFile(bytes(file.data))
    labelled.set_content(directory, Base.Software, ASCII, SOFTWARE.encode() + b"\0")
    # In a longer block, values beyond the old end would become valid.
    may_grow = file.is_valid(directory) and len(labelled.data) <= MAX_BLOCK
    if len(labelled.data) > len(file.data) and not may_grow:
        policy.unlabelled("EXIF")
        return file
    return labelled
