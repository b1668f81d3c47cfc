"""What a photo costs on its way between the actors of a run with GPUs: bytes, and CPU time.

Mosaics of the bundled photos with one mark each are taken through the steps of the recipe ``clean``
up to each of the three hops. In place of the models the crops stay as they are, and the prompt is
as large as FLUX-Fill's. Each hop is packed, put into Ray's object store, got and unpacked, one
photo a block as in a run. The CPU time of the file that is read again, and of the second decoding,
is measured apart.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import ray

from jobs.driver.placement import connected
from jobs.pipeline.prompts import SharedPrompts
from jobs.pipeline.transport import from_table, to_table
from manifests.schema import LineageRow
from stages.models.refiners.prompts import Prompt, hash_of
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.recipe import Recipe
from stages.steps.fetch import build_fetch_again
from stages.steps.focus import build_focus
from stages.steps.stitch import build_stitch
from tests.bench.catalog import make_catalog
from tests.bench.common import Figures, options_of
from tests.bench.pool_loop import rows_of

_REPEATS = 5

#: Tokens and dimensions of FLUX-Fill's text encoders.
_EMBEDS, _POOLED = (512, 4096), 768


def _prompt() -> Prompt:
    noise = np.random.default_rng(0).standard_normal(_EMBEDS, np.float32)
    embeds = (noise.view(np.uint32) & 0xFFFF0000).view(np.float32)  # as if from bfloat16
    return Prompt(embeds, np.zeros(_POOLED, np.float32), hash_of("a text"))


def _hops(photo: Photo, recipe: Recipe, prompt: Prompt) -> Iterator[tuple[str, Photo]]:
    """Take a photo through the steps; yield it at each hop."""
    Pipeline.of(recipe).until("cut").run(photo)
    if not photo.ok:
        raise RuntimeError(photo.lineage.error)
    yield "cpu > small_gpu", photo
    build_focus(recipe)(photo)
    photo.prompt = prompt
    yield "small_gpu > large_gpu", photo
    photo.prompt = None
    yield "large_gpu > cpu", photo


def measure(megapixels: float, photos: int, figures: Figures) -> None:
    """Measure photos of about this size: the mean of all, and each photo's best of some rounds."""
    recipe, prompt = Recipe.load("clean"), _prompt()
    found: dict[str, list[tuple[float, float]]] = {}
    again: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="catalog-cleanup-bench-") as name:
        folder = Path(name)
        manifest = make_catalog(folder / "catalog", photos, megapixels).manifest
        prompts = SharedPrompts(str(folder / "out"))
        prompts.share(prompt)  # as after an actor's first photo
        for row_id, image, mask in rows_of(manifest):
            photo = Photo(LineageRow(id=row_id, image_uri=image, mask_uri=mask))
            for hop, there in _hops(photo, recipe, prompt):
                found.setdefault(hop, []).append(_cost(there, prompts))
            read = _best(lambda: build_fetch_again(recipe)(photo))  # noqa: B023 - called at once
            photo.decoded = None
            again.append((read, _best(lambda: build_stitch(recipe)(photo), 1)))  # noqa: B023
    for hop, costs in found.items():
        size, cpu = np.mean(costs, axis=0)
        figures.add(hop=hop, megapixels=megapixels, kilobytes=size / 1000, cpu_ms=cpu * 1000)
    read, decode = np.mean(again, axis=0) * 1000
    figures.add(hop="all", megapixels=megapixels,
                kilobytes=sum(np.mean(costs, axis=0)[0] for costs in found.values()) / 1000,
                read_again_ms=read, decode_and_stitch_ms=decode)  # fmt: skip


def _cost(photo: Photo, prompts: SharedPrompts) -> tuple[float, float]:
    """Bytes of a photo in the object store, and CPU s from actor to actor."""
    table = to_table([photo], prompts)

    def hop() -> None:
        reference = ray.put(to_table([photo], prompts))
        list(from_table(ray.get(reference), prompts))

    hop()  # the prompt's first photo is sent with it
    return float(table.nbytes), _best(hop)


def _best(work: Callable[[], None], rounds: int = _REPEATS) -> float:
    taken = []
    for _ in range(rounds):
        before = time.process_time()
        work()
        taken.append(time.process_time() - before)
    return min(taken)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--megapixels", type=float, nargs="*", default=[4.0, 12.0, 24.0])
    given = parser.parse_args()
    figures = Figures(given.out)
    with connected("local"):
        for megapixels in given.megapixels:
            measure(megapixels, given.photos, figures)


if __name__ == "__main__":
    main()
