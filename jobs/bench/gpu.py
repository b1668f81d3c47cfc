"""What the models cost on a GPU, against the loops that people write, in one run.

Networks have the published architectures and random weights, so that none are needed. Times are
of whole calls, from uint8 pictures to uint8 pictures; text encoders, which run once per prompt,
are left out. Random weights take the time that trained ones do.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from jobs.bench.ideal import Peak, flux_fill_work, lama_work
from jobs.bench.networks import make_transformer
from jobs.bench.ways import PLAIN, WAYS, Load, Network, Way, make
from manifests.errors import RowError, WeightsError
from stages.devices import choose_device
from stages.masks import Bytes

#: Sides of a crop for the refiner: its usual one, and smaller ones.
SIZES_PX = (512, 768, 1024)
BATCHES = (1, 4)

_TOO_LARGE = "it does not fit into the device's memory"


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured, where.

    Attributes:
        device: as :func:`place` finds it.
        networks: which.
        ways: names of :data:`jobs.bench.ways.WAYS`; empty: all of them.
        sizes: sides of the square pictures, px.
        batches: pictures at once. Plain loops take one at a time.
        repeats: after a call that is not counted, so many are.
        tiny: take tiny networks, whose figures mean nothing.
    """

    device: torch.device | None
    networks: Sequence[Network]
    ways: Sequence[str]
    sizes: Sequence[int]
    batches: Sequence[int]
    repeats: int
    tiny: bool


@dataclass(frozen=True, slots=True)
class GpuCost:
    """One network, run one way, on pictures of one size.

    Attributes:
        network: which.
        way: of :data:`jobs.bench.ways.WAYS`; empty: each.
        size_px: both sides of the pictures; 0: each.
        batch: pictures at once; 0: each.
        seconds: a picture, the median; None: not measured.
        peak_gib: the most memory of the GPU that tensors took at once; None: on a CPU.
        ideal_seconds: a picture, by arithmetic alone, in 16 bits (with fp8, linear layers in 8);
            None: not known for this device.
        note: why it was not measured.
    """

    network: Network
    way: str = ""
    size_px: int = 0
    batch: int = 0
    seconds: float | None = None
    peak_gib: float | None = None
    ideal_seconds: float | None = None
    note: str = ""


def place(device: str | None, *, tiny: bool) -> torch.device | None:
    """The device named, else the first GPU, or for tiny networks the CPU; None: there is no GPU."""
    chosen = choose_device(device if device or tiny else "cuda")
    return None if chosen.type == "cuda" and not torch.cuda.is_available() else chosen


def name_of(device: torch.device | None) -> str:
    """A GPU as CUDA names it; the CPU; empty where there is no device."""
    if device is None:
        return ""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def measure(setup: Setup) -> Iterator[GpuCost]:
    """Measure each network each way at each size; what cannot be measured is told with its reason.

    Whatever goes wrong in one way does not end the others.
    """
    for network in setup.networks:
        if setup.device is None:
            yield GpuCost(network, note="there is no NVIDIA GPU")
        elif problem := _too_small(network, setup.device, tiny=setup.tiny):
            yield GpuCost(network, note=problem)
        else:
            for way in WAYS[network]:
                if not setup.ways or way in setup.ways:
                    yield from _measure_way(GpuCost(network, way), setup, setup.device)


def _too_small(network: Network, device: torch.device, *, tiny: bool) -> str:
    """Why a device cannot take a network at all; empty if it can."""
    if network == "lama" or tiny:
        return ""
    if device.type != "cuda":
        return "at full size it takes a GPU"
    with torch.device("meta"):
        count = sum(weights.numel() for weights in make_transformer().parameters())
    needed, free = count * 2 / 2**30, torch.cuda.mem_get_info(device)[0] / 2**30
    if free > needed:
        return ""
    return f"its weights take {needed:.1f} GiB in 16 bits, and the GPU has {free:.1f} GiB free"


def _measure_way(cost: GpuCost, setup: Setup, device: torch.device) -> Iterator[GpuCost]:
    """One way at each size."""
    _forget(device)
    try:
        way = make(cost.network, cost.way, Load(device, max(setup.batches), setup.tiny))
        for size_px in setup.sizes:
            for batch in (1,) if cost.way == PLAIN else setup.batches:
                yield _measured(way, replace(cost, size_px=size_px, batch=batch), setup, device)
    except WeightsError as error:
        yield replace(cost, note=error.message)
    except torch.OutOfMemoryError:
        yield replace(cost, note=_TOO_LARGE)
    except Exception as error:  # of a library's kernels: the other ways are measured all the same
        yield replace(cost, note=f"{type(error).__name__}: {str(error).strip()}")


def _forget(device: torch.device) -> None:
    """Free what the way before had on the device, and the code that was compiled for it."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _measured(way: Way, cost: GpuCost, setup: Setup, device: torch.device) -> GpuCost:
    pixels, masks = _pictures(cost.size_px, cost.batch)
    shortages = _shortages(device)
    try:
        results, seconds, peak_gib = _timed(lambda: way.run(pixels, masks), setup.repeats, device)
    except torch.OutOfMemoryError:
        return replace(cost, note=_TOO_LARGE)
    for result in results:
        if isinstance(result, RowError):
            return replace(cost, note=result.message)
    if _shortages(device) > shortages:  # what was timed are halves of the batch
        return replace(cost, note=_TOO_LARGE)
    return replace(
        cost,
        seconds=seconds / cost.batch,
        peak_gib=peak_gib,
        ideal_seconds=_ideal_seconds(cost, device, tiny=setup.tiny),
    )


def _timed(
    call: Callable[[], Sequence[Bytes | RowError]], repeats: int, device: torch.device
) -> tuple[Sequence[Bytes | RowError], float, float | None]:
    """What the call returns, its median seconds, and GiB at its peak."""
    results = call()  # compiles, chooses kernels, and fills the allocator's pool
    is_gpu = device.type == "cuda"
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        results = call()
        if is_gpu:
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    peak_gib = torch.cuda.max_memory_allocated(device) / 2**30 if is_gpu else None
    return results, statistics.median(found), peak_gib


def _shortages(device: torch.device) -> int:
    """How often memory has run out, so far; whoever halves a batch does not tell."""
    if device.type != "cuda":
        return 0
    return int(torch.cuda.memory_stats(device).get("num_ooms", 0))


def _ideal_seconds(cost: GpuCost, device: torch.device, *, tiny: bool) -> float | None:
    options, peak = WAYS[cost.network][cost.way], Peak.of(name_of(device))
    if peak is None:
        return None
    if cost.network == "lama":
        return lama_work(cost.size_px, tiny=tiny).seconds(peak)
    load = Load(device, cost.batch, tiny)
    work = flux_fill_work(cost.size_px, load.steps, load.text_tokens, tiny=tiny)
    return work.seconds(peak, fp8=options.get("fp8", False))


def _pictures(size_px: int, count: int) -> tuple[list[Bytes], list[Bytes]]:
    """Noise with a hole in the middle, a fifth of it: what is seen does not change the time."""
    pixels = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), np.uint8)
    mask = np.zeros((size_px, size_px), np.uint8)
    cv2.circle(mask, (size_px // 2, size_px // 2), size_px // 4, (255,), -1)
    return [pixels] * count, [mask] * count
