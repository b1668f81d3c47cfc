"""What becomes of a TIFF's tags after an edit: all stay that do not tell of the old picture."""

from __future__ import annotations

from stages.codecs.blocks import C2PA_DROPPED, Blocks
from stages.codecs.tiff_file import ASCII, BYTE, UNDEFINED, TiffFile

_SOFTWARE, _XMP, _IPTC, _PHOTOSHOP, _EXIF, _C2PA = 305, 700, 33723, 34377, 34665, 52545
_MAKER_NOTE = 37500


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
    entries = file.entries(directory)
    if _IPTC in entries:
        file.set_padded(entries[_IPTC], blocks.iptc(file.content(entries[_IPTC])))
    if _EXIF in entries:
        below = file.entries(file.integer(entries[_EXIF]))
        if _MAKER_NOTE in below:  # its previews are wiped, and nothing in it moves
            note = below[_MAKER_NOTE]
            file.set_padded(note, blocks.maker_note(file.content(note)))
    if _C2PA in entries:
        file.drop(directory, _C2PA)
        blocks.notes.append(C2PA_DROPPED)
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
