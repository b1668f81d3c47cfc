"""The whole DAG against what one would pick instead: photos a second, on one machine.

Each way is a command, watched from outside, on the same photos and masks. Rounds of all ways follow
each other, so that what else the machine does meets all of them, and a ratio is that of two
neighbours of one round; of several rounds the median is told.

What starting costs is told apart, the same for all: work begins when the first photo is read, which
a file's time of access tells, and ends when the last result is written. The rest, loading of
libraries and models above all, and what comes after the last result, is start.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from PIL import Image

from jobs.bench.catalog import Catalog, make_catalog
from jobs.bench.peers import PEERS, Peers
from manifests.errors import CleanupError
from manifests.ledger import Ledger
from manifests.plan import load_plan
from manifests.runs import latest_by_recipe
from manifests.schema import OK
from stages.geometry import Box, bounds_of
from stages.masks import Bytes
from stages.options import LamaOptions
from stages.recipe import Recipe

#: By which IOPaint's crops surround a mark, px.
_IOPAINT_MARGIN_PX = 128

OURS = "ours"

#: Ray's workers give way to whatever else the machine does; so must what is held against them.
_AS_RAYS_WORKERS = ("nice", "-n", "15")


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured.

    Attributes:
        recipe: ours; a name in :data:`jobs.bench.peers.PEERS`.
        overrides: options of it.
        peers: other ways, of those that the recipe has.
        photos: how many.
        most_megapixels: of the largest one; the smallest has 1, or as much if that is less.
        pairs: rounds.
        environments: see :class:`jobs.bench.peers.Peers`.
    """

    recipe: str
    overrides: Sequence[str]
    peers: Sequence[str]
    photos: int
    most_megapixels: float
    pairs: int
    environments: Path | None


@dataclass(frozen=True, slots=True)
class PipelineCost:
    """One way; all but the ratio are medians over the rounds.

    Attributes:
        way: ``ours``, or a peer.
        recipe: that ours ran.
        photos: in each round.
        megapixels: of all photos.
        startup_s: of the command, but for its work.
        work_s: from the first photo read to the last result written.
        images_per_s: at work.
        ratios: ours over this way's, in each round; what ours did more in a second.
        ratio: their median.
    """

    way: str
    recipe: str
    photos: int
    megapixels: float
    startup_s: float
    work_s: float
    images_per_s: float
    ratios: Sequence[float]
    ratio: float


def measure(setup: Setup) -> Iterator[PipelineCost]:
    """Run each way on the same photos, round after round.

    Raises:
        CleanupError: ``bench.failed``: a peer cannot be installed, or a way did less than all.
    """
    ways = [OURS, *setup.peers]
    with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as name:
        folder = Path(name)
        workers = os.cpu_count() or 1  # as Ray counts
        weights = folder / "big-lama.pt"
        if setup.recipe == "lama":
            _save_random_lama(weights)
        peers = Peers(setup.recipe, setup.overrides, weights, workers, setup.environments)
        catalog = make_catalog(folder / "photos", setup.photos, setup.most_megapixels)
        rounds: list[Mapping[str, _Timing]] = []
        for number in range(setup.pairs):
            order = ways if number % 2 == 0 else ways[::-1]
            rounds.append({way: _timed(peers, way, catalog) for way in order})
        yield from (_cost(setup, catalog, rounds, way) for way in ways)


@dataclass(frozen=True, slots=True)
class _Timing:
    """Seconds of one command, in two parts."""

    startup_s: float
    work_s: float


def _cost(
    setup: Setup, catalog: Catalog, rounds: Sequence[Mapping[str, _Timing]], way: str
) -> PipelineCost:
    ratios = [each[way].work_s / each[OURS].work_s for each in rounds]
    work_s = median(each[way].work_s for each in rounds)
    return PipelineCost(
        way,
        setup.recipe,
        catalog.count,
        catalog.megapixels,
        startup_s=median(each[way].startup_s for each in rounds),
        work_s=work_s,
        images_per_s=catalog.count / work_s,
        ratios=ratios,
        ratio=median(ratios),
    )


