"""What becomes of a TIFF's tags after an edit: all stay that hold nothing of the old picture."""

from __future__ import annotations

from collections.abc import Iterable

from stages.codecs.blocks import Blocks
from stages.codecs.stale.jumbf import MANIFEST
from stages.codecs.stale.pictures import find_pictures
from stages.codecs.tiff.file import ASCII, BYTE, UNDEFINED, TiffFile

_SOFTWARE, _XMP, _IPTC, _PHOTOSHOP, _EXIF, _C2PA = 305, 700, 33723, 34377, 34665, 52545
_MAKER_NOTE, _COMPRESSION, _ICC = 37500, 259, 34675

#: Position and length of a JPEG: a thumbnail, or what a page of compression 6 is made of.
_JPEG, _JPEG_LENGTH, _OLD_JPEG = 513, 514, 6

#: Layers that editors open in place of the page: Photoshop's, which hold them; SketchBook's names
#: for those in sub-IFDs.
_LAYERS = (37724, 50784)

#: Tags whose pictures have a rule of their own, or whose values are no pictures.
_SETTLED = (_XMP, _IPTC, _PHOTOSHOP, _EXIF, _C2PA, _MAKER_NOTE, _ICC)

#: A range of bytes: position and length.
Range = tuple[int, int]


def settle_tags(file: TiffFile, directory: int, blocks: Blocks, *, mark: bool) -> None:
    """Settle the tags of a page, and of its EXIF, in the file.

    Args:
        file: changed in place.
        directory: the page's position.
        blocks: settles, and collects notes.
        mark: whether the software is to be named.

    Raises:
        RowError: ``image.stale_preview``.
    """
    _drop_stale(file, directory, blocks)
    entries = file.entries(directory)
    if _IPTC in entries:
        file.set_padded(entries[_IPTC], blocks.iptc(file.content(entries[_IPTC])))
    if _EXIF in entries:
        place = file.integer(entries[_EXIF])
        below = file.entries(place)
        if _MAKER_NOTE in below:  # its previews are wiped, and nothing in it moves
            note = below[_MAKER_NOTE]
            file.set_padded(note, blocks.maker_note(file.content(note)))
        _drop_pictures(file, place, blocks)
    if _C2PA in entries:
        file.drop(directory, _C2PA)
        blocks.drop(MANIFEST)
    for tag, kind, settle in (
        (_XMP, BYTE, blocks.xmp),
        (_PHOTOSHOP, UNDEFINED, blocks.photoshop),
    ):
        old = file.content(entries[tag]) if tag in entries else b""
        new = settle(old)
        if new != old:
            directory = file.set_content(directory, tag, kind, new)
    if mark:
        file.set_content(directory, _SOFTWARE, ASCII, b"catalog-cleanup\0")


def _drop_stale(file: TiffFile, directory: int, blocks: Blocks) -> None:
    """Take out the tags of a page that hold another form of its old picture."""
    entries = file.entries(directory)
    for tag in _LAYERS:
        if tag in entries:
            blocks.drop("layers")
            file.drop(directory, tag)
    compression = entries.get(_COMPRESSION)
    is_page = compression is not None and file.integer(compression) == _OLD_JPEG
    if _JPEG in entries and not is_page:
        blocks.drop("JPEG thumbnail")
        size = file.integer(entries[_JPEG_LENGTH]) if _JPEG_LENGTH in entries else 0
        file.wipe(file.integer(entries[_JPEG]), size)
        file.drop(directory, _JPEG)
        file.drop(directory, _JPEG_LENGTH)
    _drop_pictures(file, directory, blocks)


def _drop_pictures(file: TiffFile, directory: int, blocks: Blocks) -> None:
    """Take out the tags of a directory that hold a picture and have no rule of their own."""
    for tag, entry in file.entries(directory).items():
        if tag not in _SETTLED and blocks.goes(file.content(entry), f"the tag {tag}"):
            file.drop(directory, tag)


def wipe_hidden(file: TiffFile, main: int, pages: Iterable[Range], blocks: Blocks) -> None:
    """Wipe pictures that are neither a page nor the value of a tag, such as those of older edits.

    Args:
        file: changed in place, before any page or tag of it is.
        main: position of the edited page's directory.
        pages: where the strips and tiles of all pages lie, also of those below others.
        blocks: collects notes.

    Raises:
        RowError: ``image.stale_preview``.
    """
    known = sorted([*pages, *_values(file, main)])
    position = 0
    for start, size in [*known, (len(file.data), 0)]:
        for found in find_pictures(bytes(file.data[position:start])):
            blocks.drop("picture outside the pages")
            file.wipe(position + found.start, found.end - found.start)
        position = max(position, start + size)


def _values(file: TiffFile, main: int) -> Iterable[Range]:
    """Where the directories and the values of their tags lie."""
    exif = file.entries(main).get(_EXIF)
    for directory in [*file.directories(), *([file.integer(exif)] if exif else [])]:
        entries = file.entries(directory)
        yield directory, 8 + 20 * len(entries)
        for entry in entries.values():
            yield entry.value, entry.size
