"""The benchmark of the models, rehearsed: every way to run them, on the CPU.

With tiny networks and PyTorch's ``eager`` compiler this misses what a GPU alone shows: generated
code, fp8, cuDNN's attention, memory, and every figure.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from jobs.bench import gpu
from jobs.bench.cli import app
from jobs.bench.ideal import Peak, Work, flux_fill_work, lama_work
from jobs.bench.report import exit_code, line
from jobs.bench.ways import WAYS, Way, make
from manifests.errors import RowError
from stages.refiners import loading
from tests.models import needs_gpu
from tests.test_docs import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["gpu", *map(str, arguments)])


def test_each_way_is_timed_and_what_takes_a_gpu_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "COMPILE_BACKEND", "eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    out = tmp_path / "costs.json"

    done = bench("--tiny", "--device", "cpu", "--repeats", 1, "--batch", 1, "--batch", 2,
                 "--json", out)  # fmt: skip

    assert done.exit_code == 2, done.output
    assert "these figures say nothing" in done.output
    told = json.loads(out.read_text())
    assert (told["device"], told["tiny"], told["versions"]["torch"]) == (
        "cpu",
        True,
        torch.__version__,
    )
    timed = {(c["network"], c["way"], c["batch"]) for c in told["costs"] if c["seconds"]}
    missed = {c["way"]: c["note"] for c in told["costs"] if c["seconds"] is None}
    assert missed.keys() == {"cudnn attention", "fp8", "fp8, compile"}
    assert "refine.fp8 takes a GPU" in missed["fp8"]
    assert timed == {
        (network, way, batch)
        for network, ways in WAYS.items()
        for way in ways
        for batch in ((1,) if way == "plain loop" else (1, 2))
        if way not in missed
    }
    assert all(c["size_px"] == 64 for c in told["costs"] if c["seconds"])
    assert done.output.count("\n") == 3 + len(told["costs"])
    assert done.output.count("not measured: ") == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured_and_that_is_said(tmp_path: Path) -> None:
    out = tmp_path / "costs.json"
    for device in ((), ("--device", "cuda:1")):
        done = bench("--json", out, *device)
        assert done.exit_code == 1
        assert done.output.count("not measured: there is no NVIDIA GPU") == 2
    assert [cost["seconds"] for cost in json.loads(out.read_text())["costs"]] == [None, None]
    full = bench("--device", "cpu", "--only", "flux-fill")
    assert full.exit_code == 1
    assert "not measured: at full size it takes a GPU" in full.output


@pytest.mark.parametrize(
    "wrong", [("--only", "sdxl"), ("--way", "fp4"), ("--size", 100), ("--batch", 0)], ids=str
)
def test_what_cannot_be_asked_for_is_refused(wrong: tuple[str, object]) -> None:
    done = bench(*wrong)
    assert done.exit_code == 2, "typer's own; `catalog-cleanup` makes it 1"
    assert wrong[0] in done.output


def _fails(error: Exception) -> Any:
    def run(*_: object) -> Any:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (_fails(torch.OutOfMemoryError("CUDA out of memory.")), "does not fit"),
        (_fails(RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")), "CUBLAS_STATUS_NOT_SUPPORTED"),
        (lambda *_: [RowError("model.bad_output", "It is black.")], "It is black."),
    ],
    ids=["memory", "kernel", "output"],
)
def test_a_way_that_fails_has_no_figure_and_costs_no_other(
    run: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gpu, "make", lambda n, way, load: Way(run) if way == "float16" else make(n, way, load)
    )
    setup = gpu.Setup(torch.device("cpu"), ["lama"], ["float32", "float16"], [64], [1], 1, True)
    good, bad = gpu.measure(setup)
    assert good.seconds
    assert bad.seconds is None
    assert told in bad.note
    assert exit_code([good]) == 0
    assert exit_code([good, bad]) == 2
    assert exit_code([bad]) == 1


def test_a_line_compares_with_the_plain_loop_and_with_the_ideal() -> None:
    plain = gpu.GpuCost("lama", "plain loop", 512, 1, 0.03, 1.0, 0.0006)
    other = gpu.GpuCost("lama", "plain loop", 768, 1, 0.09, 1.0, 0.0012)
    ours = gpu.GpuCost("lama", "bfloat16", 512, 4, 0.01, 2.25, 0.0006)
    words = line([plain, other, ours]).split()
    assert words == ["lama", "bfloat16", "512", "4", "0.0100", "3.00x", "6.0%", "2.2"]


def test_flux_fills_arithmetic_is_that_of_its_shapes() -> None:
    """Counted by hand: 57 blocks of width 3072, whose linear layers come to 12 squares of it."""
    width, blocks, tokens = 3072, 19 + 38, 64 * 64 + 512
    one, two = (flux_fill_work(1024, steps, 512) for steps in (1, 2))
    linear = 2 * 12 * width**2 * tokens * blocks / 1e12
    attention = 4 * tokens**2 * width * blocks / 1e12
    assert two.linear - one.linear == pytest.approx(linear, rel=2e-3)
    assert two.other - one.other == pytest.approx(attention, rel=1e-6)


def test_lamas_arithmetic_is_that_of_its_shapes() -> None:
    """Counted by hand: each convolution's weights times the pixels it is applied to."""
    squares = [512**2, 256**2, 128**2, 64**2]
    down = 49 * 4 * 64 * squares[0]
    down += sum(9 * c * 2 * c * px for c, px in zip((64, 128, 256), squares[1:], strict=True))
    up = sum(9 * 2 * c * c * px for c, px in zip((64, 128, 256), squares[1:], strict=True))
    up += 49 * 64 * 3 * squares[0]
    local = 9 * (128 * 128 + 2 * 128 * 384) * squares[3]
    spectral = (384 * 192 * 2) * squares[3] + 384 * 384 * 64 * 33  # half a spectrum
    total = 2 * (down + up + 36 * (local + spectral)) / 1e12
    assert lama_work(512).linear == 0
    assert lama_work(512).other == pytest.approx(total, rel=1e-6)


