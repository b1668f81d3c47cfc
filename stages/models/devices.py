"""Where networks run: the device, its number format, batches that fit into its memory, and what
comes out where the number format did not do.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import cv2
import numpy as np
import torch

from manifests.errors import RowError
from stages.pixels.masks import Bytes
from stages.traits import Dtype

Item = TypeVar("Item")
Result = TypeVar("Result")

#: What libraries beside PyTorch's own allocator say where memory ends (cuFFT, cuBLAS, cuDNN, CPU).
_SIGNS_OF_NO_MEMORY = ("ALLOC_FAILED", "CUDA error: out of memory", "can't allocate memory")

#: Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30

#: A result whose brightest sample is at most the first, from a picture with one over the second, is
#: black: overflow that was clamped, and no picture.
_BLACK, _NOT_BLACK = 1, 16

#: A fill that is black is a failure if this far around it, px, fewer samples than this share are
#: darker than this level.
_AROUND_PX, _DARK, _MAX_DARK_SHARE = 16, 32, 0.05


def choose_device(device: torch.device | str | None = None) -> torch.device:
    """The device named, else the first GPU, else the CPU."""
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """The number format asked for; ``auto`` is bfloat16 where the device computes in it."""
    if dtype != "auto":
        named: torch.dtype = getattr(torch, dtype)
        return named
    return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32


def _computes_in_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is native: where it is emulated, it takes a multiple of float32's time.

    oneDNN's own answer (``mkldnn._is_mkldnn_bf16_supported``) is no help: it says yes on any
    AVX-512 CPU, where big-lama in bfloat16 took 3 times as long as in float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Of 2.9 on; each CPU with AMX tiles multiplies bfloat16 in them.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def keep_freed_memory() -> None:
    """Have this process keep up to 1 GiB that is freed, for what is allocated next; glibc only.

    On a CPU each layer allocates its output, and frees its input. By default glibc has the kernel
    map and unmap what is large, and clearing the pages took a twelfth of LaMa's time. PyTorch's
    tuning guide recommends another allocator for this, which had to be loaded before Python.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def run_in_batches(
    run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], max_batch: int
) -> list[Result | RowError]:
    """Run items in batches, smaller ones where memory ends.

    Args:
        run: takes a batch, and returns as many results in its order.
        items: run ``max_batch`` at once, at most.
        max_batch: 1 or more; halved each time that a batch does not fit, for the rest of the call.

    Returns:
        One result for each item, in order. An item that does not even fit alone has in its place
        a RowError ``model.out_of_memory``, not raised, so that it costs no other item.
    """
    results: list[Result | RowError] = []
    size = max_batch
    while len(results) < len(items):
        batch = items[len(results) : len(results) + size]
        done = _run_if_it_fits(run, batch)
        if done is not None:
            results += done
        elif len(batch) > 1:
            size = len(batch) // 2
        else:
            results.append(
                RowError(
                    "model.out_of_memory", "A single crop does not fit into the device's memory."
                )
            )
    return results


def _run_if_it_fits(run: Callable[[Item], Result], batch: Item) -> Result | None:
    """What ``run`` returns, or None, and memory given back, where there is too little of it."""
    try:
        return run(batch)
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not is_out_of_memory(error):
            raise
    # Not inside the handler: there, the traceback still holds the tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error is about the device's memory, whichever library raised it."""
    known = isinstance(error, torch.OutOfMemoryError)
    return known or any(sign in str(error) for sign in _SIGNS_OF_NO_MEMORY)


def is_black(result: Bytes, source: Bytes, hole: Bytes | None = None) -> bool:
    """Whether a network made black of what was not: a failure, not a picture.

    Args:
        result: ``(h, w, 3)`` uint8.
        source: likewise, what it was given; only its surroundings of the hole count.
        hole: ``(h, w)`` uint8, over 0 where it painted; None: everywhere. A hole may rightly be
            filled with black, so a fill next to anything dark is believed.
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
