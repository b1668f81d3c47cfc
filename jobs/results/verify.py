"""Compares stored results with their sources, file by file.

The comparison (:mod:`stages.verify`) shares no code with the steps that wrote the results. Only
what finds the masked pixels is shared: the steps that fetch and decode the photo, and read, restore
and dilate its marks. An error there is not detected; the crops that the lineage records limit its
effect. What the lineage records as changed beyond the mask (``effects``) may differ, if it is
within the recipe's limits.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import chain

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.results.recipe_results import READ_THREADS, RecipeResults, id_hash, results_by_recipe
from manifests.errors import OutputError, RowError
from manifests.schema import OK, LineageRow, lineage_row
from manifests.storage.row_files import read
from stages.photo import Photo
from stages.pixels.shapes import decode_rle
from stages.recipe import Recipe
from stages.recipe.options import MaskOptions
from stages.steps.decode import build_decode
from stages.steps.detect import build_restore
from stages.steps.fetch import build_fetch
from stages.steps.mask import build_mask
from stages.verify import Expected, Finding, UncheckableError, compare
from stages.verify.samples import BoolMask

#: The lineage's note for a JPEG to which ``limits.damage = repair`` added its end marker.
_END_APPENDED = "end marker of the JPEG appended"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One result compared with its source.

    Attributes:
        id: of the row.
        fidelity: as recorded in the lineage.
        found: result of the comparison; None if it was not possible.
        problem: differences from the lineage; empty if there are none.
        unchecked_reason: kind of the reason why it could not be checked; empty if it could.
        detail: the reason in full.
    """

    id: str
    fidelity: str
    found: Finding | None = None
    problem: str = ""
    unchecked_reason: str = ""
    detail: str = ""


def verify(output: str, sample: int | None = None) -> Iterator[Verdict]:
    """Check the finished rows of the most recent recipe of an output folder that cleans photos.

    Args:
        output: path or URI of a run's results.
        sample: number of rows to check, sampled evenly: the same ones each time; None: all.

    Raises:
        OutputError: ``output.not_found``: there is no run there, or none that cleans.
    """
    cleaned = [results for results in results_by_recipe(output) if results.cleans]
    if not cleaned:
        raise OutputError(
            "output.not_found", f"{output} has no cleaned photos: only `detect` was run."
        )
    results = cleaned[-1]
    chosen = None if sample is None else _sampled(results, sample)
    columns = [f.name for f in fields(LineageRow)]
    for shard in range(results.plan.shards) if chosen is None else sorted(chosen):
        rows = results.ledger.latest(shard, columns)
        rows = rows.filter(pc.equal(rows["status"], OK))
        if chosen is not None:
            rows = rows.filter(pc.is_in(rows["id"], value_set=pa.array(chosen[shard])))
        for row in rows.to_pylist(maps_as_pydicts="strict"):
            yield _verdict(lineage_row(row), results.recipe)


def _sampled(results: RecipeResults, count: int) -> Mapping[int, Sequence[str]]:
    """Select finished rows by the hashes of their ids; returns shard -> ids.

    All shards are read, but only which ids they have.
    """

    def finished(shard: int) -> list[tuple[int, int, str]]:
        rows = results.ledger.latest(shard, ["id", "status"])
        ids = rows["id"].filter(pc.equal(rows["status"], OK)).to_pylist()
        return [(id_hash(name), shard, name) for name in ids]

    with ThreadPoolExecutor(READ_THREADS) as pool:
        rows = chain.from_iterable(pool.map(finished, range(results.plan.shards)))
        chosen = defaultdict[int, list[str]](list)
        for _, shard, name in heapq.nsmallest(count, rows):
            chosen[shard].append(name)
    return chosen