def test_the_readme_has_what_is_computed() -> None:
    peak, text = Peak(989, 1979), (ROOT / "stages" / "README.md").read_text("utf-8")
    sizes = gpu.SIZES_PX
    lama = [f"*{lama_work(px).seconds(peak):.4f}*" for px in sizes]
    for fp8 in (False, True):
        refiner = [f"*{flux_fill_work(px, 20, 512).seconds(peak, fp8=fp8):.2f}*" for px in sizes]
        assert " | ".join(refiner) in text
    assert " | ".join(lama) in text


def test_peaks_are_known_by_the_whole_name_alone() -> None:
    peak = Peak.of("NVIDIA H100 80GB HBM3")
    assert peak == Peak(989, 1979)
    assert Work(989, 98.9).seconds(peak) == pytest.approx(1.1)
    assert Work(1979, 98.9).seconds(peak, fp8=True) == pytest.approx(1.1)
    for name in ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "NVIDIA L40", "cpu", ""):
        assert Peak.of(name) is None


@pytest.mark.gpu
@needs_gpu(40)
def test_full_size_networks_are_timed(tmp_path: Path) -> None:
    """Each way that needs no library of its own."""
    out = tmp_path / "costs.json"
    ways = {way for ways in WAYS.values() for way in ways if "fp8" not in way}
    named = [part for way in ways - {"float32"} for part in ("--way", way)]
    done = bench(*named, "--size", 512, "--batch", 2, "--repeats", 1, "--json", out)
    assert done.exit_code == 0, done.output
    for cost in json.loads(out.read_text())["costs"]:
        assert 0 < cost["peak_gib"] < 80
        assert cost["ideal_seconds"] is None or cost["seconds"] > cost["ideal_seconds"]
