"""What LaMa and FLUX-Fill cost on a GPU, each way to run them, beside the loops that people write.

Networks have the published architectures at full size and random weights, which take the time that
trained ones do, so nothing is downloaded. Times are of whole calls, from uint8 pictures to uint8
pictures; text encoders, which run once per prompt, are left out. Each part (a way, a side, a batch)
is one figure, kept as soon as it is found; when the minutes are over, no other part is begun. Exit
code 0: all was measured; 2: some was not, and its figure says why; 1: nothing was.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import cv2
import numpy as np
import torch

from manifests.errors import RowError
from stages.models.devices import choose_device
from tests.bench.common import Figures, Pixels, options_of
from tests.bench.ideal import flux_fill_work, lama_work
from tests.bench.ways import PHOTO, PLAIN, REFERENCE, WAYS, Load, Way, make
from tests.support import upright_rgb
from tests.support.models.lama_networks import hole

#: Calls that are timed are repeated until they took so long.
_ENOUGH_S, _MAX_REPEATS = 10.0, 5


class Bench:
    """Measures one way at a time, and compares what it paints with the reference's pictures."""

    def __init__(self, device: torch.device, tiny: bool, max_batch: int, deadline: float) -> None:
        self.device, self.load, self.deadline = device, Load(device, max_batch, tiny), deadline
        self.is_gpu = device.type == "cuda"
        self.device_name = torch.cuda.get_device_name(device) if self.is_gpu else str(device)
        self.references: dict[tuple[str, int], Pixels] = {}

    def parts(
        self, network: str, way: str, sizes: Sequence[int], batches: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        """A figure for each side and batch, or one with a note for all of them.

        Whatever goes wrong in one does not end the others.
        """
        if network == "flux-fill" and not (self.is_gpu or self.load.tiny):
            yield {"note": "at full size it takes a GPU"}
            return
        torch.compiler.reset()  # frees what the way before compiled, and what it had there
        gc.collect()
        torch.cuda.empty_cache()
        try:
            self._check_time()
            run = make(network, way, self.load)
        except Exception as error:
            yield {"note": _reason(error)}
            return
        alone = way == PLAIN or (way == REFERENCE and network == "flux-fill")  # or it takes minutes
        for size_px in sizes:
            for batch in [1] if alone else batches:
                figure: dict[str, Any] = {"size_px": size_px, "batch": batch}
                try:
                    self._check_time()
                    figure |= self._timed(network, way, run, size_px, batch)
                except Exception as error:
                    figure["note"] = _reason(error)
                yield figure

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise TimeoutError("the minutes are over")

    def _timed(
        self, network: str, way: str, run: Way, size_px: int, batch: int
    ) -> dict[str, float]:
        photo = cv2.resize(upright_rgb(PHOTO), (size_px, size_px), interpolation=cv2.INTER_AREA)
        pixels = np.asarray(photo, np.uint8)
        mask = hole(pixels)
        shortages = self._shortages()
        results: Sequence[Pixels | RowError] = []

        def call() -> float:
            nonlocal results
            started = time.perf_counter()
            results = run([pixels] * batch, [mask] * batch)
            if self.is_gpu:
                torch.cuda.synchronize(self.device)
            return time.perf_counter() - started

        first_s = call()  # compiles, chooses kernels, and fills the allocator's pool
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        times = [call()]
        while sum(times) < _ENOUGH_S and len(times) < _MAX_REPEATS:
            times.append(call())
        for result in results:
            if isinstance(result, RowError):
                raise result
        if self._shortages() > shortages:  # what was timed are halves of the batch
            raise torch.OutOfMemoryError
        figure = {"seconds": statistics.median(times) / batch, "first_s": first_s}
        if self.is_gpu:
            figure["peak_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        ideal = self._ideal_s(network, way, size_px)
        if ideal:
            figure |= {"ideal_s": ideal, "share_of_ideal": ideal / figure["seconds"]}
        return figure | self._compared(network, way, results[0], mask, size_px)

    def _compared(
        self, network: str, way: str, result: Any, mask: Pixels, size_px: int
    ) -> dict[str, float]:
        """How far the hole is from the reference's, in levels of 255: its mean, and the largest."""
        if way == REFERENCE:
            self.references[network, size_px] = result
        reference = self.references.get((network, size_px))
        # diffusers' own loop starts from other noise.
        if reference is None or (network, way) == ("flux-fill", PLAIN):
            return {}
        off = cv2.absdiff(result, reference)[mask > 0]
        return {"off_mean": float(off.mean()), "off_max": float(off.max())}

    def _shortages(self) -> int:
        """How often memory has run out so far: whoever halves a batch does not say."""
        stats = torch.cuda.memory_stats(self.device) if self.is_gpu else {}
        return int(stats.get("num_ooms", 0))

    def _ideal_s(self, network: str, way: str, size_px: int) -> float | None:
        if network == "lama":
            return lama_work(size_px, tiny=self.load.tiny).seconds(self.device_name)
        steps, tokens = self.load.steps, self.load.text_tokens
        work = flux_fill_work(size_px, steps, tokens, tiny=self.load.tiny)
        return work.seconds(self.device_name, fp8=WAYS[network][way].get("fp8", False))


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "it does not fit into the device's memory"
    return str(error) if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--network", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--way", nargs="+", help="these alone: " + "; ".join(
        f"{network}: {', '.join(ways)}" for network, ways in WAYS.items()))  # fmt: skip
    parser.add_argument("--size", type=int, nargs="+", help="sides, px; else 512 and 1024")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--device", help="cuda:1, or cpu for LaMa; else the first GPU")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: a rehearsal, anywhere")
    given = parser.parse_args()
    device = choose_device(given.device or (None if given.tiny else "cuda"))
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "There is no NVIDIA GPU: --device cpu measures LaMa, --tiny rehearses.\n")
    bench = Bench(device, given.tiny, max(given.batch), time.monotonic() + 60 * given.minutes)
    figures = Figures(given.out, device=bench.device_name, tiny=given.tiny, versions={
        "torch": torch.__version__, "cuda": torch.version.cuda,
        "diffusers": version("diffusers")})  # fmt: skip
    tiny = "; tiny networks: no measure of anything" * given.tiny
    sys.stdout.write(f"{bench.device_name}, PyTorch {torch.__version__}{tiny}\n")
    for network in given.network:
        for way in WAYS[network]:
            if not given.way or way in given.way:
                sizes = given.size or ([64] if given.tiny else [512, 1024])
                for figure in bench.parts(network, way, sizes, given.batch):
                    figures.add(network=network, way=way, **figure)
    measured = ["seconds" in figure for figure in figures.found]
    sys.exit(0 if all(measured) and measured else 2 if any(measured) else 1)


if __name__ == "__main__":
    main()
