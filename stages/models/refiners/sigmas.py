"""Noise levels for ``denoise``, computed as in ComfyUI."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stages.recipe.refiners import Scheduler

Times = npt.NDArray[np.float32]

#: Number of entries in ComfyUI's table of noise levels for FLUX (``ModelSamplingFlux``).
_TABLE_SIZE = 10_000

#: ComfyUI treats ``denoise`` above this as 1 (``KSampler.set_steps``).
_FULL_DENOISE = 0.9999


def comfy_sigmas(
    steps: int, denoise: float, shift: float, scheduler: Scheduler = "simple"
) -> list[float]:
    """Compute the noise levels of one of ComfyUI's schedulers for a FLUX model.

    ``denoise`` does not reduce the number of steps: ``int(steps / denoise)`` steps are scheduled,
    and the last ``steps`` of them are run, which start at a lower noise level. With few steps this
    is coarse: with 3 steps and 0.8, all 3 of int(3.75) are run, as with 1.

    Sources: ``KSampler.set_steps``, ``simple_scheduler`` and ``normal_scheduler`` in ComfyUI's
    ``comfy/samplers.py``, ``ModelSamplingFlux`` and ``flux_time_shift`` in its
    ``comfy/model_sampling.py``. Levels are float32 there and here: those of ``simple`` are equal to
    the last bit; those of ``normal`` may differ in it, since it depends on the CPU there.

    Args:
        steps: number of steps to run, at least 1.
        denoise: over 0, up to 1.
        shift: mu; the level at time t (1: noise alone) is exp(mu) / (exp(mu) + 1/t - 1).
        scheduler: ``simple`` takes evenly spaced entries of a table of levels. ``normal`` spaces
            times evenly from the table's highest *level* to its lowest, both included, and shifts
            them, so that its last step begins near 0.

    Returns:
        ``steps + 1`` decreasing levels (with tiny ``denoise``, levels may repeat); the last is 0.

    Raises:
        ValueError: ``steps`` or ``denoise`` is out of range.
    """
    if steps < 1 or not 0 < denoise <= 1:
        raise ValueError(f"steps = {steps} must be at least 1, denoise = {denoise} in (0, 1].")
    scheduled = steps if denoise > _FULL_DENOISE else int(steps / denoise)
    executed = range(scheduled - steps, scheduled)
    times = _simple(scheduled) if scheduler == "simple" else _normal(scheduled, shift)
    return [_level(times[step], shift) for step in executed] + [0.0]


def _simple(scheduled: int) -> Times:
    """Times of evenly spaced entries, counted from the table's end."""
    stride = _TABLE_SIZE / scheduled
    entries = [_TABLE_SIZE - int(step * stride) for step in range(scheduled)]
    return np.array(entries, np.float32) / np.float32(_TABLE_SIZE)


def _normal(scheduled: int, shift: float) -> Times:
    """Evenly spaced from both ends to the middle, as ``torch.linspace`` computes in float32."""
    first, last = (np.float32(_level(np.float32(time), shift)) for time in (1, 1 / _TABLE_SIZE))
    step = (last - first) / np.float32(max(scheduled - 1, 1))
    number = np.arange(scheduled, dtype=np.float32)
    from_last = last - step * (scheduled - 1 - number)
    return np.where(number < max(scheduled // 2, 1), first + step * number, from_last)


def _level(time: np.float32, shift: float) -> float:
    """Level at a time over 0, up to 1, in float32 as in ComfyUI.

    Torch divides a number by a tensor by multiplying with the tensor's reciprocal.
    """
    one, scale = np.float32(1), np.float32(math.exp(shift))
    return float(one / (scale + (one / time - one)) * scale)
