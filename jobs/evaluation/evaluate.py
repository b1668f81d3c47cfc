"""Compares the results of recipes with reference photos, row by row."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from manifests.errors import RowError
from manifests.planning.marks import Marks
from manifests.planning.plan import make_plan
from manifests.reading.read import find_files, read_parts
from manifests.schema import SHARD_SCHEMA
from manifests.storage import scheme_of
from manifests.storage.row_files import read
from stages.arrays import BoolMask, UInt8Array
from stages.cleaner import Cleaner
from stages.codecs.decode import decode_photo
from stages.pixels import colour
from stages.pixels.boxes import bounds_of
from stages.pixels.masks import distance_outside
from stages.recipe import Recipe
from stages.weights.resolve import weights_of

#: Width of the ring around the hole.
RING_PX = 16

_SSIM_WINDOW_PX = 7

#: Margin of a view around the hole, relative to its longer side; max side of a view.
_MARGIN_SHARE, _VIEW_SIDE_PX = 0.6, 320

#: The PSNR of identical pictures, which has no finite value.
IDENTICAL_PSNR_DB = 99.0


@dataclass(frozen=True, slots=True)
class Case:
    """A photo, its marks, and its reference."""

    id: str
    image_uri: str
    mask_uri: str
    marks: str | None
    reference_uri: str


@dataclass(frozen=True, slots=True)
class Scores:
    """How close a result is to its reference, as 8-bit sRGB.

    Attributes:
        psnr: inside the dilated mask, dB; :data:`IDENTICAL_PSNR_DB` if nothing differs.
        ssim: likewise, up to 1.
        ring_psnr: in a ring of 16 px around it, dB.
        ring_ssim: likewise.
        outside_levels: max difference from the *photo* beyond mask, feather and recorded effects,
            0 to 255.
        seam: how much stronger edges are along the mask's border than in the reference, levels per
            px; above 0 a seam is visible, below 0 the border is smeared.
        seconds: total of all steps.
    """

    psnr: float
    ssim: float
    ring_psnr: float
    ring_ssim: float
    outside_levels: int
    seam: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one recipe on one case.

    Attributes:
        id: of the row.
        recipe: the recipe's name.
        scores: None if the row failed.
        error: why it failed.
        views: WebP files of the surroundings of the mask: photo, reference, result; empty unless
            requested.
    """

    id: str
    recipe: str
    scores: Scores | None
    error: str = ""
    views: tuple[bytes, ...] = ()


def read_cases(manifest: str) -> list[Case]:
    """Read a manifest with a column ``reference``, whose paths are resolved like those of photos.

    Raises:
        ManifestError: the manifest is unusable.
        RowError: a row is unusable, or has no reference (``evaluate.no_reference``).
    """
    references: dict[str, str] = {}
    for file in find_files(manifest):
        for part in read_parts(file, marks=False):
            if "reference" not in part.table.column_names:
                raise RowError(
                    "evaluate.no_reference", f"{file.path.uri} has no column `reference`."
                )
            for row in part.table.select(["id", "reference"]).to_pylist():
                path = row["reference"]
                is_absolute = not path or scheme_of(path) or path.startswith("/")
                references[row["id"]] = path if is_absolute else (file.base / path).uri
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(manifest, folder)
        tables = [plan.shard_file(number).read_table() for number in range(plan.shards)]
    found = [row for table in tables for row in table.select(SHARD_SCHEMA.names).to_pylist()]
    for row in found:
        if row["error_code"]:
            raise RowError(row["error_code"], f"Row {row['id']}: {row['error']}")
        if not references[row["id"]]:
            raise RowError("evaluate.no_reference", f"Row {row['id']} has no reference.")
    return [
        Case(row["id"], row["image_uri"], row["mask_uri"], row["marks"], references[row["id"]])
        for row in found
    ]


def evaluate(
    cases: Sequence[Case],
    recipes: Sequence[Recipe],
    *,
    jobs: int | None = None,
    views: bool = False,
) -> Iterator[Evaluation]:
    """Clean each case with each recipe, without Ray, and compare.

    Args:
        cases: those to clean.
        recipes: the recipes to compare.
        jobs: number of processes; None: the number of CPUs, 1 for recipes with models.
        views: whether to make pictures for a page, too.
    """
    for recipe in recipes:
        models = weights_of(recipe)
        count = jobs or (1 if models else os.cpu_count())
        # OpenCV would start as many threads as there are cores in each process.
        with ProcessPoolExecutor(
            count, get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
        ) as pool:
            work = [pool.submit(evaluate_case, case, recipe, views) for case in cases]
            for each in work:
                yield each.result()


