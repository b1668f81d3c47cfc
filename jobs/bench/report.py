"""The benchmark of the models, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from jobs.bench.gpu import GpuCost, Setup, name_of
from jobs.bench.ways import PLAIN


def heading(setup: Setup) -> str:
    """What the table is of, and its columns."""
    tiny = "Tiny networks: these figures say nothing of the published ones.\n" if setup.tiny else ""
    return (
        f"{tiny}{name_of(setup.device) or 'No GPU'}, PyTorch {torch.__version__}\n"
        f"{'':10} {'way':20} {'px':>5} {'batch':>5} {'s/picture':>10} {'plain':>7} {'ideal':>6} "
        f"{'GiB':>6}"
    )


def line(costs: Sequence[GpuCost]) -> str:
    """The last of the costs: seconds, times as fast as the plain loop, share of the ideal, memory.

    Args:
        costs: the plain loop's are among those before.
    """
    cost = costs[-1]
    what = f"{cost.network:10} {cost.way or 'each way':20}"
    if cost.seconds is None:
        where = f" {cost.size_px:5} {cost.batch:5}" if cost.size_px else ""
        return f"{what}{where} not measured: {cost.note}"
    plain = _plain_seconds(costs)
    figures = (
        f"{cost.size_px:5} {cost.batch:5} {cost.seconds:10.4f}",
        f"{plain / cost.seconds:6.2f}x" if plain else f"{'':7}",
        f"{cost.ideal_seconds / cost.seconds:6.1%}" if cost.ideal_seconds else f"{'':6}",
        f"{cost.peak_gib:6.1f}" if cost.peak_gib is not None else f"{'':6}",
        cost.note,
    )
    return " ".join((what, *figures)).rstrip()


def _plain_seconds(costs: Sequence[GpuCost]) -> float | None:
    """Of the plain loop on pictures of the last one's size."""
    network, size_px = costs[-1].network, costs[-1].size_px
    for cost in costs:
        if (cost.network, cost.way, cost.size_px) == (network, PLAIN, size_px):
            return cost.seconds
    return None


def record(setup: Setup, costs: Sequence[GpuCost]) -> dict[str, Any]:
    """All of it as JSON values, with the device's name."""
    device = setup.device
    is_gpu = device is not None and device.type == "cuda"
    memory = torch.cuda.get_device_properties(device).total_memory if is_gpu else None
    return {
        "device": name_of(device),
        "device_gib": memory and memory / 2**30,
        "tiny": setup.tiny,
        "repeats": setup.repeats,
        "versions": {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "diffusers": version("diffusers"),
        },
        "costs": [asdict(cost) for cost in costs],
    }


def exit_code(costs: Sequence[GpuCost]) -> int:
    """0: all was measured; 2: some was not; 1: nothing was."""
    measured = [cost.seconds is not None for cost in costs]
    if all(measured):
        return 0
    return 2 if any(measured) else 1
