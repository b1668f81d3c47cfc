"""Compare a result with its source, independently of what wrote it.

Whoever checks shares no code with what is checked: files are taken apart by walkers of this
package's own, pictures are decoded by libraries directly, and a difference is accepted only where
the row's notes name it, or the recipe asked for the edit to be marked. What may have
changed of the picture is given by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.libraries import configure_libraries
from stages.verify.blocks import Parts
from stages.verify.containers import list_parts
from stages.verify.embedded import embedded_pictures, is_stale, without_pictures
from stages.verify.samples import (
    MAX_LEVELS,
    MAX_TILE_LEVELS,
    BoolMask,
    Picture,
    UncheckableError,
    check_coefficients,
    decode,
    is_same_outside,
    levels_apart,
)
from stages.verify.tiff import Value

__all__ = ["Finding", "Promise", "UncheckableError", "compare", "differing"]

#: What a note must say for a part of such a name to be ``lost``, ``changed`` or ``added``.
_EXCUSES = (
    (r"EXIF [1-9]\d*/samples changed", "EXIF thumbnail rebuilt"),
    (r"EXIF [1-9]", "EXIF thumbnail dropped"),
    (r"EXIF unlisted ", "EXIF thumbnail dropped|preview inside the EXIF dropped"),
    (r"EXIF 0/Sub", "preview inside the EXIF dropped"),
    (r"XMP .*Thumbnails", "XMP thumbnail (rebuilt|dropped)"),
    (r"XMP .*(hdr-gain-map|HDRGainMap)/", "gain map dropped"),
    (r"XMP .*photos/1\.0/depthmap/", "depth map dropped"),
    (r"XMP .*photos/1\.0/image/", "picture inside the XMP dropped"),
    (r"XMP .*camera/}(MotionPhoto|MicroVideo)", "motion photo video dropped"),
    (r"XMP .*photos/(dd/)?1\.0/container/", "(gain map|video|depth map|further picture) dropped"),
    (r"XMP .*dc/terms/}provenance", "C2PA manifest dropped"),
    (r"8BIM 103[36] ", "Photoshop thumbnail (rebuilt|dropped)"),
    (r"IPTC 2:20[012]", "IPTC preview dropped"),
    (r"JFIF thumbnail", "JFIF thumbnail (rebuilt|dropped)"),
    (r"gain map", "gain map dropped"),
    (r"MPF index", "MPF preview (rebuilt|dropped)|(picture|gain map|panorama) dropped"),
    (r"picture behind.* lost", "(MPF preview|picture|gain map|panorama) dropped"),
    (r"picture behind", "MPF preview rebuilt"),
    (r"video behind", "video dropped"),
    (r"C2PA", "C2PA manifest dropped"),
    (r"copy \d+", "smaller cop(y|ies) (rebuilt|dropped)"),
    (r"EXIF lost", "EXIF that cannot be read dropped"),
    (r"EXIF 0/(37724|50784) lost", "layers dropped"),
    (r"EXIF 0/(Exif|GPS)/", "EXIF not carried over"),
    (r"EXIF 0/", r"EXIF not carried over(;|$|, but for the orientation)|EXIF over 64 KB left out"),
    (r"(APP\d+|comment).* lost", "preview in (a comment|an APP[0-9]+ segment) dropped"),
    (r"XMP ", "XMP over 64 KB left out"),
    (r"item|auxiliary picture", "(gain maps?|further pictures?|thumbnail) dropped"),
)

#: Where a file says which software edited it, and whether a model did.
_MARKS = re.compile(
    r"EXIF 0/305$|EXIF unlisted$|"
    r"XMP .*({http://ns\.adobe\.com/xap/1\.0/}CreatorTool|"
    r"{http://ns\.adobe\.com/tiff/1\.0/}Software|"
    r"{http://iptc\.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType)"
)

#: What another format keeps of the metadata: tags of the photo, not of how its file is laid out.
_CONVERTED = re.compile(r"XMP |ICC$|EXIF 0/(270|271|272|306|315|316|33432|Exif/\d+|GPS/\d+)$")

_CONVERTED_OR_TOLD = re.compile(_CONVERTED.pattern + r"|IPTC|8BIM|comment|APP\d|JUMBF|page \d")


@dataclass(frozen=True, slots=True)
class Promise:
    """What was recorded of a row.

    Attributes:
        fidelity: as in the lineage.
        changed: ``(h, w)`` bool, displayed frame: where samples may differ.
        note: the lineage's ``metadata_note`` and ``fidelity_note``; empty: nothing was changed
            but the picture.
        is_marked: whether the edit was to be marked.
    """

    fidelity: str
    changed: BoolMask
    note: str = ""
    is_marked: bool = False


@dataclass(slots=True)
class Finding:
    """What a comparison has found.

    Attributes:
        outside: what is the same outside the mask, in words.
        differing: names of metadata that differ without a word in the note.
        previews: what pictures inside the result show, in words.
        problems: what of the promise does not hold; none: all of it does.
    """

    outside: str = ""
    differing: list[str] = field(default_factory=list)
    previews: str = "none"
    problems: list[str] = field(default_factory=list)


def compare(source: bytes, result: bytes, promise: Promise) -> Finding:
    """Compare a result with its source.

    Raises:
        UncheckableError: there is nothing here to check it with, or the source cannot be decoded.
    """
    configure_libraries()
    found = Finding()
    if source == result:
        found.outside = "whole file identical"
        if promise.fidelity != "identical":
            found.problems.append("nothing was cleaned")
        return found
    if promise.fidelity == "identical":
        found.problems.append("the file changed, though its mask is empty")
    try:
        before = decode(source)
    except UncheckableError:
        raise
    except Exception as error:
        raise UncheckableError(f"the source cannot be decoded: {error}") from error
    try:
        after = decode(result)
    except Exception as error:
        found.problems.append(f"the result cannot be decoded: {error}")
        return found
    parts = list_parts(source), list_parts(result)
    turns = [
        1 if picture.is_turned else each.orientation
        for picture, each in zip((before, after), parts, strict=True)
    ]
    shown = [_turned(each, turn) for each, turn in zip((before, after), turns, strict=True)]
    if not shown[0].pixels.shape[:2] == shown[1].pixels.shape[:2] == promise.changed.shape:
        found.problems.append("another size")
        return found
    if promise.fidelity == "coefficients":
        stored = _stored(promise.changed, turns[0])
        found.outside = _check_jpeg(found, (source, result), parts, stored)
    else:
        _check_samples(found, shown, promise)
    converted = _kind(source) != _kind(result)
    found.differing = differing(
        *parts,
        promise.note,
        is_marked=promise.is_marked,
        converted=converted,
        is_turned=before.is_turned,
    )
    if found.differing:
        found.problems.append(f"metadata changed: {', '.join(found.differing)}")
    framed = [replace(each, pixels=_stored(each.pixels, turns[1])) for each in shown]
    _check_previews(found, (source, result), parts, framed)
    return found


def _kind(data: bytes) -> bytes:
    return (
        b"TIFF" if data[:2] in (b"II", b"MM") else data[4:12] if data[4:8] == b"ftyp" else data[:3]
    )


def _stored(displayed: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """``(h, w, ...)`` in the stored frame, given the EXIF orientation, 1 to 8, that displays it."""
    stored = displayed.swapaxes(0, 1) if orientation in (5, 7) else displayed
    stored = np.rot90(stored, {3: 2, 6: 1, 7: 2, 8: 3}.get(orientation, 0))
    return stored[:, ::-1] if orientation == 2 else stored[::-1] if orientation == 4 else stored


def _turned(picture: Picture, orientation: int) -> Picture:
    """The picture as displayed: only the quarter turns, 6 and 8, are not their own inverses."""
    back = {6: 8, 8: 6}.get(orientation, orientation)
    return replace(picture, pixels=_stored(picture.pixels, back))


def _check_jpeg(
    found: Finding, files: tuple[bytes, bytes], parts: tuple[Parts, Parts], changed: BoolMask
) -> str:
    if not all(each.coding for each in parts):
        found.problems.append("it is no JPEG")
        return ""
    kept, problem = check_coefficients(*files, parts, changed)
    found.problems += [problem] if problem else []
    return problem or f"coefficients of {kept:,} blocks identical"


def _check_samples(found: Finding, pictures: Sequence[Picture], promise: Promise) -> None:
    before, after = pictures
    if promise.fidelity == "lossless":
        same = is_same_outside(before, after, promise.changed)
        found.outside = "all samples identical" if same else "samples changed"
        found.problems += [] if same else ["samples outside the mask changed"]
        return
    if before.is_cmyk != after.is_cmyk:
        raise UncheckableError("CMYK was converted by a profile")
    mean, tile = levels_apart(before, after, promise.changed)
    found.outside = f"coded again: {mean:.2f} of 255 levels apart"
    if mean > MAX_LEVELS or tile > MAX_TILE_LEVELS:
        found.problems.append("another picture outside the mask")


def differing(
    old: Parts,
    new: Parts,
    note: str,
    *,
    is_marked: bool = False,
    converted: bool = False,
    is_turned: bool = False,
) -> list[str]:
    """Names of parts that are not the same, though the note says nothing of them.

    Args:
        old: of the source.
        new: of the result.
        note: as in :class:`Promise`.
        is_marked: likewise.
        converted: whether the result has another format, which holds less.
        is_turned: whether its decoder turned the picture, which leaves nothing to turn.
    """
    names = sorted(old.values.keys() | new.values.keys())
    if converted:
        is_told = re.search("not carried over:|left behind", note)
        kept = _CONVERTED if is_told else _CONVERTED_OR_TOLD
        names = [name for name in names if name in old.values and kept.match(name)]
    return [
        name
        for name in names
        if old.values.get(name) != new.values.get(name)
        and not _is_excused(name, old.values.get(name), new.values.get(name), note)
        and not (is_marked and _MARKS.match(name))
        and not (is_turned and name in _ORIENTATIONS)
    ]


#: A decoder that turns a picture leaves nothing to turn.
_ORIENTATIONS = ("EXIF 0/274", "XMP {http://ns.adobe.com/tiff/1.0/}Orientation")


def _is_excused(name: str, old: Value | str | None, new: Value | str | None, note: str) -> bool:
    """Whether the note accounts for a difference."""
    if name.startswith("chunk "):
        kind = re.escape(name.split()[1])
        words = rf"chunk {kind}( with a wrong checksum)? dropped|picture in a chunk {kind} dropped"
        return new is None and bool(re.search(words, note))
    tag = re.fullmatch(r"EXIF 0/(?:Exif/)?(\d+)", name)
    if tag and new is None and f"picture in the tag {tag[1]} dropped" in note:
        return True
    if name == "behind the picture" and isinstance(old, bytes):
        is_list = old.endswith(b"SEFT") and re.search("(video|picture) dropped", note)
        return bool(is_list or "bytes behind the picture dropped" in note)
    state = f"{name} {'added' if old is None else 'lost' if new is None else 'changed'}"
    if any(re.match(pattern, state) and re.search(words, note) for pattern, words in _EXCUSES):
        return True
    # A picture in the midst of other data: these must be the same around it.
    inside = re.search(r"(preview in|picture inside)[^;]* dropped", note)
    return bool(inside and old and without_pictures(old) == without_pictures(new or b""))


def _check_previews(
    found: Finding,
    files: tuple[bytes, bytes],
    parts: tuple[Parts, Parts],
    pictures: Sequence[Picture],
) -> None:
    before, after = pictures
    old, new = (list(embedded_pictures(*each)) for each in zip(files, parts, strict=True))
    stale = [name for name, picture in new if is_stale(picture, before, after)]
    dropped = max(len(old) - len(new), 0)
    counts = {"rebuilt": len(new) - len(stale), "dropped": dropped, "stale": len(stale)}
    found.previews = ", ".join(f"{n} {what}" for what, n in counts.items() if n) or "none"
    if stale:
        found.problems.append(f"the old picture still shows: {', '.join(stale)}")
