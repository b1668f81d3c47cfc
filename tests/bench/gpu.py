"""What the models cost on a GPU, part by part in the order of their value, beside common loops.

Networks have the published architectures at full size and random weights, which take the time that
trained ones do, so nothing is downloaded. Times are of whole calls, from uint8 pictures to uint8
pictures; text encoders, which run once per prompt, are left out. Each part has its share of the
minutes, and what it leaves goes to the next. A figure is kept as soon as it is found; when a part's
time is over, no other figure of it is begun. Exit code 0: all was measured; 2: some was not, and
its figure says why; 1: nothing was.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from stages.models.devices import choose_device
from tests.bench.busy import refine_actor, remove_actor
from tests.bench.common import Figures, options_of
from tests.bench.timing import Bench, against_cpu, free, name_of, picture, reason
from tests.bench.ways import PLAIN, REFERENCE, WAYS, Load, is_alike, make_refiner, random_prompt

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Visit:
    """What a part measures: on which device, which ways, sides and batches; and until when.

    ``ways``, ``sizes`` and ``batches`` are empty unless the caller named some.
    """

    device: torch.device
    tiny: bool
    ways: list[str]
    sizes: list[int]
    batches: list[int]
    deadline: float = 0.0

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def load(self, batch: int) -> Load:
        return Load(self.device, batch, self.tiny, 64 if self.tiny else 1024)


def _correct(visit: Visit) -> Iterator[dict[str, Any]]:
    """Tiny networks on the device, each way, against float32 on the CPU.

    What has to be compiled, for minutes, comes last.
    """
    ways = [
        (network, way)
        for network, ways in WAYS.items()
        for way in ways
        if way != PLAIN and is_alike(network, way) and (not visit.ways or way in visit.ways)
    ]
    ways.sort(key=lambda each: bool(WAYS[each[0]][each[1]].get("compile")))
    bench = Bench(visit.load(1), visit.deadline)
    for network, way in ways:
        figure: dict[str, Any] = {"network": network, "way": way}
        try:
            bench.check_time()
            yield figure | against_cpu(network, way, visit.device)
        except Exception as error:
            yield figure | {"note": reason(error)}


def _network(
    network: str, sizes: list[int], batches: list[int]
) -> Callable[[Visit], Iterator[dict[str, Any]]]:
    def measure(visit: Visit) -> Iterator[dict[str, Any]]:
        if network != "lama" and not (visit.is_gpu or visit.tiny):
            yield {"network": network, "note": "at full size it takes a GPU"}
            return
        # At full size, float32 of a refiner takes half a minute.
        first = [REFERENCE] if visit.tiny or network == "lama" else []
        ways = [way for way in WAYS[network] if way != REFERENCE or first]
        chosen_batches = visit.batches or batches
        bench = Bench(visit.load(max(chosen_batches)), visit.deadline)
        yield from bench.figures(
            network,
            [way for way in ways if not visit.ways or way in visit.ways],
            visit.sizes or ([64] if visit.tiny else sizes),
            chosen_batches,
        )

    return measure


def _busy(visit: Visit) -> Iterator[dict[str, Any]]:
    """The share of the time for which the actors of a run keep the device busy."""
    photos, bench = 8 if visit.tiny else 24, Bench(visit.load(4), visit.deadline)

    def of_refine() -> dict[str, Any]:
        if not (visit.tiny or visit.is_gpu):
            raise RuntimeError("at full size it takes a GPU")
        free()
        way = "compile" if visit.is_gpu else "bfloat16"
        return refine_actor(make_refiner("flux2-klein", way, visit.load(4)), photos)

    def of_remove() -> dict[str, Any]:
        return remove_actor(visit.load(8), 4 * photos)

    for actor, measure in (("refine", of_refine), ("remove", of_remove)):
        try:
            bench.check_time()
            yield {"actor": actor} | measure()
        except Exception as error:
            yield {"actor": actor, "note": reason(error)}


def _memory(visit: Visit) -> Iterator[dict[str, Any]]:
    """What fits the memory of smaller cards, and whether a shortage is survived and remembered."""
    if not visit.is_gpu:
        yield {"note": "it takes a GPU"}
        return
    settings: list[tuple[str, str, dict[str, Any]]] = [
        ("flux2-klein", "bfloat16", {}),
        ("flux-fill", "fp8", {}),
        ("flux-fill", "bfloat16", {}),
        ("flux-fill", "bfloat16", {"offload": True}),
    ]
    bench = Bench(visit.load(16), visit.deadline)
    total = torch.cuda.get_device_properties(visit.device).total_memory
    for card_gib in (24, 48, 80):
        for network, way, more in settings:
            figure = {"card_gib": card_gib, "network": network, "way": way} | more
            try:
                bench.check_time()
                free()
                torch.cuda.set_per_process_memory_fraction(min(card_gib * _GIB / total, 1.0))
                torch.cuda.reset_peak_memory_stats()
                yield figure | _fill_memory(network, way, visit, more)
            except Exception as error:
                yield figure | {"note": reason(error)}
    torch.cuda.set_per_process_memory_fraction(1.0)


def _fill_memory(network: str, way: str, visit: Visit, more: dict[str, Any]) -> dict[str, Any]:
    load = visit.load(16)
    bench = Bench(load, visit.deadline)
    refiner = make_refiner(network, way, load, **more)
    pixels, mask = picture(load.size_px)
    prompt, shortages = random_prompt(refiner), []
    short = refiner.with_options(denoise=1.0)
    short.sigmas = [1.0, 0.0]  # a step
    for _ in range(2):
        before = bench.shortages()
        done = short.refine([pixels] * 16, [mask] * 16, [prompt] * 16, range(16))
        shortages.append(bench.shortages() - before)
        for each in done:
            if isinstance(each, Exception):
                raise each
    pixels_at_once = min(refiner.limit.max_px // pixels[..., 0].size, 16)
    return {
        "largest_batch": pixels_at_once,
        "shortages": shortages[0],
        "again": shortages[1],
        "peak_gib": torch.cuda.max_memory_allocated() / _GIB,
    }


def _tests(visit: Visit) -> Iterator[dict[str, Any]]:
    """The tests that are marked ``gpu``, in a process of their own."""
    free()
    files = [str(path) for path in Path("tests/models").glob("test_*.py")
             if "pytest.mark.gpu" in path.read_text()]  # fmt: skip
    # The project's configuration is for the locked libraries: here warnings are no errors, and
    # pytest's further plugins may be missing.
    bare = ["-c", os.devnull, "--rootdir", "."]
    call = [sys.executable, "-m", "pytest", "-q", *bare, "-m", "gpu", *files]
    left_s = max(visit.deadline - time.monotonic(), 1)
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=left_s, check=False)
    except subprocess.TimeoutExpired:
        yield {"note": "the minutes are over"}
        return
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    yield {"summary": last} if done.returncode == 0 and "passed" in last else {"note": last}


#: The parts by name: their share of the minutes, and what they measure.
PARTS: dict[str, tuple[float, Callable[[Visit], Iterator[dict[str, Any]]]]] = {
    "correct": (0.10, _correct),
    "lama": (0.14, _network("lama", [512, 1024, 2048], [1, 4, 16])),
    "flux-fill": (0.26, _network("flux-fill", [1024, 768, 512], [1, 2, 4])),
    "flux2-klein": (0.10, _network("flux2-klein", [1024, 512], [1, 4])),
    "z-image": (0.08, _network("z-image", [1024], [1, 4])),
    "osor": (0.04, _network("osor", [1024, 512], [1, 4])),
    "rorem": (0.06, _network("rorem", [1024, 512], [1, 4])),
    "busy": (0.08, _busy),
    "memory": (0.08, _memory),
    "tests": (0.06, _tests),
}

#: Columns of the table at the end.
_COLUMNS = (
    *("part", "network", "actor", "card_gib", "way", "size_px", "batch"),
    *("seconds", "share_of_ideal", "busy", "largest_batch", "shortages", "again", "peak_gib"),
    *("off_mean", "off_max", "summary", "note"),
)


def table(figures: list[dict[str, Any]]) -> str:
    """All figures as text, a line each, without columns that are empty."""

    def text(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    names = [name for name in _COLUMNS if any(name in each for each in figures)]
    rows = [names, *([text(each.get(name, "")) for name in names] for each in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    for name in ("diffusers", "transformers", "spandrel", "torchao", "triton"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _driver() -> str:
    try:
        call = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(call, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip()


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--way", nargs="+", default=[], help="these alone: " + "; ".join(
        f"{network}: {', '.join(ways)}" for network, ways in WAYS.items()))  # fmt: skip
    parser.add_argument("--size", type=int, nargs="+", default=[], help="sides, px")
    parser.add_argument("--batch", type=int, nargs="+", default=[])
    parser.add_argument("--device", help="cuda:1, or cpu for LaMa; else the first GPU")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: a rehearsal, anywhere")
    given = parser.parse_args()
    device = choose_device(given.device or (None if given.tiny else "cuda"))
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "There is no NVIDIA GPU: --device cpu measures LaMa, --tiny rehearses.\n")
    if given.tiny:
        torch.set_num_threads(1)  # small networks only lose by sharing their work
    visit = Visit(device, given.tiny, given.way, given.size, given.batch)
    name, versions = name_of(device), _versions()
    figures = Figures(given.out, device=name, driver=_driver(), tiny=given.tiny, versions=versions)
    tiny = "; tiny networks: no measure of anything" * given.tiny
    sys.stdout.write(f"{name}, driver {_driver()}, {versions}{tiny}\n")
    shares = sum(PARTS[part][0] for part in given.part)
    ends = time.monotonic()
    for part in given.part:
        share, measure = PARTS[part]
        ends += 60 * given.minutes * share / shares
        for figure in measure(replace(visit, deadline=ends)):
            figures.add(part=part, **figure)
    sys.stdout.write(f"\n{table(figures.found)}\n")
    measured = ["note" not in figure for figure in figures.found]
    sys.exit(0 if all(measured) and measured else 2 if any(measured) else 1)


if __name__ == "__main__":
    main()
