from __future__ import annotations

import math
from typing import Any

import pytest

from stages.models.refiners.sigmas import comfy_sigmas

# exp(1.15) = 3.158193. At time t the level is 3.158193 / (3.158193 + 1/t - 1), by hand:
AT_TIME = {
    1.0: 1.0,
    0.8: 0.926648,  # 3.158193 / 3.408193
    0.75: 0.904531,  # 3.158193 / 3.491526
    0.5: 0.759511,  # 3.158193 / 4.158193
    0.25: 0.512844,  # 3.158193 / 6.158193
    0.04: 0.116289,  # 3.158193 / 27.158193
}


def test_denoise_08_of_20_steps_runs_the_last_20_of_25() -> None:
    sigmas = comfy_sigmas(20, 0.8, 1.15)

    assert len(sigmas) == 21
    assert sigmas[0] == pytest.approx(AT_TIME[0.8], abs=1e-6)
    assert sigmas[-2] == pytest.approx(AT_TIME[0.04], abs=1e-6)
    assert sigmas[-1] == 0
    assert sigmas == sorted(sigmas, reverse=True)


@pytest.mark.parametrize(
    ("steps", "denoise", "times"),
    [
        (4, 1.0, [1.0, 0.75, 0.5, 0.25]),
        (4, 0.99995, [1.0, 0.75, 0.5, 0.25]),  # ComfyUI takes it for 1
        (2, 0.5, [0.5, 0.25]),  # the last 2 of 4
        (1, 0.25, [0.25]),  # the last of 4
        (3, 0.8, [1.0, 0.6667, 0.3334]),  # int(3.75) = 3 planned: all are run; strides cut down
        (3, 0.6, [0.6, 0.4, 0.2]),  # the last 3 of 5
        (7, 1.0, [1.0, 0.8572, 0.7143, 0.5715, 0.4286, 0.2858, 0.1429]),
    ],
)
def test_levels_are_those_worked_out_by_hand(
    steps: int, denoise: float, times: list[float]
) -> None:
    levels = [math.exp(1.15) / (math.exp(1.15) + 1 / t - 1) for t in times]

    assert comfy_sigmas(steps, denoise, 1.15) == pytest.approx([*levels, 0.0], abs=1e-6)


def test_formula_agrees_with_hand_computed_values() -> None:
    sigmas = comfy_sigmas(100, 1.0, 1.15)

    for time, level in AT_TIME.items():
        assert sigmas[100 - round(100 * time)] == pytest.approx(level, abs=1e-6)


def test_without_shift_levels_are_the_times_themselves() -> None:
    assert comfy_sigmas(5, 1.0, 0.0) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0], abs=1e-6)


@pytest.mark.parametrize("steps", [1, 8, 13, 20, 30, 57])
@pytest.mark.parametrize("denoise", [0.03, 0.33, 0.65, 0.8, 1.0])
def test_equals_the_published_method_to_the_last_bit(steps: int, denoise: float) -> None:
    """The same with torch's float32 table and slices, as ComfyUI holds them."""
    torch = pytest.importorskip("torch")
    times = torch.arange(1, 10_001) / 10_000
    table = math.exp(1.15) / (math.exp(1.15) + (1 / times - 1) ** 1.0)
    planned = int(steps / denoise)
    stride = len(table) / planned
    levels = [float(table[-(1 + int(step * stride))]) for step in range(planned)] + [0.0]

    assert comfy_sigmas(steps, denoise, 1.15) == levels[-(steps + 1) :]


def test_normal_spends_its_last_step_next_to_nothing() -> None:
    """ComfyUI's own levels at 20 steps and denoise 0.8."""
    sigmas = comfy_sigmas(20, 0.8, 1.15, "normal")

    assert len(sigmas) == 21
    assert sigmas[0] == pytest.approx(0.92311198, abs=1e-8)
    assert sigmas[-3:] == pytest.approx([0.12153836, 0.00099652, 0], abs=1e-8)


@pytest.mark.parametrize("shift", [0.0, 1.15, 2.02])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 13, 20, 57])
@pytest.mark.parametrize("denoise", [0.03, 0.33, 0.8, 1.0])
def test_normal_is_comfyuis(steps: int, denoise: float, shift: float) -> None:
    """By torch in float32; its last bit depends on how many numbers the CPU takes at once."""
    torch = pytest.importorskip("torch")

    def level(time: Any) -> Any:
        return math.exp(shift) / (math.exp(shift) + (1 / time - 1) ** 1.0)

    table = level(torch.arange(1, 10_001) / 10_000)
    times = torch.linspace(table[-1], table[0], int(steps / denoise))
    levels = [float(level(time)) for time in times] + [0.0]

    sigmas = comfy_sigmas(steps, denoise, shift, "normal")
    assert sigmas == pytest.approx(levels[-(steps + 1) :], rel=5e-7, abs=0)


def test_tiny_denoise_plans_more_steps_than_there_are_levels() -> None:
    sigmas = comfy_sigmas(200, 0.001, 1.15)

    assert len(sigmas) == 201
    assert sigmas[0] < 0.01


@pytest.mark.parametrize(("steps", "denoise"), [(0, 0.8), (20, 0.0), (20, 1.1)])
def test_what_is_out_of_range_is_refused(steps: int, denoise: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        comfy_sigmas(steps, denoise, 1.15)
