"""Steps that misbehave, and pools that do not fuse: passed to a run in place of the usual ones."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from manifests.errors import WeightsError
from stages.photo import Photo
from stages.pipeline import steps
from stages.recipe import Recipe
from stages.steps.base import BatchFunction, PhotoFunction, Step

VICTIM = "fig-bowl-sticker-date"

#: Of :class:`BrokenWorkers`: on one a worker hangs, on the other its device fails.
HANGING, POISONOUS = "7", "77"


def apart(recipe: Recipe, output: str) -> list[Step]:
    """The usual steps with the fill in a pool of its own, as if it needed a GPU."""
    return [
        replace(step, pool="small_gpu") if step.name == "remove" else step
        for step in steps(recipe, output)
    ]


def watched(
    recipe: Recipe,
    output: str,
    *,
    log: str,
    pause_s: float = 0.0,
    misdeeds: Mapping[str, str] | None = None,
) -> list[Step]:
    """The usual steps; each photo that is begun is noted, and takes a while longer.

    Args:
        recipe: as ever.
        output: as ever.
        log: a file, to which a line ``id process`` is added for each photo.
        pause_s: how much longer.
        misdeeds: what some ids do to their process: ``segfault``, ``allocate``, ``sleep`` or
            ``exit``; to the process that records it: ``kill-watcher``, or ``no-row``, after which
            its row cannot be recorded; ``no-result``: its result cannot be handed over.
    """
    return [
        Step("watch", "cpu", lambda: _watch(Path(log), pause_s, misdeeds or {})),
        *steps(recipe, output),
    ]


def _watch(log: Path, pause_s: float, misdeeds: Mapping[str, str]) -> PhotoFunction:
    def process(photo: Photo) -> None:
        with log.open("a") as file:  # one write of few bytes: lines of several processes stay whole
            file.write(f"{photo.lineage.id} {os.getpid()}\n")
        time.sleep(pause_s)
        if misdeed := misdeeds.get(photo.lineage.id):
            _do(misdeed, photo)

    return process


def _do(misdeed: str, photo: Photo) -> None:
    match misdeed:
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "allocate":
            held = []
            while True:
                held.append(bytearray(os.urandom(1) * (64 << 20)))  # touched, so that it counts
        case "sleep":
            while True:
                time.sleep(60)
        case "exit":
            os._exit(7)
        case "kill-watcher":
            is_isolated = Path(sys.argv[0]).name == "isolated.py"
            os.kill(os.getppid() if is_isolated else os.getpid(), signal.SIGKILL)
        case "no-row":
            photo.lineage.refine_guidance = "strong"  # type: ignore[assignment]
        case "no-result":
            photo.lineage.output_uri = lambda: None  # type: ignore[assignment]
            photo.lineage.status = "stuck"  # no further step works on it


@dataclass(frozen=True)
class BrokenWorkers:
    """The usual steps with the fill in a pool of its own, as if it needed a GPU, which fails there.

    Attributes:
        folder: which all workers share.
        fault: what happens: ``device`` raises what PyTorch raises when a kernel failed, ``program``
            what a fault of ours would, ``every-3`` that for each third photo, ``load`` cannot load,
            ``photos`` never returns from :data:`HANGING`, and has the device fail of
            :data:`POISONOUS`. Each worker that failed leaves a file ``failed-*`` in the folder.
        processes: that fail; a process that takes the place of one is sound.
        sound_photos: of each of them, before it fails.
    """

    folder: Path
    fault: str
    processes: int = 1
    sound_photos: int = 0

    def __call__(self, recipe: Recipe, output: str) -> list[Step]:
        return [
            replace(step, build=partial(self._build, step.build)) if step.name == "remove" else step
            for step in apart(recipe, output)
        ]

    def _build(self, build: Callable[[], PhotoFunction | BatchFunction]) -> BatchFunction:
        fill = build()
        assert isinstance(fill, BatchFunction)
        is_broken = self.fault.startswith(("photos", "every-")) or self._is_broken()
        if is_broken and self.fault == "load":
            raise WeightsError("weights.missing", "https://hub.example/lama.pt: HTTP 429.")
        seen = 0

        def process(photos: Sequence[Photo]) -> None:
            nonlocal seen
            seen += len(photos)
            if is_broken and seen > self.sound_photos:
                self._fail(photos)
            fill.process(photos)

        return BatchFunction(process)

    def _is_broken(self) -> bool:
        """Whether this process is one of those that fail: the first ones that ask."""
        for number in range(self.processes):
            with suppress(FileExistsError):
                (self.folder / f"broken-{number}").touch(exist_ok=False)
                return True
        return False

    def _fail(self, photos: Sequence[Photo]) -> None:
        ids = {photo.lineage.id for photo in photos}
        match self.fault.split("-"):
            case ["photos"]:
                while HANGING in ids:
                    time.sleep(60)
                if POISONOUS in ids:
                    self._fail_device()
            case ["device"]:
                self._fail_device()
            case ["program"]:
                self._note_failure()
                raise KeyError("a table that was damaged in memory")
            case ["every", number]:
                if any(int(id_) % int(number) == 0 for id_ in ids):
                    raise KeyError("a case that nobody thought of")

    def _fail_device(self) -> None:
        self._note_failure()
        raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors")

    def _note_failure(self) -> None:
        (self.folder / f"failed-{os.getpid()}").touch()


def without_models(recipe: Recipe, output: str) -> list[Step]:
    """The steps of a recipe that fills without weights, whatever the recipe says."""
    return list(steps(Recipe.load("telea"), output))
