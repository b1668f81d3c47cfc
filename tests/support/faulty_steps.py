"""Steps that misbehave, and pools that do not fuse: passed to a run in place of the usual ones."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from manifests.errors import WeightsError
from stages.photo import Photo
from stages.pipeline import steps
from stages.recipe import Recipe
from stages.steps.base import BatchWork, Step, Work

VICTIM = "fig-bowl-sticker-date"

#: Of :class:`BrokenWorkers`, on which a worker hangs.
HANGING = "7"


def apart(recipe: Recipe, output: str) -> list[Step]:
    """The usual steps with the fill in a pool of its own, as if it needed a GPU."""
    return [
        replace(step, pool="small_gpu") if step.name == "remove" else step
        for step in steps(recipe, output)
    ]


def watched(
    recipe: Recipe, output: str, *, log: str, pause_s: float = 0.0, misdeed: str = ""
) -> list[Step]:
    """The usual steps; each photo that is begun is noted, and takes a while longer.

    Args:
        recipe: as ever.
        output: as ever.
        log: a file, to which a line ``id process`` is added for each photo.
        pause_s: how much longer.
        misdeed: what :data:`VICTIM` does to its process: ``segfault``, ``allocate``, ``sleep``,
            ``exit``, or once only, ``exit-once``; to the process that records it:
            ``kill-watcher``, or ``no-row``, after which its row cannot be recorded; ``no-result``:
            its result cannot be handed over.
    """
    return [
        Step("watch", "cpu", lambda: _watch(Path(log), pause_s, misdeed)),
        *steps(recipe, output),
    ]


def _watch(log: Path, pause_s: float, misdeed: str) -> Work:
    def work(photo: Photo) -> None:
        with log.open("a") as file:  # one write of few bytes: lines of several processes stay whole
            file.write(f"{photo.lineage.id} {os.getpid()}\n")
        time.sleep(pause_s)
        if photo.lineage.id == VICTIM and misdeed:
            _do(misdeed, log)
            if misdeed == "no-row":
                photo.lineage.refine_guidance = "strong"  # type: ignore[assignment]
            if misdeed == "no-result":
                photo.lineage.output_uri = lambda: None  # type: ignore[assignment]
                photo.lineage.status = "stuck"  # no further step works on it

    return work


def _do(misdeed: str, log: Path) -> None:
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
        case "exit-once":
            marker = log.with_suffix(".died")
            if not marker.exists():
                marker.touch()
                os._exit(7)


@dataclass(frozen=True)
class BrokenWorkers:
    """The usual steps with the fill in a pool of its own, as if it needed a GPU, which fails there.

    Attributes:
        folder: which all workers share.
        fault: what happens: ``device`` raises what PyTorch raises when a kernel failed, ``program``
            what a fault of ours would, ``every-3`` that for each third photo, ``load`` cannot load,
            ``hang`` never returns from :data:`HANGING`, which ``poison`` makes the device fail;
            another word: nothing.
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

    def _build(self, build: Callable[[], Work | BatchWork]) -> BatchWork:
        fill = build()
        assert isinstance(fill, BatchWork)
        is_broken = self.fault.startswith(("hang", "poison", "every-")) or self._is_broken()
        if is_broken and self.fault == "load":
            raise WeightsError("weights.missing", "https://hub.example/lama.pt: HTTP 429.")
        seen = 0

        def work(photos: Sequence[Photo]) -> None:
            nonlocal seen
            seen += len(photos)
            if is_broken and seen > self.sound_photos:
                self._fail(photos)
            fill.work(photos)

        return BatchWork(work)

    def _is_broken(self) -> bool:
        """Whether this process is one of those that fail: the first ones that ask."""
        for number in range(self.processes):
            with suppress(FileExistsError):
                (self.folder / f"broken-{number}").touch(exist_ok=False)
                return True
        return False

    def _fail(self, photos: Sequence[Photo]) -> None:
        poisoned = any(photo.lineage.id == HANGING for photo in photos)
        match self.fault.split("-"):
            case ["device"] | ["poison"] if self.fault == "device" or poisoned:
                raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors")
            case ["program"]:
                raise KeyError("a table that was damaged in memory")
            case ["every", number]:
                if any(int(photo.lineage.id) % int(number) == 0 for photo in photos):
                    raise KeyError("a case that nobody thought of")
            case ["hang"]:
                while poisoned:
                    pass


def without_models(recipe: Recipe, output: str) -> list[Step]:
    """The steps of a recipe that fills without weights, whatever the recipe says."""
    return list(steps(Recipe.load("telea"), output))
