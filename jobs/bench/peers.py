"""The programs that one would pick instead, each in a virtual environment of its own.

Nothing of theirs is in our code or lock: what they take is listed by name and version in a text
beside this module, and installed when it is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.bench.catalog import Catalog
from manifests.errors import CleanupError
from stages.options import LamaOptions, TeleaOptions
from stages.recipe import Recipe

#: Other programs, by the recipes that they have a counterpart of.
PEERS: Mapping[str, Sequence[str]] = {
    "lama": ("pool", "iopaint", "simple-lama"),
    "telea": ("pool", "iopaint"),
}

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run.

    Attributes:
        arguments: its path, and what it is given.
        environment: variables, beside those that are set.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, *arguments: object, **environment: object) -> Command:
        """From paths and numbers, too."""
        return cls(list(map(str, arguments)), {k: str(v) for k, v in environment.items()})


@dataclass(frozen=True, slots=True)
class Peers:
    """Makes the commands that clean a catalog.

    Attributes:
        recipe: a name in :data:`PEERS`.
        overrides: options of the recipe, for ours and for our steps in a pool.
        weights: of LaMa, a TorchScript named ``big-lama.pt``; for the others, unused.
        workers: processes of the pool.
        environments: receives a virtual environment for each program. None: the programs are
            installed where we are.
    """

    recipe: str
    overrides: Sequence[str]
    weights: Path
    workers: int
    environments: Path | None

    def command(self, way: str, catalog: Catalog, results: Path) -> Command:
        """The command of a way, ours among them, that cleans all photos of a catalog.

        Args:
            way: ``ours`` or one of :data:`PEERS`.
            catalog: what is cleaned.
            results: a folder that is there and empty.
        """
        python, own = self.python(way), {"LAMA_MODEL": self.weights}
        match way:
            case "ours":
                call = ["run", catalog.manifest, "--output", results, "--recipe", self.recipe]
                sets = [part for each in self.overrides for part in ("--set", each)]
                return Command.of(python, "-m", "jobs.cli", *call, *sets, **own)
            case "pool":
                call = [catalog.manifest, results, self.workers, self.recipe, *self.overrides]
                return Command.of(python, "-m", "jobs.bench.pool_loop", *call, **own)
            case "simple-lama":
                call = [_HERE / "simple_lama_loop.py", catalog.photos, catalog.masks, results]
                return Command.of(python, *call, **own)
            case _:
                return self._iopaint(python, catalog, results)

    def python(self, way: str) -> Path:
        """The interpreter that has a program; it is installed where that has not been done.

        Raises:
            CleanupError: ``bench.failed`` if it cannot be.
        """
        wanted = _HERE / f"{way}.txt"
        if self.environments is None or not wanted.exists():
            return Path(sys.executable)
        folder = self.environments.absolute() / way
        has = folder / "installed.txt"
        if not has.exists() or has.read_text() != wanted.read_text():
            _install(folder, wanted)
            has.write_text(wanted.read_text())  # last: half an environment is never used
        return folder / "bin" / "python"

    def _iopaint(self, python: Path, catalog: Catalog, results: Path) -> Command:
        """IOPaint's batch command: its own crops, and the recipe's method and radius."""
        model_dir = self.weights.parent / "iopaint"
        place = model_dir / "torch" / "hub" / "checkpoints" / "big-lama.pt"
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists() and self.weights.exists():
            place.symlink_to(self.weights)
        folders = ("--image", catalog.photos, "--mask", catalog.masks, "--output", results)
        call = (python.parent / "iopaint", "run", *folders, "--model-dir", model_dir)
        remove = Recipe.load(self.recipe, self.overrides).remove
        if isinstance(remove, LamaOptions):
            return Command.of(*call, "--model", "lama")
        assert isinstance(remove, TeleaOptions)
        config = model_dir / "telea.json"
        options = {"cv2_flag": "INPAINT_TELEA", "cv2_radius": round(remove.radius_px)}
        config.write_text(json.dumps(options))
        return Command.of(*call, "--model", "cv2", "--config", config)


def default_folder() -> Path:
    """Where environments are kept from one benchmark to the next."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "catalog-cleanup" / "peers"


def _install(folder: Path, wanted: Path) -> None:
    """Make an environment anew, by uv, which shares files with other environments, or by pip."""
    uv = os.environ.get("UV") or shutil.which("uv")  # `uv run` says where it is
    python = folder / "bin" / "python"
    shutil.rmtree(folder, ignore_errors=True)
    if uv:
        make = Command.of(uv, "venv", "--python", sys.executable, folder)
        into = ("pip", "install", "--compile-bytecode", "--python", python)  # as pip does
        install = Command.of(uv, *into, "--requirement", wanted)
    else:
        make = Command.of(sys.executable, "-m", "venv", folder)
        install = Command.of(python, "-m", "pip", "install", "--requirement", wanted)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for call in (make, install):  # there, since uv obeys the project in whose folder it is called
        done = subprocess.run(
            call.arguments, cwd=folder.parent, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CleanupError(
                "bench.failed", f"{wanted.stem} cannot be installed: {done.stderr.strip()}"
            )
