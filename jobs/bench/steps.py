"""How long each step takes on this machine: the calibration file that `estimate` takes.

The steps on CPUs are run on the demo photos, as they are and enlarged, one at a time in one thread,
as an actor runs them; of what each photo took, those figures are taken that explain it best (least
squares, none below 0). Storage is left out: no disk tells what S3 takes. The models are measured as
``bench gpu`` does, where there is a GPU.
"""

from __future__ import annotations

import csv
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from scipy.optimize import nnls

from jobs import clean
from jobs.demo import MANIFEST
from jobs.estimate.catalog import PatchShape
from jobs.estimate.work import refined_px, working_px
from manifests.errors import error_of
from manifests.schema import LineageRow
from stages.photo import Photo
from stages.recipe import Recipe
from stages.step import run_steps

if TYPE_CHECKING:
    from jobs.bench.gpu import GpuCost

#: Megapixels to which the photos are enlarged, too.
ENLARGED_MP = 6.0

#: What each step's time may follow from.
_OF_PHOTO, _OF_PATCHES = ("per_photo", "per_megapixel"), ("per_patch", "per_patch_megapixel")
_FEATURES = {
    "decode": _OF_PHOTO,
    "mask": _OF_PHOTO,
    "cut": (*_OF_PHOTO, *_OF_PATCHES),
    "stitch": (*_OF_PHOTO, *_OF_PATCHES),
    "encode": _OF_PHOTO,
    "focus": _OF_PATCHES,
    "upscale.lanczos": _OF_PATCHES,
    "judge": _OF_PATCHES,
    "remove.telea": _OF_PATCHES,
    "remove.navier-stokes": _OF_PATCHES,
    "remove.patchmatch": _OF_PATCHES,
}

#: Way of ``bench gpu`` -> how estimates name it.
_GPU_FIGURES = {
    ("lama", "bfloat16"): "remove.lama",
    ("flux-fill", "bfloat16"): "refine.flux-fill",
    ("flux-fill", "compile"): "refine.flux-fill.compile",
    ("flux-fill", "fp8"): "refine.flux-fill.fp8",
    ("flux-fill", "fp8, compile"): "refine.flux-fill.compile.fp8",
}


@dataclass(frozen=True, slots=True)
class Timed:
    """A step on one photo.

    Attributes:
        step: as a calibration file names it.
        seconds: that it took.
        features: what it may follow from, by the names of the calibration's figures.
    """

    step: str
    seconds: float
    features: Mapping[str, float]


