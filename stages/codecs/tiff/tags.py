"""Update a TIFF's tags after an edit: those that contain the old picture are dropped."""

from __future__ import annotations

from collections.abc import Iterable

from PIL.ExifTags import Base

from stages.codecs.stale.pictures import find_pictures
from stages.codecs.stale.policy import MANIFEST
from stages.codecs.tiff.file import ASCII, BYTE, UNDEFINED, Range, TiffFile
from stages.codecs.updater import MetadataUpdater

_C2PA = 52545

#: In a page of this compression, the tags for a JPEG thumbnail point to the page itself.
_OLD_JPEG = 6

#: Layers that editors open instead of the page: Photoshop's (ImageSourceData), and SketchBook's
#: names of those in sub-IFDs.
_LAYERS = (37724, 50784)

#: Tags that are handled separately, or cannot contain a picture.
_KNOWN = (
    Base.XMLPacket,
    Base.IPTCNAA,
    Base.ImageResources,
    Base.ExifOffset,
    Base.MakerNote,
    Base.InterColorProfile,
    _C2PA,
)


def update_tags(file: TiffFile, directory: int, blocks: MetadataUpdater, *, mark: bool) -> None:
    """Update the tags of a page, and of its EXIF, in the file.

    Args:
        file: the file, changed in place.
        directory: the page's position.
        blocks: updates metadata blocks, and collects notes.
        mark: whether to set the software tag.

    Raises:
        RowError: ``image.stale_preview``.
    """
    _drop_stale(file, directory, blocks)
    entries = file.entries(directory)
    if Base.IPTCNAA in entries:
        file.set_padded(entries[Base.IPTCNAA], blocks.iptc(file.content(entries[Base.IPTCNAA])))
    for place in file.below(directory, Base.ExifOffset):
        note = file.entries(place).get(Base.MakerNote)
        if note:  # its previews are zeroed, and nothing in it moves
            file.set_padded(note, blocks.maker_note(file.content(note)))
        _drop_pictures(file, place, blocks)
    if _C2PA in entries:
        file.drop(directory, _C2PA)
        blocks.drop(MANIFEST)
    for tag, kind, update in (
        (Base.XMLPacket, BYTE, blocks.xmp),
        (Base.ImageResources, UNDEFINED, blocks.photoshop),
    ):
        old = file.content(entries[tag]) if tag in entries else b""
        new = update(old)
        if new != old:
            directory = file.set_content(directory, tag, kind, new)
    if mark:
        file.set_content(directory, Base.Software, ASCII, b"catalog-cleanup\0")


def _drop_stale(file: TiffFile, directory: int, blocks: MetadataUpdater) -> None:
    """Drop the tags of a page that contain another form of its old picture."""
    entries = file.entries(directory)
    for tag in _LAYERS:
        if tag in entries:
            blocks.drop("layers")
            file.drop(directory, tag)
    is_page = file.integer(entries.get(Base.Compression)) == _OLD_JPEG
    if Base.JpegIFOffset in entries and not is_page:
        blocks.drop("JPEG thumbnail")
        size = file.integer(entries.get(Base.JpegIFByteCount))
        file.wipe(file.integer(entries[Base.JpegIFOffset]), size)
        file.drop(directory, Base.JpegIFOffset)
        file.drop(directory, Base.JpegIFByteCount)
    _drop_pictures(file, directory, blocks)


def _drop_pictures(file: TiffFile, directory: int, blocks: MetadataUpdater) -> None:
    """Drop the tags of a directory that contain a picture and are not handled separately."""
    for tag, entry in file.entries(directory).items():
        if tag not in _KNOWN and blocks.goes(file.content(entry), f"the tag {tag}"):
            file.drop(directory, tag)


def wipe_hidden(file: TiffFile, main: int, pages: Iterable[Range], blocks: MetadataUpdater) -> None:
    """Zero pictures that are neither a page nor the value of a tag, such as remains of old edits.

    Args:
        file: the file, changed in place, before any page or tag is.
        main: position of the edited page's directory.
        pages: positions of the strips and tiles of all pages, including sub-IFDs.
        blocks: collects notes.

    Raises:
        RowError: ``image.stale_preview``.
    """
    known = sorted([*pages, *_values(file, main)])
    position = 0
    for start, size in [*known, (len(file.data), 0)]:
        for found in find_pictures(bytes(file.data[position:start])):
            blocks.drop("picture outside the pages")
            file.wipe(position + found.start, found.size)
        position = max(position, start + size)


def _values(file: TiffFile, main: int) -> Iterable[Range]:
    """Positions of the directories, and of the values of their tags."""
    for directory in [*file.directories(), *file.below(main, Base.ExifOffset)]:
        yield file.extent(directory)
        for entry in file.iter_entries(directory):
            yield entry.value, entry.size