def _verdict(row: LineageRow, recipe: Recipe) -> Verdict:
    fidelity = row.fidelity or "nothing recorded"
    try:
        result = read(row.output_uri or "", "image")
    except RowError as error:
        return Verdict(row.id, fidelity, problem=f"the result cannot be read: {error}")
    try:
        source, hole = _source(row, recipe)
        effects = decode_rle(row.effects, hole.shape[1], hole.shape[0])
        note = "; ".join(filter(None, (row.metadata_note, row.fidelity_note)))
        if _END_APPENDED in note.split("; "):  # a mask's is another sentence
            source = source.rstrip(b"\xff") + b"\xff\xd9"
        changed = _pasted(row, hole, recipe) | effects
        promise = Expected(fidelity, changed, note, recipe.metadata.mark_edit)
        found = compare(source, result, promise)
        problems = [*found.problems, *_problems_of(effects, row, hole, recipe.mask)]
    except UncheckableError as error:
        reason = str(error)
        return Verdict(row.id, fidelity, unchecked_reason=reason.partition(":")[0], detail=reason)
    except Exception as error:  # whatever a library raises must not stop the other rows
        detail = f"{type(error).__name__}: {error}"
        return Verdict(row.id, fidelity, unchecked_reason="the check itself failed", detail=detail)
    if hashlib.sha256(result).hexdigest() != row.output_sha256:
        problems.insert(0, "not the file that was stored")
    return Verdict(row.id, fidelity, found, ", ".join(problems))


def _source(row: LineageRow, recipe: Recipe) -> tuple[bytes, BoolMask]:
    """Read the source and its hole, ``(h, w)`` bool, displayed frame.

    Raises:
        UncheckableError: a file is missing, or changed after the row was done.
    """
    photo = Photo(LineageRow(row.id, image_uri=row.image_uri, mask_uri=row.mask_uri))
    photo.lineage.marks, photo.lineage.detected_uri = row.marks, row.detected_uri
    try:
        build_fetch(recipe)(photo)
        source = photo.original
        if photo.lineage.image_sha256 != row.image_sha256:
            raise UncheckableError("the source has changed since")
        if photo.lineage.mask_sha256 != row.mask_sha256:
            raise UncheckableError("the mask has changed since")
        for build in (build_decode, build_restore, build_mask):
            build(recipe)(photo)
        if photo.lineage.region_sha256 != row.region_sha256:
            raise UncheckableError("the detected mask has changed since")
    except RowError as error:
        raise UncheckableError(f"the source or its mask cannot be read: {error}") from error
    assert photo.hole is not None
    return source, photo.hole


def _pasted(row: LineageRow, hole: BoolMask, recipe: Recipe) -> BoolMask:
    """Where the mask and its soft edge may have changed the photo, ``(h, w)`` bool."""
    height, width = hole.shape
    pasted = np.zeros_like(hole)
    for patch in row.patches:
        pasted[_slices(patch.crop)] = True
    return pasted & (_distance(hole) < recipe.mask.feather_for(width, height) + 1)


def _problems_of(
    effects: BoolMask, row: LineageRow, hole: BoolMask, options: MaskOptions
) -> Iterator[str]:
    """Yield how the recorded effects break the recipe's limits."""
    count = int(np.count_nonzero(effects))
    if options.effects == "off":
        if count or row.effects_px is not None:
            yield "changed beyond the mask, though mask.effects is off"
        return
    if count != row.effects_px:
        yield f"{count} px beyond the mask changed, {row.effects_px} are recorded"
    if count > options.effects_area * np.count_nonzero(hole):
        yield "changed more beyond the mask than mask.effects_area"
    reached = np.zeros_like(hole)
    for patch in row.patches:
        part, masked = _slices(patch.crop), _slices(patch.region)
        own = np.zeros_like(hole)
        own[masked] = hole[masked]
        reach_px = options.effects_reach * max(patch.region["width"], patch.region["height"])
        reached[part] |= _distance(own[part]) < reach_px
    if (effects & ~reached).any():
        yield "changed farther beyond the mask than mask.effects_reach"


def _distance(mask: BoolMask) -> npt.NDArray[np.float32]:
    """Distance in px from each pixel to the nearest True one."""
    inverse = (~mask).view(np.uint8)
    return np.asarray(cv2.distanceTransform(inverse, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))


def _slices(box: Mapping[str, int]) -> tuple[slice, slice]:
    """Index of a recorded box, whatever it holds."""
    x, y, width, height = (box[name] for name in ("x", "y", "width", "height"))
    return slice(max(y, 0), max(y + height, 0)), slice(max(x, 0), max(x + width, 0))
