"""Compare metadata, and accept the differences that a row's notes explain."""

from __future__ import annotations

import re

from stages.verify.blocks import Metadata

#: Name and state (``lost``, ``changed`` or ``added``) of an item, and the note that explains it;
#: ``\1`` is a group of the name. :func:`unexplained_differences` adds two of these sentences.
_ALLOWED = (
    (r"chunk (\w{4}).* lost", r"chunk \1( with a wrong checksum| with a picture)? dropped"),
    (r"EXIF \d+/(?:Exif/)?(\d+) lost", r"tag \1 with a picture dropped"),
    (r"EXIF [1-9]\d*/samples changed", "EXIF thumbnail rebuilt"),
    (r"EXIF [1-9]", "EXIF thumbnail dropped"),
    (r"EXIF unlisted ", "EXIF thumbnail dropped"),
    (r"EXIF (?!0/274 ).* lost", "EXIF with a preview of unknown kind dropped"),
    (r"EXIF lost", "EXIF that cannot be read dropped"),
    (r"EXIF 0/(37724|50784) lost", "layers dropped"),
    (r"EXIF 0/(Exif|GPS)/", "EXIF not carried over"),
    (r"EXIF 0/", "EXIF over 64 KB left out"),
    (r"EXIF 0/274 ", "turned by its decoder"),
    (
        r"ICC lost",
        "grey converted to sRGB by its profile|ICC profile that is not one of grey dropped",
    ),
    (r"XMP .*Thumbnails", "XMP thumbnail dropped"),
    (r"XMP .*(hdr-gain-map|HDRGainMap)/", "gain map dropped"),
    (r"XMP .*photos/1\.0/depthmap/", "depth map dropped"),
    (r"XMP .* lost", "picture inside the XMP dropped"),
    (r"XMP .*camera/}(MotionPhoto|MicroVideo)", "motion photo video dropped"),
    (r"XMP .*photos/(dd/)?1\.0/container/", "(gain map|video|depth map|further pictures?) dropped"),
    (r"XMP .*dc/terms/}provenance", "C2PA manifest dropped"),
    (r"XMP .*{http://ns\.adobe\.com/xap/1\.0/}CreatorTool", "marked as edited"),
    (r"XMP .*{http://iptc\.org/std/Iptc4xmpExt/.*}DigitalSourceType", "marked as edited"),
    (r"XMP {http://ns\.adobe\.com/tiff/1\.0/}Orientation ", "turned by its decoder"),
    (r"XMP ", "XMP over 64 KB left out"),
    (r"page \d+.* lost", "further pictures not carried over"),
    (r"XMP lost", "XMP that cannot be read with a picture dropped"),
    (r"extended XMP .*lost", "extended XMP with a picture dropped"),
    (r"8BIM 103[36] ", "Photoshop thumbnail dropped"),
    (r"8BIM (\d+).* lost", r"Photoshop resource \1 with a picture dropped"),
    (r"8BIM rest lost", "rest of the Photoshop resources with a picture dropped"),
    (r"JFIF thumbnail", "JFIF thumbnail dropped"),
    (r"gain map", "gain map dropped"),
    (r"MPF index.* lost", "data after the end of the image with a picture dropped"),
    (r"after the end lost", "data after the end of the image( with a picture)? dropped"),
    (r"C2PA", "C2PA manifest dropped"),
    (r"copy \d+", "smaller copies dropped"),
    (r"(APP\d+|comment).* lost", r"\1 with a picture dropped"),
    (r"further pictures |thumbnails |aux ", "(gain maps?|further pictures?|thumbnail) dropped"),
    (r"depth_images |aux ", "depth and gain maps dropped"),
)

#: Metadata that a converted file keeps: tags of the photo, not of the file's layout.
_CONVERTED = re.compile(
    r"XMP |ICC$|EXIF 0/(270|271|272|306|315|316|33432|Exif/\d+|GPS/\d+)$|page \d"
)


def unexplained_differences(
    old: Metadata,
    new: Metadata,
    note: str,
    *,
    labels_edit: bool = False,
    converted: bool = False,
    is_turned: bool = False,
) -> list[str]:
    """Return the names of metadata that differ without an explanation in the notes.

    Args:
        old: of the source.
        new: of the result.
        note: the notes of the row, as in :class:`stages.verify.Expected`.
        labels_edit: whether the recipe labels edits.
        converted: whether the result has another format, which holds less metadata.
        is_turned: whether the decoder rotated the picture, so that its orientation became 1.
    """
    names = sorted(old.values.keys() | new.values.keys())
    if converted:
        names = [name for name in names if name in old.values and _CONVERTED.match(name)]
    note += "; marked as edited" * labels_edit + "; turned by its decoder" * is_turned
    pairs = [(name, old.values.get(name), new.values.get(name)) for name in names]
    return [each[0] for each in pairs if each[1] != each[2] and not _is_allowed(*each, note)]


def _is_allowed(name: str, old: bytes | None, new: bytes | None, note: str) -> bool:
    state = f"{name} {'added' if old is None else 'lost' if new is None else 'changed'}"
    for pattern, words in _ALLOWED:
        match = re.match(pattern, state)
        if match and re.search(match.expand(words), note):
            return True
    return False
