"""The whole pipeline against the programs that one would pick instead; Linux only.

Each program is a command, watched from outside, on the same photos and masks. Rounds of all
programs follow each other, in turn forwards and backwards, so that what else the machine does meets
all of them; a ratio is that of one round, and the median of the rounds is reported.

Work begins when the first photo is read, by the file's time of access, and ends when the last
result is written. All before and after, loading of libraries and models above all, is start.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from PIL import Image

from manifests.schema import OK
from stages.pixels.boxes import Box, bounds_of
from stages.recipe import Recipe
from tests.bench.catalog import Catalog, make_catalog
from tests.bench.common import Figures, lineage_of, options_of

#: Other programs, by the recipes that they have a counterpart of.
PEERS: Mapping[str, Sequence[str]] = {
    "lama": ("pool", "iopaint", "simple-lama"),
    "telea": ("pool", "iopaint"),
}

#: By which IOPaint's crops surround a mark, px.
_IOPAINT_MARGIN_PX = 128

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Programs:
    """Makes the commands that clean a catalog.

    Attributes:
        recipe: a name in :data:`PEERS`.
        overrides: options of it.
        weights: of LaMa, a TorchScript named ``big-lama.pt``.
        environments: receives a virtual environment for each of the others' programs. None: run
            what is installed here.
    """

    recipe: str
    overrides: Sequence[str]
    weights: Path
    environments: Path | None

    def command(self, way: str, catalog: Catalog, results: Path) -> list[str]:
        """The command that cleans all photos into an empty folder."""
        python = self._python(way)
        # Ray's workers give way to whatever else the machine does; so must what they race against.
        call: list[object] = [] if way == "ours" else ["nice", "-n", "15"]
        match way:
            case "ours":
                call += [python, "-m", "jobs.cli", "run", catalog.manifest, "--output", results]
                call += ["--recipe", self.recipe]
                call += [part for each in self.overrides for part in ("--set", each)]
            case "pool":
                call += [python, "-m", "tests.bench.pool_loop", catalog.manifest, results]
                call += [os.cpu_count(), self.recipe, *self.overrides]
            case "simple-lama":
                call += [python, _HERE / "simple_lama_loop.py"]
                call += [catalog.photos, catalog.masks, results]
            case _:
                call += [python.parent / "iopaint", "run", "--image", catalog.photos]
                call += ["--mask", catalog.masks, "--output", results, *self._iopaint_model()]
        return list(map(str, call))

    def _python(self, way: str) -> Path:
        """The interpreter that has a program; it is installed where that has not been done."""
        wanted = _HERE / f"{way}.txt"
        if self.environments is None or not wanted.exists():
            return Path(sys.executable)
        folder = self.environments.absolute() / way
        python, has = folder / "bin" / "python", folder / "installed.txt"
        if not has.exists() or has.read_text() != wanted.read_text():
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            install = ("pip", "install", "--compile-bytecode", "--python", python)  # as pip does
            uv = os.environ.get("UV", "uv")  # `uv run` sets it
            for call in (["venv", "--python", sys.executable, folder], [*install, "-r", wanted]):
                # There, since uv obeys the project in whose folder it is called.
                subprocess.run([uv, *map(str, call)], cwd=folder.parent, check=True)
            has.write_text(wanted.read_text())  # last: half an environment is never used
        return python

    def _iopaint_model(self) -> list[object]:
        """The recipe's method with its radius or weights."""
        models = self.weights.parent / "iopaint"
        place = models / "torch" / "hub" / "checkpoints" / "big-lama.pt"
        place.parent.mkdir(parents=True, exist_ok=True)
        if self.recipe == "lama":
            place.unlink(missing_ok=True)
            place.symlink_to(self.weights)
            return ["--model-dir", models, "--model", "lama"]
        remove: Any = Recipe.load(self.recipe, self.overrides).remove
        config = models / "telea.json"
        options = {"cv2_flag": "INPAINT_TELEA", "cv2_radius": round(remove.radius_px)}
        config.write_text(json.dumps(options))
        return ["--model-dir", models, "--model", "cv2", "--config", config]


def timed(programs: Programs, way: str, catalog: Catalog) -> tuple[float, float]:
    """Have a program clean a catalog, and check its results; returns seconds of start and of work.

    Raises:
        RuntimeError: it failed, or did less than all.
    """
    with tempfile.TemporaryDirectory(prefix="results-", dir=catalog.folder) as name:
        results = Path(name)
        command = programs.command(way, catalog, results)
        environment = os.environ | {"LAMA_MODEL": str(programs.weights)}
        environment.pop("RAY_ADDRESS", None)
        for path in catalog.photos.iterdir():  # the next reading sets its time of access
            os.utime(path, ns=(0, path.stat().st_mtime_ns))
        started = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
        if done.returncode:
            raise RuntimeError(f"{way} ended with {done.returncode}: {done.stderr.strip()}")
        read = [path.stat().st_atime for path in catalog.photos.iterdir()]  # before we read them
        if not all(read):
            raise RuntimeError("Photos were not read, or TMPDIR's disk keeps no times of access.")
        if way == "ours":
            check_ours(results, catalog, is_lama=programs.recipe == "lama")
        work_s = max(times_of_results(way, results, catalog)) - min(read)
        return seconds - work_s, work_s