def evaluate_case(case: Case, recipe: Recipe, views: bool = False) -> Evaluation:
    """Evaluate one case in this process; errors of its row are in the result."""
    marks = Marks.unpack(case.mask_uri, case.marks)
    try:
        cleaned = _cleaner(recipe).clean(case.image_uri, marks.files, **marks.shapes)
        before, reference = (
            _pixels(read(uri, "image"), recipe, uri) for uri in (case.image_uri, case.reference_uri)
        )
        if reference.shape != before.shape:
            raise RowError("evaluate.no_reference", f"{case.reference_uri} has another size.")
    except RowError as error:
        return Evaluation(case.id, recipe.name, None, str(error))
    if not cleaned.hole.any():
        return Evaluation(case.id, recipe.name, None, "Nothing is marked.")
    after = _pixels(cleaned.data, recipe, case.image_uri)
    feather_px = recipe.mask.feather_for(before.shape[1], before.shape[0])
    scores = measure(
        *(before, reference, after, cleaned.hole), feather_px=feather_px, effects=cleaned.effects
    )
    scores = replace(scores, seconds=sum(cleaned.record.seconds.values()))
    shown = (before, reference, after) if views else ()
    pictures = tuple(_view(picture, cleaned.hole) for picture in shown)
    return Evaluation(case.id, recipe.name, scores, views=pictures)


_cleaner = cache(Cleaner)  # models load once per process


def _pixels(data: bytes, recipe: Recipe, uri: str) -> UInt8Array:
    decoded = decode_photo(data, recipe.limits.max_megapixels, uri)
    return colour.to_srgb8(decoded.pixels, decoded.space)


def measure(
    before: UInt8Array,
    reference: UInt8Array,
    after: UInt8Array,
    hole: BoolMask,
    *,
    feather_px: int = 0,
    effects: BoolMask | None = None,
) -> Scores:
    """Compare a result with its reference in and around its hole, and with its photo elsewhere.

    Args:
        before: ``(h, w, 3)`` uint8 sRGB, the photo.
        reference: likewise, the correct result.
        after: likewise, the result.
        hole: ``(h, w)`` bool, the filled pixels; not empty.
        feather_px: width of the soft edge around it.
        effects: ``(h, w)`` bool, where the photo may have changed beyond that.
    """
    bounds = bounds_of(hole)
    assert bounds is not None
    height, width = hole.shape
    beyond = distance_outside(hole) >= feather_px + 1
    if effects is not None:
        beyond &= ~effects
    moved = np.abs(before[beyond].astype(np.int16) - after[beyond])
    near = bounds.grown(RING_PX + _SSIM_WINDOW_PX).clipped(width, height).slices
    reference, after, hole = reference[near], after[near], hole[near]
    outside, inside = distance_outside(hole), distance_outside(~hole)
    ring = (outside > 0) & (outside <= RING_PX)
    similar = structural_similarity(
        reference, after, channel_axis=2, data_range=255, full=True, win_size=_SSIM_WINDOW_PX
    )[1].mean(axis=2)
    border = (outside <= feather_px + 1) & (inside <= feather_px + 1)
    return Scores(
        psnr=_psnr(reference, after, hole),
        ssim=float(similar[hole].mean()),
        ring_psnr=_psnr(reference, after, ring),
        ring_ssim=float(similar[ring].mean()) if ring.any() else 1.0,
        outside_levels=int(moved.max(initial=0)),
        seam=float(_edges(after)[border].mean() - _edges(reference)[border].mean()),
    )


def _psnr(reference: UInt8Array, after: UInt8Array, where: BoolMask) -> float:
    if np.array_equal(reference[where], after[where]):
        return IDENTICAL_PSNR_DB
    return float(peak_signal_noise_ratio(reference[where], after[where], data_range=255))


def _edges(pixels: UInt8Array) -> npt.NDArray[np.float32]:
    """``(h, w)``: strength of edges, in levels per px."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
    return np.asarray(np.hypot(across, down), np.float32)


def _view(pixels: UInt8Array, hole: BoolMask) -> bytes:
    bounds = bounds_of(hole)
    assert bounds is not None
    margin = round(_MARGIN_SHARE * max(bounds.width, bounds.height)) + RING_PX
    part = bounds.grown(margin).clipped(hole.shape[1], hole.shape[0])
    picture, buffer = Image.fromarray(pixels[part.slices]), io.BytesIO()
    picture.thumbnail((_VIEW_SIDE_PX, _VIEW_SIDE_PX))
    picture.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def mean_scores(results: Sequence[Evaluation]) -> Scores | None:
    """Means of one recipe, and the max of ``outside_levels``; None if all rows failed."""
    scores = [asdict(each.scores) for each in results if each.scores]
    if not scores:
        return None
    columns = {name: [each[name] for each in scores] for name in scores[0]}
    worst = max(columns.pop("outside_levels"))
    means = {name: float(np.mean(of)) for name, of in columns.items()}
    return Scores(outside_levels=worst, **means)
