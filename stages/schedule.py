"""The noise levels that ``denoise`` stands for, as ComfyUI computes them."""

from __future__ import annotations

import math

import numpy as np

#: Entries of the table of noise levels that ComfyUI keeps for FLUX (``ModelSamplingFlux``).
_TABLE = 10_000

#: From here on ComfyUI takes ``denoise`` for 1 (``KSampler.set_steps``).
_ALL = 0.9999


def comfy_sigmas(steps: int, denoise: float, shift: float) -> list[float]:
    """The noise levels of ComfyUI's scheduler ``simple`` for a FLUX model, step by step.

    ``denoise`` does not make the work less: ``int(steps / denoise)`` steps are planned, and the
    last ``steps`` of them are run, which begin at a lower noise level. Few steps cannot be planned
    finely: with 3 and 0.8, all 3 of int(3.75) are run, as with 1.

    Sources: ``KSampler.set_steps`` and ``simple_scheduler`` in ComfyUI's ``comfy/samplers.py``,
    ``ModelSamplingFlux`` and ``flux_time_shift`` in its ``comfy/model_sampling.py``. The table is
    float32 there and here, so the levels are equal to the last bit.

    Args:
        steps: how many are run, at least 1.
        denoise: over 0, up to 1.
        shift: mu; the level at time t (1: noise alone) is exp(mu) / (exp(mu) + 1/t - 1).

    Returns:
        ``steps + 1`` levels that fall (with tiny ``denoise``, levels may repeat), the last is 0.

    Raises:
        ValueError: ``steps`` or ``denoise`` is out of range.
    """
    if steps < 1 or not 0 < denoise <= 1:
        raise ValueError(f"steps = {steps} must be at least 1, denoise = {denoise} in (0, 1].")
    planned = steps if denoise > _ALL else int(steps / denoise)
    stride = _TABLE / planned
    run = range(planned - steps, planned)
    return [_level(_TABLE - int(step * stride), shift) for step in run] + [0.0]


def _level(entry: int, shift: float) -> float:
    """The table's entry, 1 to 10,000, in float32 as ComfyUI has it.

    Torch divides a number by a tensor as the number times the tensor's reciprocal.
    """
    one, scale = np.float32(1), np.float32(math.exp(shift))
    time = np.float32(entry) / np.float32(_TABLE)
    return float(one / (scale + (one / time - one)) * scale)
