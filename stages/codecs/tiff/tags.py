"""Update a TIFF's tags after an edit: those that contain the old picture are dropped."""

from __future__ import annotations

from collections.abc import Iterable

from PIL.ExifTags import Base

from stages.codecs.errors import UnsupportedError
from stages.codecs.stale.exif import drop_pictures
from stages.codecs.stale.photoshop import refresh_resources
from stages.codecs.stale.pictures import contains_picture
from stages.codecs.stale.policy import MANIFEST, SOFTWARE, StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp
from stages.codecs.tiff.file import ASCII, BYTE, UNDEFINED, Range, TiffFile

_C2PA = 52545

#: In a page of this compression, the tags for a JPEG thumbnail point to the page itself.
_OLD_JPEG = 6

#: Layers that editors open instead of the page: Photoshop's (ImageSourceData), and SketchBook's
#: names of those in sub-IFDs.
_LAYERS = (37724, 50784)

#: Tags that are handled separately, or cannot contain a picture.
_KNOWN = (Base.XMLPacket, Base.ImageResources, Base.ExifOffset, Base.InterColorProfile, _C2PA)


def update_tags(file: TiffFile, directory: int, policy: StaleDataPolicy) -> None:
    """Update the tags of a page, and of its EXIF, in the file.

    Args:
        file: the file, changed in place.
        directory: the page's position.
        policy: the policy for the file.

    Raises:
        RowError: ``image.stale_preview``.
    """
    for tags, what in ((_LAYERS, "layers"), ((_C2PA,), MANIFEST)):
        for tag in tags:
            if tag in file.entries(directory):
                policy.drop(what)
                file.drop(directory, tag)
    entries = file.entries(directory)
    is_page = file.integer(entries.get(Base.Compression)) == _OLD_JPEG
    if Base.JpegIFOffset in entries and not is_page:
        policy.drop("JPEG thumbnail")
        size = file.integer(entries.get(Base.JpegIFByteCount))
        file.wipe(file.integer(entries[Base.JpegIFOffset]), size)
        file.drop(directory, Base.JpegIFOffset)
        file.drop(directory, Base.JpegIFByteCount)
    for place in [directory, *file.below(directory, Base.ExifOffset)]:
        drop_pictures(file, place, policy, skipped=_KNOWN)
    entries = file.entries(directory)
    xmp, resources = (
        file.content(entries[tag]) if tag in entries else b""
        for tag in (Base.XMLPacket, Base.ImageResources)
    )
    for tag, kind, old, new in (
        (Base.XMLPacket, BYTE, xmp, refresh_xmp(xmp, policy)),
        (Base.ImageResources, UNDEFINED, resources, refresh_resources(resources, policy)),
    ):
        if new != old:
            directory = file.set_content(directory, tag, kind, new)
    if policy.labels_edit:
        file.set_content(directory, Base.Software, ASCII, SOFTWARE.encode() + b"\0")


def check_hidden(file: TiffFile, main: int, pages: Iterable[Range]) -> None:
    """Refuse a file with a picture that is neither a page nor the value of a tag.

    Args:
        file: the unchanged file.
        main: position of the edited page's directory.
        pages: positions of the strips and tiles of all pages, including sub-IFDs.

    Raises:
        UnsupportedError: it has one, such as the remains of an earlier edit.
    """
    position = 0
    for start, size in [*sorted([*pages, *_values(file, main)]), (len(file.data), 0)]:
        if contains_picture(bytes(file.data[position:start])):
            raise UnsupportedError("it holds a picture outside its pages and tags")
        position = max(position, start + size)


def _values(file: TiffFile, main: int) -> Iterable[Range]:
    """Positions of the directories, of the values of their tags, and of the page's thumbnail."""
    entries = file.entries(main)
    thumbnail = (entries.get(tag) for tag in (Base.JpegIFOffset, Base.JpegIFByteCount))
    start, size = map(file.integer, thumbnail)
    yield start, size
    for directory in [*file.directories(), *file.below(main, Base.ExifOffset)]:
        yield file.extent(directory)
        for entry in file.iter_entries(directory):
            yield entry.value, entry.size
