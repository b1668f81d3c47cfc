"""Update a TIFF's tags after an edit: those that contain the old picture are dropped."""

from __future__ import annotations

from PIL.ExifTags import Base

from stages.codecs.stale.exif import drop_pictures
from stages.codecs.stale.photoshop import refresh_resources
from stages.codecs.stale.policy import MANIFEST, StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp
from stages.codecs.tiff.file import BYTE, UNDEFINED, TiffFile

_C2PA = 52545

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
    for place in [directory, *file.below(directory, Base.ExifOffset)]:
        drop_pictures(file, place, policy, skipped=_KNOWN)
    for tag, kind, refresh in (
        (Base.XMLPacket, BYTE, refresh_xmp),
        (Base.ImageResources, UNDEFINED, refresh_resources),
    ):
        entry = file.entries(directory).get(tag)
        old = file.content(entry) if entry else b""
        new = refresh(old, policy)
        if new != old:
            directory = file.set_content(directory, tag, kind, new)
