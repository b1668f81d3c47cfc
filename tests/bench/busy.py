"""How busy the device is in a run's actors: their steps, payload and threads, without Ray.

Two threads take units from a queue, as an actor with a GPU works on two blocks at once: they unpack
the photos, run the pool's steps, with judge and resizing, and pack them again. The networks have
random weights. What this misses: Ray's own time, and other actors on the same CPUs.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pyarrow as pa

from cluster.pools import CALLS_PER_GPU_ACTOR
from jobs.pipeline.prompts import SharedPrompts
from jobs.pipeline.transport import from_table, to_table
from manifests.schema import LineageRow, PatchRecord
from stages import device_lock
from stages.models import lama as lama_module
from stages.models.lama import Lama
from stages.models.refiners.flow import FlowRefiner
from stages.photo import CropPatch, Patch, Photo, WindowPatch
from stages.pixels.boxes import Box
from stages.recipe import Recipe
from stages.recipe.removers import LamaOptions
from stages.steps.base import BatchWork, Work, run_steps
from stages.steps.focus import focus
from stages.steps.refine import refine
from stages.steps.remove import fill_patches
from stages.steps.upscale import upscale
from tests.bench.timing import picture
from tests.bench.ways import Load, random_prompt
from tests.support.models.lama_networks import random_lama
from tests.support.models.networks import make_lama

#: Side of a crop in the photo, and of the removal's window: the mean of the demo's.
_CROP_PX, _WINDOW_PX = 400, 640

#: Names and works, as a pipeline loads them.
_Steps = list[tuple[str, Work | BatchWork]]


def refine_actor(refiner: FlowRefiner, photos: int) -> dict[str, Any]:
    """Busy share of the actor of the large GPU. The refiner has the options of the recipe."""
    recipe = Recipe.load("clean", {"upscale.method": "lanczos"})
    recipe = recipe.model_copy(update={"refine": refiner.options})
    prompt, batch = random_prompt(refiner), refiner.options.batch_size
    side = min(_CROP_PX, refiner.options.size_px)

    def photo(number: int) -> Photo:
        pixels, mask = picture(side)
        crop = Box(0, 0, side, side)
        patch = CropPatch(crop=crop, pixels=pixels, mask=mask, blend=mask, seed=number,
                          to_refine=True)  # fmt: skip
        return _photo(number, patch, prompt=prompt)

    located = refiner.options, {"random": "0" * 64}
    with (
        mock.patch(f"{refiner.options.loader}.load", return_value=refiner),
        mock.patch("stages.steps.refine.locate", return_value=located),
    ):
        steps: _Steps = [("upscale", upscale(recipe)), ("refine", refine(recipe))]
    return _measure(
        [[photo(n) for n in range(i, i + batch)] for i in range(0, photos, batch)], steps
    )


def remove_actor(load: Load, photos: int) -> dict[str, Any]:
    """Busy share of the actor of the small GPU."""
    recipe = Recipe.load("clean")
    network = make_lama(tiny=True) if load.tiny else random_lama(picture(512)[0])
    options = LamaOptions(batch_size=load.batch)
    lama = Lama(network, options, load.device)
    side, crop_px = (64, 48) if load.tiny else (_WINDOW_PX, _CROP_PX)

    def photo(number: int) -> Photo:
        pixels, mask = picture(side)
        edge = (side - crop_px) // 2
        crop, window = Box(edge, edge, edge + crop_px, edge + crop_px), Box(0, 0, side, side)
        patch = WindowPatch(
            crop=crop, window=window, pixels=pixels, mask=mask, blend=mask[crop.slices],
            seed=number, detail=pixels[crop.slices], hole=mask[crop.slices],
        )  # fmt: skip
        return _photo(number, patch)

    located = options, {"random": "0" * 64}
    with (
        mock.patch.object(lama_module, "load", return_value=lambda p, m, _: lama.fill(p, m)),
        mock.patch("stages.steps.remove.locate", return_value=located),
    ):
        steps: _Steps = [("remove", fill_patches(recipe)), ("focus", focus(recipe))]
    units = [[photo(n) for n in range(i, i + load.batch)] for i in range(0, photos, load.batch)]
    return _measure(units, steps)


def _photo(number: int, patch: Patch, **parts: Any) -> Photo:
    row = LineageRow(id=str(number), image_uri="photo", mask_uri="mask")
    row.patches.append(PatchRecord(region={}, crop={}, window={}, working_width=0,
                                   working_height=0, seed=number))  # fmt: skip
    return Photo(row, patches=[patch], **parts)


def _measure(units: list[list[Photo]], steps: _Steps) -> dict[str, Any]:
    """Seconds a photo, and the share of the time in which a batch is on the device."""
    with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as folder:
        prompts = SharedPrompts(folder)
        tables = [to_table(unit, prompts) for unit in units]

        def work(table: pa.Table) -> list[Photo]:
            photos = [each for each in from_table(table, prompts) if isinstance(each, Photo)]
            run_steps(photos, steps)
            to_table(photos, prompts)
            return photos

        work(tables[0])
        with _held() as held, ThreadPoolExecutor(CALLS_PER_GPU_ACTOR) as threads:
            started = time.perf_counter()
            done = [photo for unit in threads.map(work, tables) for photo in unit]
            wall_s = time.perf_counter() - started
    failed = [photo.lineage.error for photo in done if not photo.ok]
    if failed:
        raise RuntimeError(f"{len(failed)} photos failed, the first by {failed[0]}")
    return {"photos": len(done), "seconds": wall_s / len(done), "busy": sum(held) / wall_s}


@contextmanager
def _held() -> Iterator[list[float]]:
    """Collect for how long the device is held each time, in s, while the block runs."""
    found: list[float] = []
    began = threading.local()
    kind, depth = type(device_lock.DEVICE_LOCK), threading.local()
    enter, leave = kind.__enter__, kind.__exit__

    def __enter__(self: Any) -> None:  # noqa: N807 - replaces it
        enter(self)
        depth.now = getattr(depth, "now", 0) + 1
        if depth.now == 1:
            began.at = time.perf_counter()

    def __exit__(self: Any, *error: object) -> None:  # noqa: N807
        depth.now -= 1
        if depth.now == 0:
            found.append(time.perf_counter() - began.at)
        leave(self, *error)

    with mock.patch.multiple(kind, __enter__=__enter__, __exit__=__exit__):
        yield found