def measure(most_photos: int, enlarged_mp: float = ENLARGED_MP) -> Iterator[Timed]:
    """Run the steps of the recipes without models, and of a refiner what needs no GPU.

    Args:
        most_photos: of the demo photos, at most.
        enlarged_mp: to so many megapixels each is enlarged, too.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # as in an actor
    try:
        with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as folder:
            photos = _photos(Path(folder), enlarged_mp, most_photos)
            for method in ("telea", "navier-stokes", "patchmatch"):
                yield from _timed(Recipe.load(method), photos, _plain)
            if find_spec("torch"):
                overrides = ("remove.method=telea", "upscale.method=lanczos")
                yield from _timed(Recipe.load("clean", overrides), photos, _refining)
    finally:
        cv2.setNumThreads(threads)


def _photos(folder: Path, enlarged_mp: float, most: int) -> list[tuple[str, str]]:
    """Photo and mask of each demo photo, and of each enlarged one."""
    with MANIFEST.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for row in rows[:most]:
        pair = [str(MANIFEST.parent / row[name]) for name in ("image", "mask")]
        found.append((pair[0], pair[1]))
        larger = []
        for path, how in zip(pair, (cv2.INTER_CUBIC, cv2.INTER_NEAREST), strict=True):
            pixels = cv2.imread(path)
            assert pixels is not None
            scale = (enlarged_mp * 1e6 / (pixels.shape[0] * pixels.shape[1])) ** 0.5
            suffix = ".png" if how == cv2.INTER_NEAREST else ".jpg"
            larger.append(str(folder / f"{row['id']}{suffix}"))
            cv2.imwrite(larger[-1], cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=how))
        found.append((larger[0], larger[1]))
    return found


Run = Callable[[Photo, Recipe], None]


def _plain(photo: Photo, recipe: Recipe) -> None:
    """All but storing."""
    steps = clean.steps(recipe, "")[:-1]
    run_steps([photo], [(step.name, step.make()) for step in steps])


def _refining(photo: Photo, recipe: Recipe) -> None:
    """What comes after the removal and takes no GPU; the judge looks at the removal itself."""
    import time  # noqa: PLC0415

    from stages.judge import judge  # noqa: PLC0415

    names = ("fetch", "decode", "mask", "cut", "remove", "focus", "upscale")
    steps = [step for step in clean.steps(recipe, "") if step.name in names]
    run_steps([photo], [(step.name, step.make()) for step in steps])
    began = time.perf_counter()
    for patch in photo.patches:
        judge(patch.pixels, patch.pixels, patch.mask, has_removal=True)
    photo.lineage.seconds["judge"] = time.perf_counter() - began


def _timed(recipe: Recipe, photos: Sequence[tuple[str, str]], run: Run) -> Iterator[Timed]:
    for image, mask in photos:
        photo = Photo(LineageRow(id=image, image_uri=image, mask_uri=mask))
        run(photo, recipe)
        line = photo.lineage
        if not photo.ok:
            raise error_of(line.error_code or "", line.error or "")
        assert recipe.remove
        assert line.width
        assert line.height
        shapes = [PatchShape(_size(each["window"]), _size(each["crop"])) for each in line.patches]
        for step, seconds in line.seconds.items():
            names = {"remove": f"remove.{recipe.remove.method}", "upscale": "upscale.lanczos"}
            name = names.get(step, step)
            if name not in _FEATURES or (run is _refining and name in ("decode", "mask", "cut")):
                continue
            of_patch = refined_px if name in ("upscale.lanczos", "judge") else working_px
            features = {
                "per_photo": 1.0,
                "per_megapixel": line.width * line.height / 1e6,
                "per_patch": float(len(shapes)),
                "per_patch_megapixel": sum(prod(of_patch(each, recipe)) for each in shapes) / 1e6,
            }
            yield Timed(name, seconds, features)


def _size(box: Mapping[str, int]) -> tuple[int, int]:
    return box["width"], box["height"]


def fitted(timed: Sequence[Timed]) -> dict[str, dict[str, float]]:
    """For each step the figures, s, that explain its times best."""
    found = {}
    for step in dict.fromkeys(each.step for each in timed):
        of_step = [each for each in timed if each.step == step]
        names = _FEATURES[step]
        matrix = np.array([[each.features[name] for name in names] for each in of_step])
        figures, _ = nnls(matrix, np.array([each.seconds for each in of_step]))
        found[step] = {n: float(f"{f:.3g}") for n, f in zip(names, figures, strict=True) if f > 0}
    return found


def of_models(costs: Sequence[GpuCost], steps: int) -> dict[str, dict[str, float]]:
    """Figures of models from what ``bench gpu`` measured at two sizes or more.

    Args:
        costs: measured; others are left out. Of several batches the largest counts.
        steps: of the refiner, in these.
    """
    found = {}
    for (network, way), name in _GPU_FIGURES.items():
        best = {
            cost.size_px: cost.seconds
            for cost in sorted(costs, key=lambda cost: cost.batch)
            if (cost.network, cost.way) == (network, way) and cost.seconds is not None
        }
        if len(best) < 2:
            continue
        matrix = np.array([[1.0, px * px / 1e6] for px in best])
        figures, _ = nnls(matrix, np.array(list(best.values())))
        unit, count = ("step", steps) if network == "flux-fill" else ("patch", 1)
        names = (f"per_{unit}", f"per_{unit}_megapixel")
        found[name] = {n: float(f"{f / count:.3g}") for n, f in zip(names, figures, strict=True)}
    return found


def on_gpu() -> tuple[str, dict[str, dict[str, float]]]:
    """The first GPU's name, and the models' figures on it; both empty without one."""
    if not find_spec("torch"):
        return "", {}
    from jobs.bench import gpu  # noqa: PLC0415 - torch is an extra, and takes seconds
    from stages.options import FluxFillOptions  # noqa: PLC0415

    device = gpu.place(None, tiny=False)
    if device is None:
        return "", {}
    ways = [way for _, way in _GPU_FIGURES]
    setup = gpu.Setup(device, ("lama", "flux-fill"), ways, gpu.SIZES_PX, (4,), 3, tiny=False)
    return gpu.name_of(device), of_models(list(gpu.measure(setup)), FluxFillOptions().steps)


def calibration(
    cpu: Mapping[str, Mapping[str, float]],
    gpu: Mapping[str, Mapping[str, float]],
    gpu_name: str = "",
) -> dict[str, Any]:
    """As a calibration file has it."""
    cpu_source = f"catalog-cleanup bench steps, {cpu_name()}"
    steps = {n: {"kind": "measured", "source": cpu_source, **f} for n, f in cpu.items()}
    gpu_source = f"catalog-cleanup bench steps, {gpu_name}"
    steps |= {n: {"kind": "measured", "source": gpu_source, **f} for n, f in gpu.items()}
    return {"steps": steps}


def cpu_name() -> str:
    """Of this machine's CPUs, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
