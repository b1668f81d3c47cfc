"""Times ways to run a network, and compares what they paint."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch

from manifests.errors import RowError
from stages.recipe.removal_methods import RoremOptions
from tests.bench.common import Pixels
from tests.bench.ideal import Work, flux_fill_work, klein_work, lama_work, sdxl_work, z_image_work
from tests.bench.ways import PHOTO, PLAIN, REFERENCE, REFINERS, WAYS, Load, Way, is_alike, make
from tests.support import upright_rgb
from tests.support.models.lama_networks import hole

#: Calls that are timed are repeated until they took so long.
_ENOUGH_S, _MAX_REPEATS = 5.0, 5


class Bench:
    """Measures one way at a time.

    Args:
        load: where, and how large.
        deadline: on ``time.monotonic``; no figure is begun after it.
    """

    def __init__(self, load: Load, deadline: float) -> None:
        self.load, self.deadline = load, deadline
        self.is_gpu = load.device.type == "cuda"
        self.device_name = name_of(load.device)
        self.references: dict[int, Pixels] = {}

    def figures(
        self, network: str, ways: Sequence[str], sizes: Sequence[int], batches: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        """A figure for each way, side and batch. Whatever goes wrong in one does not end others.

        Pictures are compared with the first way's of the same size.
        """
        for way in ways:
            run: Way | None = None
            for size_px in sizes:
                figure: dict[str, Any] = {"network": network, "way": way, "size_px": size_px}
                try:
                    self.check_time()
                    if run is None or network in REFINERS:  # compiled for its size
                        run = None
                        free()
                        run = make(network, way, replace(self.load, size_px=size_px))
                except Exception as error:
                    yield figure | {"note": reason(error)}
                    continue
                # Loops that people write take pictures one by one.
                for batch in [1] if way == PLAIN else batches:
                    timed: dict[str, Any] = {"batch": batch}
                    try:
                        self.check_time()
                        timed |= self._timed(network, way, run, size_px, batch)
                    except Exception as error:
                        timed["note"] = reason(error)
                    yield figure | timed

    def check_time(self) -> None:
        """Raise TimeoutError after the deadline."""
        if time.monotonic() > self.deadline:
            raise TimeoutError("the minutes are over")

    def _timed(
        self, network: str, way: str, run: Way, size_px: int, batch: int
    ) -> dict[str, float]:
        pixels, mask = picture(size_px)
        shortages = self.shortages()
        results: Sequence[Pixels | RowError] = []

        def call() -> float:
            nonlocal results
            started = time.perf_counter()
            results = run([pixels] * batch, [mask] * batch)
            if self.is_gpu:
                torch.cuda.synchronize(self.load.device)
            return time.perf_counter() - started

        first_s = call()  # chooses kernels, and fills the allocator's pool
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats(self.load.device)
        times = [call()]
        repeats = 1 if self.load.tiny else _MAX_REPEATS
        while sum(times) < _ENOUGH_S and len(times) < repeats:
            times.append(call())
        for result in results:
            if isinstance(result, RowError):
                raise result
        if self.shortages() > shortages:  # what was timed are halves of the batch
            raise torch.OutOfMemoryError
        figure = {"seconds": statistics.median(times) / batch, "first_s": first_s}
        if self.is_gpu:
            figure["peak_gib"] = torch.cuda.max_memory_allocated(self.load.device) / 2**30
        ideal = self._ideal_s(network, way, size_px)
        if ideal:
            figure |= {"ideal_s": ideal, "share_of_ideal": ideal / figure["seconds"]}
        reference = self.references.setdefault(size_px, np.asarray(results[0]))
        alike = is_alike(network, way)
        return figure | (differences(results[0], reference, mask) if alike else {})

    def shortages(self) -> int:
        """How often memory has run out so far: whoever halves a batch does not say."""
        stats = torch.cuda.memory_stats(self.load.device) if self.is_gpu else {}
        return int(stats.get("num_ooms", 0))

    def _ideal_s(self, network: str, way: str, size_px: int) -> float | None:
        work = self._work(network, way, size_px)
        fp8 = WAYS[network][way].get("fp8", False)
        return work.seconds(self.device_name, fp8=fp8) if work else None

    def _work(self, network: str, way: str, size_px: int) -> Work | None:
        tiny, options = self.load.tiny, WAYS[network][way]
        steps = self.load.steps_of(network, way)
        work = None
        match network:
            case "lama":
                work = lama_work(size_px, tiny=tiny)
            case "osor":
                work = sdxl_work(size_px, 1, encodings=1, tiny=tiny)
            case "rorem":
                _, run = RoremOptions(steps=steps).scheduled_and_executed_steps
                work = sdxl_work(size_px, run, tiny=tiny)
            case "z-image":
                work = z_image_work(size_px, steps, tiny=tiny)
            case "flux2-klein":
                work = klein_work(
                    size_px,
                    steps,
                    references=0 if options.get("reference") == "none" else 1,
                    small_decoder="small_decoder" in options,
                    tiny=tiny,
                )
            case "flux-fill":
                tokens = 512 if way == PLAIN else 256
                work = flux_fill_work(size_px, steps, tokens, tiny=tiny)
        return work


def against_cpu(network: str, way: str, device: torch.device) -> dict[str, float]:
    """Run a tiny network on the device, and compare with float32 on the CPU."""
    pixels, mask = picture(64)
    cpu = Load(torch.device("cpu"), 2, tiny=True, size_px=64)
    (expected, _) = make(network, REFERENCE, cpu)([pixels] * 2, [mask] * 2)
    free()
    (found, _) = make(network, way, replace(cpu, device=device))([pixels] * 2, [mask] * 2)
    return differences(found, expected, mask)


def differences(found: Any, expected: Any, mask: Pixels) -> dict[str, float]:
    """How far the hole is from another, in levels of 255: its mean, and the largest."""
    for each in (found, expected):
        if isinstance(each, RowError):
            raise each
    if found.shape[:2] != mask.shape:  # enlarged
        mask = np.full(found.shape[:2], 255, np.uint8)
    off = cv2.absdiff(found, expected)[mask > 0]
    return {"off_mean": float(off.mean()), "off_max": float(off.max())}


def picture(size_px: int) -> tuple[Pixels, Pixels]:
    """A photo of this side, and its hole."""
    photo = cv2.resize(upright_rgb(PHOTO), (size_px, size_px), interpolation=cv2.INTER_AREA)
    pixels = np.asarray(photo, np.uint8)
    return pixels, hole(pixels)


def free() -> None:
    """Free what the way before compiled, and what it had on the device."""
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()


def name_of(device: torch.device) -> str:
    """The device's name for people, and for its peak."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def reason(error: Exception) -> str:
    """Why there is no figure, in a line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "it does not fit into the device's memory"
    text = str(error) if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
    return text.strip().partition("\n")[0]