def _timed(peers: Peers, way: str, catalog: Catalog) -> _Timing:
    """Have a way clean a catalog, and look at its results."""
    with tempfile.TemporaryDirectory(prefix="results-", dir=catalog.folder) as name:
        results = Path(name)
        command = peers.command(way, catalog, results)
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        _forget_reading(catalog)
        started = time.monotonic()
        done = subprocess.run(
            [*(_AS_RAYS_WORKERS if way != OURS else ()), *command.arguments],
            env=environment | dict(command.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode:
            raise CleanupError(
                "bench.failed", f"{way} ended with {done.returncode}: {done.stderr.strip()}"
            )
        begun = _first_reading(catalog)  # before we read them
        if way == OURS:
            check_ours(results, catalog, Recipe.load(peers.recipe, peers.overrides))
        work_s = max(times_of_results(way, results, catalog)) - begun
        return _Timing(seconds - work_s, work_s)


def _forget_reading(catalog: Catalog) -> None:
    """Let the next reading of each photo set its time of access, as with ``relatime`` too."""
    for path in catalog.photos.iterdir():
        os.utime(path, ns=(0, path.stat().st_mtime_ns))


def _first_reading(catalog: Catalog) -> float:
    """When the first photo was read since, in seconds of the clock."""
    times = [path.stat().st_atime for path in catalog.photos.iterdir()]
    if not all(times):
        raise CleanupError(
            "bench.failed",
            f"Not all photos were read, or {catalog.folder} lies on a disk that keeps no times of "
            "access: TMPDIR names another.",
        )
    return min(times)


def times_of_results(way: str, results: Path, catalog: Catalog) -> list[float]:
    """When each result was written, in seconds of the clock.

    Args:
        way: that wrote them, for the message.
        results: a folder, however deep they lie in it; as JPEG or PNG.
        catalog: of which each photo has one.

    Raises:
        CleanupError: ``bench.failed``: they are not all there, or one has another size.
    """
    photos = {path.stem: _size(path) for path in catalog.photos.iterdir()}
    made = [
        path
        for path in results.rglob("*.*")
        if path.suffix in (".jpg", ".png") and path.stem in photos
    ]
    found = {path.stem: _size(path) for path in made}
    if found != photos:
        missing = sorted(name for name in photos if found.get(name) != photos[name])
        raise CleanupError("bench.failed", f"{way} did not clean {', '.join(missing)}.")
    return [path.stat().st_mtime for path in made]


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def check_ours(output: Path, catalog: Catalog, recipe: Recipe) -> None:
    """See that we did no less: each photo in its own format, and LaMa saw as much as IOPaint's.

    Args:
        output: of the run.
        catalog: that it cleaned.
        recipe: that it followed.

    Raises:
        CleanupError: ``bench.failed``: a photo failed, a JPEG was coded again, or a window is
            smaller than IOPaint's crop.
    """
    plan = load_plan(str(output))
    assert plan is not None
    ledger = Ledger(plan.output, list(latest_by_recipe(plan.output))[-1])
    columns = ("id", "image_uri", "status", "error", "fidelity", "fidelity_note", "patches")
    for shard in range(plan.shards):
        for row in ledger.latest(shard, columns).to_pylist():
            kept = "coefficients" if row["image_uri"].endswith(".jpg") else "lossless"
            if (row["status"], row["fidelity"]) != (OK, kept):
                told = row["error"] or row["fidelity_note"]
                raise CleanupError("bench.failed", f"{row['id']} is not as it should be: {told}.")
            if isinstance(recipe.remove, LamaOptions) and not _sees_enough(row, catalog):
                raise CleanupError(
                    "bench.failed", f"LaMa saw less of {row['id']} than IOPaint's would have."
                )


def _sees_enough(row: Mapping[str, Any], catalog: Catalog) -> bool:
    with Image.open(catalog.mask_of(row["id"])) as picture:
        mask = np.asarray(picture)
    windows = [
        Box(w["x"], w["y"], w["x"] + w["width"], w["y"] + w["height"])
        for w in (patch["window"] for patch in row["patches"])
    ]
    return all(any(w.contains(crop) for w in windows) for crop in _iopaint_crops(mask))


def _iopaint_crops(mask: Bytes) -> list[Box]:
    """What IOPaint cuts out for each part of a mask, edges of the photo aside."""
    height, width = mask.shape
    count, labels = cv2.connectedComponents(mask)
    boxes = [bounds_of(labels == part) for part in range(1, count)]
    return [box.grown(_IOPAINT_MARGIN_PX).clipped(width, height) for box in boxes if box]


def _save_random_lama(path: Path) -> None:
    """The published TorchScript with random weights: the same for all ways, at the same cost."""
    import torch  # noqa: PLC0415 - only for LaMa

    from jobs.bench.networks import make_lama, save_torchscript  # noqa: PLC0415 - likewise

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # what all of them load
        save_torchscript(make_lama(), path)


def default_peers(recipe: str) -> Sequence[str]:
    """Of a recipe's peers those that take photos of any size."""
    return [peer for peer in PEERS[recipe] if peer != "simple-lama"]
