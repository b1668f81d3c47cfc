"""Compare a result with its source, independently of what wrote it.

It shares no code with the writer, except for the libraries' settings (:mod:`stages.libraries`):
files are parsed by this package's own parsers, pictures are decoded by libraries directly, and a
metadata difference is accepted only if the row's notes name it or the recipe labels edits. The
caller supplies the pixels where the picture may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.libraries import configure_libraries
from stages.verify.blocks import Metadata
from stages.verify.containers import list_metadata
from stages.verify.differences import unexplained_differences
from stages.verify.embedded import embedded_pictures, is_stale
from stages.verify.samples import (
    BoolMask,
    Decoded,
    UncheckableError,
    check_coefficients,
    check_reencoded,
    check_samples,
    decode,
)

__all__ = ["Expected", "Finding", "UncheckableError", "compare", "unexplained_differences"]


@dataclass(frozen=True, slots=True)
class Expected:
    """The recorded outcome of a row, which the result must fulfil.

    Attributes:
        fidelity: the fidelity in the lineage.
        changed: ``(h, w)`` bool, displayed frame: where samples may differ.
        note: the lineage's ``metadata_note`` and ``fidelity_note``; empty: only the
            picture was changed.
        labels_edit: whether the recipe labels edits.
    """

    fidelity: str
    changed: BoolMask
    note: str = ""
    labels_edit: bool = False


@dataclass(slots=True)
class Finding:
    """The outcome of a comparison.

    Attributes:
        outside: a phrase for what is identical outside the mask.
        unexplained_differences: names of metadata that differ, which the note does not explain.
        previews: a phrase for the previews in the result.
        problems: the violations of the promise; empty if there are none.
    """

    outside: str = ""
    unexplained_differences: list[str] = field(default_factory=list)
    previews: str = "none"
    problems: list[str] = field(default_factory=list)


def compare(source: bytes, result: bytes, promise: Expected) -> Finding:
    """Compare a result with its source.

    Raises:
        UncheckableError: no decoder is available, or the source cannot be decoded.
    """
    configure_libraries()
    if source == result:
        is_kept = promise.fidelity == "identical"
        problems = [] if is_kept else ["nothing was cleaned"]
        return Finding("whole file identical", problems=problems)
    found = Finding()
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
    old, new = list_metadata(source), list_metadata(result)
    turns = [
        0 if picture.is_turned else metadata.orientation
        for picture, metadata in ((before, old), (after, new))
    ]
    shown = _displayed(before, turns[0]), _displayed(after, turns[1])
    if not shown[0].pixels.shape[:2] == shown[1].pixels.shape[:2] == promise.changed.shape:
        found.problems.append("another size")
        return found
    if promise.fidelity == "coefficients":
        stored = _stored(promise.changed, turns[0])
        found.outside, problem = check_coefficients(source, result, (before, after), stored)
    else:
        check = check_samples if promise.fidelity == "lossless" else check_reencoded
        found.outside, problem = check(*shown, promise.changed)
    found.problems += [problem] if problem else []
    found.unexplained_differences = unexplained_differences(
        old,
        new,
        promise.note,
        labels_edit=promise.labels_edit,
        converted=_kind(source) != _kind(result),
        is_turned=before.is_turned,
    )
    if found.unexplained_differences:
        found.problems.append(f"metadata changed: {', '.join(found.unexplained_differences)}")
    as_stored = replace(before, pixels=_stored(shown[0].pixels, turns[1]))
    _check_previews(found, (old, new), (as_stored, after))
    return found


def _kind(data: bytes) -> bytes:
    """The name or the first bytes of a file's format."""
    if data[4:8] == b"ftyp":  # the main brand of a HEIC may be mif1, as that of an AVIF
        brands = data[8 : int.from_bytes(data[:4])]
        return b"AVIF" if b"avif" in brands or b"avis" in brands else b"HEIC"
    return b"TIFF" if data[:2] in (b"II", b"MM") else data[:3]


def _stored(displayed: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """``(h, w, ...)`` in the stored frame, given the EXIF orientation, 1 to 8, that displays it."""
    stored = displayed.swapaxes(0, 1) if orientation in (5, 7) else displayed
    stored = np.rot90(stored, {3: 2, 6: 1, 7: 2, 8: 3}.get(orientation, 0))
    return stored[:, ::-1] if orientation == 2 else stored[::-1] if orientation == 4 else stored


def _displayed(picture: Decoded, orientation: int) -> Decoded:
    """Rotate a picture to the displayed frame; all orientations but 6 and 8 are self-inverse."""
    back = {6: 8, 8: 6}.get(orientation, orientation)
    return replace(picture, pixels=_stored(picture.pixels, back))


def _check_previews(found: Finding, files: Sequence[Metadata], pictures: Sequence[Decoded]) -> None:
    old, new = (list(embedded_pictures(each)) for each in files)
    stale = [name for name, preview in new if is_stale(preview, *pictures)]
    counts = {"rebuilt": len(new) - len(stale), "dropped": len(old) - len(new), "stale": len(stale)}
    found.previews = ", ".join(f"{n} {what}" for what, n in counts.items() if n > 0) or "none"
    if stale:
        found.problems.append(f"the old picture still shows: {', '.join(stale)}")