def times_of_results(way: str, results: Path, catalog: Catalog) -> list[float]:
    """When each result was written, in seconds of the clock: JPEGs or PNGs, at any depth."""
    photos = {path.stem: _size(path) for path in catalog.photos.iterdir()}
    files = [p for p in results.rglob("*.*") if p.suffix in (".jpg", ".png") and p.stem in photos]
    found = {path.stem: _size(path) for path in files}
    if found != photos:
        missing = sorted(name for name in photos if found.get(name) != photos[name])
        raise RuntimeError(f"{way} did not clean {', '.join(missing)}.")
    return [path.stat().st_mtime for path in files]


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def check_ours(output: Path, catalog: Catalog, *, is_lama: bool) -> None:
    """See that we did no less: each photo in its own format, and LaMa saw as much as IOPaint's."""
    for row in lineage_of(output):
        kept = "coefficients" if row["image_uri"].endswith(".jpg") else "lossless"
        if (row["status"], row["fidelity"]) != (OK, kept):
            raise RuntimeError(f"{row['id']}: {row['error'] or row['fidelity_note']}")
        if is_lama and not _sees_enough(row["patches"], catalog.masks / f"{row['id']}.png"):
            raise RuntimeError(f"LaMa saw less of {row['id']} than IOPaint's would have.")


def _sees_enough(patches: Sequence[Mapping[str, Any]], mask_file: Path) -> bool:
    """IOPaint cuts out a crop around each part of a mask; edges of the photo aside."""
    with Image.open(mask_file) as picture:
        mask = np.asarray(picture)
    count, labels = cv2.connectedComponents(mask)
    marks = [bounds_of(labels == part) for part in range(1, count)]
    crops = [m.grown(_IOPAINT_MARGIN_PX).clipped(mask.shape[1], mask.shape[0]) for m in marks if m]
    sides = [patch["window"] for patch in patches]
    seen = [Box(w["x"], w["y"], w["x"] + w["width"], w["y"] + w["height"]) for w in sides]
    return all(any(window.union(crop) == window for window in seen) for crop in crops)


def save_random_lama(path: Path) -> None:
    """The published TorchScript with random weights: the same for all programs."""
    import torch

    from tests.support.models.networks import make_lama, save_torchscript

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # what all of them load
        save_torchscript(make_lama(), path)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--recipe", choices=PEERS, default="telea")
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", dest="overrides")
    parser.add_argument("--peer", nargs="+", default=["pool", "iopaint"], help="simple-lama: LaMa")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--megapixels", type=float, default=16.0, help="of the largest photo")
    parser.add_argument("--rounds", type=int, default=3)
    caches = Path.home() / ".cache/catalog-cleanup/peers"
    parser.add_argument("--environments", type=Path, default=caches, metavar="FOLDER",
                        help="where the others are installed, by uv, and stay")  # fmt: skip
    parser.add_argument("--here", action="store_true", help="run what is installed here instead")
    given = parser.parse_args()
    if unknown := set(given.peer) - set(PEERS[given.recipe]):
        parser.error(f"{given.recipe} has no counterpart in {', '.join(unknown)}")
    ways = ["ours", *given.peer]
    with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as folder:
        weights = Path(folder) / "big-lama.pt"
        if given.recipe == "lama":
            save_random_lama(weights)
        environments = None if given.here else given.environments
        programs = Programs(given.recipe, given.overrides, weights, environments)
        catalog = make_catalog(Path(folder) / "photos", given.photos, given.megapixels)
        figures = Figures(given.out, recipe=given.recipe, overrides=given.overrides)
        rounds: list[dict[str, tuple[float, float]]] = []
        for number in range(given.rounds):
            order = ways if number % 2 == 0 else ways[::-1]
            rounds.append({way: timed(programs, way, catalog) for way in order})
    for way in ways:
        start_s, work_s = (median(times) for times in zip(*(r[way] for r in rounds), strict=True))
        ratios = [each[way][1] / each["ours"][1] for each in rounds]
        figures.add(way=way, photos=catalog.count, megapixels=catalog.megapixels, start_s=start_s,
                    work_s=work_s, photos_a_second=catalog.count / work_s, ratio=median(ratios),
                    ratios=ratios)  # fmt: skip


if __name__ == "__main__":
    main()
