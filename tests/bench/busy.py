"""How busy the device is in a run's actors: their steps, payload and threads, without Ray.

Two threads take units from a queue, as an actor with a GPU works on two blocks at once: they unpack
the photos, run the pool's steps, with judge and resizing, and pack them again. The networks have
random weights. What this misses: Ray's own time, and other actors on the same CPUs.

As a script it needs no GPU: the refiner sleeps for as long as a GPU is published to take, in one
and in two threads. It also counts how many windows or crops of one shape a network gets at once.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import torch

from cluster.pools import CALLS_PER_GPU_ACTOR
from jobs.pipeline.prompts import SharedPrompts
from jobs.pipeline.transport import from_table, to_table
from manifests.errors import RowError
from manifests.schema import LineageRow, PatchRecord
from stages import device_lock
from stages.arrays import BoolMask
from stages.models import lama as lama_module
from stages.models.devices import run_in_batches
from stages.models.lama import Lama
from stages.models.refiners.flow import FlowRefiner
from stages.photo import CropPatch, Patch, Photo, WindowPatch
from stages.pixels.boxes import Box
from stages.pixels.windows import plan_patches, refiner_size, window_of, working_size
from stages.recipe import Recipe
from stages.recipe.refiners import FluxFillOptions
from stages.recipe.removal_methods import LamaOptions
from stages.steps.base import BatchFunction, PhotoFunction, run_steps
from stages.steps.focus import build_focus
from stages.steps.refine import build_refine
from stages.steps.remove import build_remove
from stages.steps.upscale import build_upscale
from tests.bench.common import Figures, Pixels, options_of
from tests.bench.timing import picture
from tests.bench.ways import Load, make_refiner, random_prompt
from tests.support.models.lama_networks import random_lama
from tests.support.models.networks import make_lama

#: Side of a crop in the photo, and of the removal's window: the mean of the demo's.
_CROP_PX, _WINDOW_PX = 400, 640

#: Photos of one shop, all of one size, and of a market place, px.
_SIDES = {
    "one": [(1600, 1600)],
    "mixed": [
        *((1000, 1000), (1200, 1600), (1600, 1200), (2000, 3000), (3000, 2000)),
        *((2448, 3264), (4000, 3000), (4000, 6000)),
    ],
}

#: Names and functions, as a pipeline loads them.
_Steps = list[tuple[str, PhotoFunction | BatchFunction]]


def refine_actor(
    refiner: FlowRefiner, photos: int, calls: int = CALLS_PER_GPU_ACTOR
) -> dict[str, Any]:
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
        mock.patch("stages.steps.refine.get_section_weights", return_value=located),
    ):
        steps: _Steps = [("upscale", build_upscale(recipe)), ("refine", build_refine(recipe))]
    units = [[photo(n) for n in range(i, i + batch)] for i in range(0, photos, batch)]
    return _measure(units, steps, calls)


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
            seed=number, original_crop=pixels[crop.slices], hole=mask[crop.slices],
        )  # fmt: skip
        return _photo(number, patch)

    located = options, {"random": "0" * 64}
    with (
        mock.patch.object(lama_module, "load", return_value=lambda p, m, _: lama.fill(p, m)),
        mock.patch("stages.steps.remove.get_section_weights", return_value=located),
    ):
        steps: _Steps = [("remove", build_remove(recipe)), ("focus", build_focus(recipe))]
    units = [[photo(n) for n in range(i, i + load.batch)] for i in range(0, photos, load.batch)]
    return _measure(units, steps)


def _photo(number: int, patch: Patch, **parts: Any) -> Photo:
    row = LineageRow(id=str(number), image_uri="photo", mask_uri="mask")
    row.patches.append(PatchRecord(region={}, crop={}, window={}, working_width=0,
                                   working_height=0, seed=number))  # fmt: skip
    return Photo(row, patches=[patch], **parts)


def _measure(
    units: list[list[Photo]], steps: _Steps, calls: int = CALLS_PER_GPU_ACTOR
) -> dict[str, Any]:
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
        with _held() as held, ThreadPoolExecutor(calls) as threads:
            started = time.perf_counter()
            done = [photo for unit in threads.map(work, tables) for photo in unit]
            wall_s = time.perf_counter() - started
    failed = [photo.lineage.error for photo in done if not photo.ok]
    if failed:
        raise RuntimeError(f"{len(failed)} photos failed, the first by {failed[0]}")
    idle_s = (wall_s - sum(held)) / len(units)
    return {
        "photos": len(done),
        "seconds": wall_s / len(done),
        "busy": sum(held) / wall_s,
        "idle_s_a_call": idle_s,
    }


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


def sleeping_actor(seconds: float, photos: int, calls: int) -> dict[str, Any]:
    """Busy share of the actor of the large GPU, whose device sleeps ``seconds`` for each crop."""
    load = Load(torch.device("cpu"), FluxFillOptions().batch_size, tiny=True)
    refiner = make_refiner("flux-fill", "bfloat16", load)

    def refine_slowly(pixels: Sequence[Pixels], *_: object) -> Sequence[Pixels | RowError]:
        def run(batch: Sequence[Pixels]) -> Sequence[Pixels]:
            time.sleep(seconds * len(batch))
            return batch

        return run_in_batches(run, pixels, refiner.limit)

    with mock.patch.object(refiner, "refine", refine_slowly):
        return refine_actor(refiner, photos, calls)


def batch_fill(photos: int, sides: Sequence[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """How many windows or crops run at once, on average, by photos in a call of the actor.

    Photos have one or two marks of 5 to 10 % of their longer side, anywhere.
    """
    rng = np.random.default_rng(0)
    masks = [_marked(sides[number % len(sides)], rng) for number in range(photos)]
    lama, clean = Recipe.load("lama"), Recipe.load("clean")
    for network, recipe in (("lama", lama), ("lama", clean), ("flux-fill", clean)):
        options = recipe.remove if network == "lama" else recipe.refine
        assert options
        shapes = [_shapes(mask, recipe, network) for mask in masks]
        for in_call in (options.photos_per_call, 4 * options.photos_per_call):
            together: list[int] = []
            for start in range(0, photos, in_call):
                shapes_of_call = chain.from_iterable(shapes[start : start + in_call])
                together += Counter(shapes_of_call).values()
            runs = sum(-(-count // options.photos_per_call) for count in together)
            yield {
                "recipe": recipe.name, "network": network, "photos_a_call": in_call,
                "limit": options.photos_per_call, "at_once": sum(together) / runs,
            }  # fmt: skip


def _marked(size: tuple[int, int], rng: np.random.Generator) -> BoolMask:
    width, height = size
    mask = np.zeros((height, width), np.bool_)
    for _ in range(rng.integers(1, 3)):
        across, down = (rng.uniform(0.05, 0.1, 2) * max(size)).astype(int)
        x, y = rng.integers(0, width - across), rng.integers(0, height - down)
        mask[y : y + down, x : x + across] = True
    return mask


def _shapes(mask: BoolMask, recipe: Recipe, network: str) -> list[tuple[int, int]]:
    """Of the windows or crops of a photo, as the network gets them."""
    plans = plan_patches(mask, recipe)
    if network != "lama":
        assert recipe.refine
        return [refiner_size(plan.crop, recipe.refine.size_px) for plan in plans]
    windows = [window_of(plan, recipe, mask.shape[1], mask.shape[0]) for plan in plans]
    return [working_size(recipe, window.width, window.height) for window in windows]


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--seconds", type=float, default=4.7, help="a crop takes the device")
    parser.add_argument("--photos", type=int, default=64)
    given = parser.parse_args()
    figures = Figures(given.out)
    for calls in (1, CALLS_PER_GPU_ACTOR):
        figures.add(calls=calls, **sleeping_actor(given.seconds, given.photos, calls))
    for name, sides in _SIDES.items():
        for found in batch_fill(4 * given.photos, sides):
            figures.add(sizes=name, **found)


if __name__ == "__main__":
    main()
