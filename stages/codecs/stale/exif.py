"""Refresh an EXIF block: its thumbnail and other pictures.

No value in a block moves, since maker notes contain offsets in undocumented places: a JPEG
thumbnail is rebuilt at the position of the old one. Other tags that contain a picture, such as
maker notes with a preview, are dropped. A block that shows the old picture in any other way (the
uncompressed thumbnails of cameras before 2004) is dropped, except for its orientation.
"""

from __future__ import annotations

from itertools import islice

from PIL import Image
from PIL.ExifTags import IFD, Base

from stages.codecs.jpeg.markers import EXIF
from stages.codecs.orientation import exif_orientation
from stages.codecs.stale.pictures import SOI, contains_picture, thumbnail
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.tiff.file import HEADER, Range, TiffEditor

THUMBNAIL = "EXIF thumbnail"
UNREADABLE, UNKNOWN = "EXIF that cannot be read", "EXIF with a preview of unknown kind"

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
    file = TiffEditor.of_exif(bare)
    if file and not any(bare[HEADER:]):
        return exif  # it has no tags
    chain = list(islice(file.directories(), _MAX_DIRECTORIES)) if file else []
    if file is None or not chain:
        policy.note_dropped(UNREADABLE)
        return b""
    for directory in [*chain, *file.below(chain[0], IFD.Exif)]:
        drop_pictures(file, directory, policy, skipped=(Base.InterColorProfile,))
    thumbnails = {each: place for each in chain[1:] if (place := _thumbnail(file, each))}
    for start, size in thumbnails.values():
        file.wipe(start, size)
    others = {*chain[1:], *(place for each in chain for place in file.below(each, Base.SubIFDs))}
    tags = {tag for each in others - thumbnails.keys() for tag in file.entries(each)}
    if tags & _SAMPLES or contains_picture(bytes(file.data)):
        policy.note_dropped(UNKNOWN)
        return _orientation_only(bare, name)
    for directory, place in thumbnails.items():
        _refresh_thumbnail(file, directory, place, policy)
    new = bytes(file.data)
    return exif if new == bare else name + new


def drop_pictures(
    file: TiffEditor, directory: int, policy: StaleDataPolicy, skipped: tuple[int, ...]
) -> None:
    """Drop the tags of a directory that contain a picture, except those to skip."""
    for tag, entry in file.entries(directory).items():
        if tag not in skipped and policy.must_drop(file.content(entry), f"tag {tag}"):
            file.drop(directory, tag)


def _thumbnail(file: TiffEditor, directory: int) -> Range | None:
    """Position and length of the JPEG that a directory describes; None if there is none.

    It ends at its end marker: some writers state a length that reaches beyond.
    """
    tags = file.entries(directory)
    start = file.integer(tags.get(Base.JpegIFOffset))
    size = file.integer(tags.get(Base.JpegIFByteCount))
    if not file.data.startswith(SOI, start):
        return None
    end = file.data.find(b"\xff\xd9", start, start + size)
    return start, min(size, len(file.data) - start) if end < 0 else end + 2 - start


def _orientation_only(bare: bytes, name: bytes) -> bytes:
    """A new block with the old one's orientation; empty if it states none."""
    orientation, tags = exif_orientation(bare), Image.Exif()
    if orientation is None:
        return b""
    tags[Base.Orientation] = orientation
    return name + tags.tobytes().removeprefix(EXIF.name)


def _refresh_thumbnail(
    file: TiffEditor, directory: int, place: Range, policy: StaleDataPolicy
) -> None:
    start, size = place
    new = thumbnail(policy.edit.as_pillow(), size) if policy.may_rebuild(THUMBNAIL) else b""
    if not new:
        file.unlink(directory)
        policy.note_dropped(THUMBNAIL)
        return
    file.data[start : start + len(new)] = new
    if entry := file.entries(directory).get(Base.JpegIFByteCount):
        file.set_integer(entry, 0, len(new))
    policy.note(f"{THUMBNAIL} rebuilt")
