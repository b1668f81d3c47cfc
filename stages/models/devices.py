"""Choose a device and a dtype, run batches that fit into memory, and detect failed output."""

from __future__ import annotations

import ctypes
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch

from manifests.errors import RowError
from stages.arrays import UInt8Array
from stages.device_lock import DEVICE_LOCK
from stages.method_options import Dtype

Item = TypeVar("Item")
Result = TypeVar("Result")
Batch = TypeVar("Batch")
Output = TypeVar("Output")

#: Out-of-memory messages of libraries beside PyTorch's allocator (cuFFT, cuBLAS, cuDNN, CPU).
_OUT_OF_MEMORY_MESSAGES = ("ALLOC_FAILED", "CUDA error: out of memory", "can't allocate memory")

#: From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30

#: A result whose brightest sample is at most the first value, from a picture with a sample over the
#: second, is black: a clamped overflow, not a picture.
_BLACK, _NOT_BLACK = 1, 16

#: A black fill is a failure if, within this many px around it, less than this share of the samples
#: is darker than this level.
_AROUND_PX, _DARK, _MAX_DARK_SHARE = 16, 32, 0.05


def choose_device(device: torch.device | str | None = None) -> torch.device:
    """Return the device named, else the first GPU, else the CPU."""
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """Return the number format; ``auto`` is bfloat16 if the device supports it natively."""
    if dtype != "auto":
        named: torch.dtype = getattr(torch, dtype)
        return named
    return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32


def _computes_in_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is native: emulated, it is several times slower than float32.

    oneDNN's check (``mkldnn._is_mkldnn_bf16_supported``) is true on every AVX-512 CPU, where
    big-lama in bfloat16 took 3 times as long as in float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Available since PyTorch 2.9; every CPU with AMX tiles supports bfloat16.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB of freed memory for reuse; glibc only.

    On a CPU each layer allocates its output and frees its input. By default glibc maps and unmaps
    large blocks, and clearing the pages took a twelfth of LaMa's time. PyTorch's tuning guide
    recommends another allocator for this, which would have to be loaded before Python.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


@dataclass(slots=True)
class BatchLimit:
    """How many items a network runs at once, with what was learned about the device's memory.

    Attributes:
        max_items: maximum batch size, 1 or more.
        is_all_or_one: only full batches and single items are run, for compiled networks: each
            further size would need its own compilation.
        max_px: batches of more pixels did not fit into memory.
    """

    max_items: int
    is_all_or_one: bool = False
    max_px: int = sys.maxsize

    def size(self, waiting: int, px: int) -> int:
        """Size of the next batch of up to ``waiting`` items of ``px`` pixels each; 1 or more."""
        size = min(self.max_items, waiting, max(self.max_px // px, 1))
        return 1 if self.is_all_or_one and size < self.max_items else size


def run_in_batches(
    run: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    limit: BatchLimit,
    px_of: Callable[[Item], int] = lambda _: 1,
    shape_of: Callable[[Item], Hashable] = lambda _: None,
) -> list[Result | RowError]:
    """Run items in batches, and halve the batch size when memory runs out.

    Args:
        run: processes a batch, and returns one result per item, in order.
        items: the items to run.
        limit: the batch size; lowered for good when a batch does not fit.
        px_of: pixels of an item; those of one shape have as many.
        shape_of: only items of one shape share a batch; by default, all do.

    Returns:
        One result per item, in order. An item that does not fit even alone gets a RowError
        ``model.out_of_memory``, which is not raised, so that other items are not affected.
    """
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        alike[shape_of(item)].append(index)
    results: dict[int, Result | RowError] = {}
    for indices in alike.values():
        same = [items[index] for index in indices]
        done = _run_alike(run, same, limit, px_of(same[0]))
        results.update(zip(indices, done, strict=True))
    return [results[index] for index in range(len(items))]


def _run_alike(
    run: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    limit: BatchLimit,
    px: int,
) -> list[Result | RowError]:
    """Run items of one shape; see :func:`run_in_batches`."""
    results: list[Result | RowError] = []
    while len(results) < len(items):
        first = len(results)
        batch = items[first : first + limit.size(len(items) - first, px)]
        done = _run_if_it_fits(run, batch)
        if done is not None:
            results += done
        elif len(batch) > 1:
            limit.max_px = len(batch) // 2 * px
        else:
            results.append(
                RowError(
                    "model.out_of_memory",
                    "A single crop or text does not fit into the device's memory.",
                )
            )
    return results


def _run_if_it_fits(run: Callable[[Batch], Output], batch: Batch) -> Output | None:
    """Return the result of ``run``; if memory runs out, free the device's cache and return None."""
    try:
        with DEVICE_LOCK:
            return run(batch)
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not is_out_of_memory(error):
            raise
    # Not inside the handler, where the traceback still references the tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error is about the device's memory, whichever library raised it."""
    is_own = isinstance(error, torch.OutOfMemoryError)
    return is_own or any(message in str(error) for message in _OUT_OF_MEMORY_MESSAGES)


def is_black(result: UInt8Array, source: UInt8Array, hole: UInt8Array | None = None) -> bool:
    """Whether a network's output is black although its input was not, which is a failure.

    Args:
        result: ``(h, w, 3)`` uint8, the output.
        source: ``(h, w, 3)`` uint8, the input; only the surroundings of the hole count.
        hole: ``(h, w)`` uint8, over 0 where the network filled; None: everywhere. A black fill can
            be correct, so it is accepted next to dark samples.
    """
    if hole is None:
        return bool(result.max() <= _BLACK and source.max() > _NOT_BLACK)
    marked = (hole > 0).astype(np.uint8)
    if result[marked > 0].max(initial=0) > _BLACK:
        return False
    side = 2 * _AROUND_PX + 1
    around = cv2.dilate(marked, np.ones((side, side), np.uint8)) > marked
    brightest = source.max(axis=2)[around]
    return brightest.size > 0 and float((brightest < _DARK).mean()) < _MAX_DARK_SHARE
