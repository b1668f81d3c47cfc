"""Refresh an EXIF block: its thumbnail, other pictures, the software tag.

No value in a block moves, since maker notes contain offsets in undocumented places: a JPEG
thumbnail is rebuilt at the position of the old one, or at the end. Other tags that contain a
picture, such as maker notes with a preview, are dropped. A block that shows the old picture in any
other way (the uncompressed thumbnails of cameras before 2004) is dropped, except for its
orientation.
"""

from __future__ import annotations

from itertools import islice

from PIL import Image
from PIL.ExifTags import IFD, Base

from stages.codecs.orientation import in_exif
from stages.codecs.stale.pictures import as_jpeg, contains_picture, drawn_like, jpeg_end, open_jpeg
from stages.codecs.stale.policy import SOFTWARE, StaleDataPolicy
from stages.codecs.stale.segments import EXIF
from stages.codecs.tiff.file import ASCII, Range, TiffFile

THUMBNAIL = "EXIF thumbnail"
UNREADABLE, UNKNOWN = "EXIF that cannot be read", "EXIF with a preview of unknown kind"

#: Maximum size of a block: a JPEG segment less the name, which may occur twice.
MAX_BLOCK = EXIF.max_content - len(EXIF.name)

_MAX_DIRECTORIES = 8

#: Tags with the positions of uncompressed samples.
_SAMPLES = {Base.StripOffsets, Base.TileOffsets}


def refresh_exif(exif: bytes, policy: StaleDataPolicy) -> bytes:
    """Refresh an EXIF block, with or without the prefix that JPEG puts before it.

    Not for TIFF files, whose first directory is the picture itself. Returns the same object if
    nothing changed; raises RowError ``image.stale_preview`` if the policy is to refuse.

    A block that is no valid TIFF structure becomes empty, and must be left out of the file: a
    thumbnail in it could not be found.
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
    for directory in [*chain, *file.below(chain[0], IFD.Exif)]:
        drop_pictures(file, directory, policy, skipped=(Base.InterColorProfile,))
    thumbnails = {each: place for each in chain[1:] if (place := _thumbnail(file, each))}
    for start, size in thumbnails.values():
        file.wipe(start, size)
    others = {*chain[1:], *(place for each in chain for place in file.below(each, Base.SubIFDs))}
    tags = {tag for each in others - thumbnails.keys() for tag in file.entries(each)}
    if tags & _SAMPLES or contains_picture(bytes(file.data)):
        policy.drop(UNKNOWN)
        return _orientation_only(bare, name)
    for directory, (start, size) in thumbnails.items():
        _refresh_thumbnail(file, directory, start, bare[start : start + size], policy)
    if policy.labels_edit:
        file = _labelled(file, chain[0], policy)
    new = bytes(file.data)
    return exif if new == bare else name + new


def drop_pictures(
    file: TiffFile, directory: int, policy: StaleDataPolicy, skipped: tuple[int, ...]
) -> None:
    """Drop the tags of a directory that contain a picture, except those to skip."""
    for tag, entry in file.entries(directory).items():
        if tag not in skipped and policy.drops(file.content(entry), f"tag {tag}"):
            file.drop(directory, tag)


def _thumbnail(file: TiffFile, directory: int) -> Range | None:
    """Position and length of the JPEG that a directory describes; None if there is none."""
    entries = file.entries(directory)
    start, data = file.integer(entries.get(Base.JpegIFOffset)), bytes(file.data)
    end = jpeg_end(data, start)
    if end and data[end - 2 : end] != b"\xff\xd9":  # no end marker: use the declared length
        end = min(end, start + max(file.integer(entries.get(Base.JpegIFByteCount)), 4))
    return (start, end - start) if end else None


def _orientation_only(bare: bytes, name: bytes) -> bytes:
    """A new block with the old one's orientation; empty if it states none."""
    orientation, tags = in_exif(bare), Image.Exif()
    if orientation is None:
        return b""
    tags[Base.Orientation] = orientation
    return name + tags.tobytes().removeprefix(EXIF.name)


def _refresh_thumbnail(
    file: TiffFile, directory: int, start: int, old: bytes, policy: StaleDataPolicy
) -> None:
    picture = open_jpeg(old) if policy.should_rebuild(THUMBNAIL) else None
    drawn = drawn_like(picture, policy.edited) if picture else None
    coded = as_jpeg(drawn, len(old), bare=True) if drawn else None
    if drawn and coded is None:
        coded = as_jpeg(drawn, MAX_BLOCK - len(file.data) - 1, bare=True)
        start = file.append(coded or b"")
    if coded is None:
        file.unlink(directory)
        policy.drop(THUMBNAIL)
        return
    file.data[start : start + len(coded)] = coded
    entries = file.entries(directory)
    for tag, number in ((Base.JpegIFOffset, start), (Base.JpegIFByteCount, len(coded))):
        if tag in entries:
            file.set_long(entries[tag], number)
    policy.note(f"{THUMBNAIL} rebuilt")


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
