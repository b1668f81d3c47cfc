"""LPIPS: the distance itself, its weights, and its column in the table of an evaluation."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import alexnet, vgg11

from jobs.evaluation.evaluate import (
    evaluate,
    load_perceptual,
)
from jobs.evaluation.perceptual import Perceptual
from jobs.evaluation.synthetic import make_benchmark
from manifests.errors import WeightsError
from stages.arrays import UInt8Array
from tests.conftest import Command
from tests.support import DEMO, encoded, upright_rgb, write


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    paths = []
    for name in ("coffee-stray-coins", "wall-clock-corner-logo"):
        picture = Image.fromarray(upright_rgb(next((DEMO / "photos").glob(f"{name}.*"))))
        picture.thumbnail((320, 320))
        paths.append(write(folder / "sources" / f"{name}.png", encoded(picture)))
    return make_benchmark(folder / "made", paths)


@pytest.fixture(scope="module")
def alexnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AlexNet with random weights: its layout, but not what it has learned of looks."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(alexnet().state_dict(), path)
    return path


@pytest.mark.parametrize(
    "box", [(300, 340, 40, 90), (0, 1, 0, 1), (0, 350, 10, 590), (200, 202, 0, 600)]
)
def test_lpips_grows_with_damage(
    coffee: UInt8Array, alexnet_file: Path, box: tuple[int, int, int, int]
) -> None:
    top, bottom, left, right = box
    region = np.zeros(coffee.shape[:2], np.bool_)
    region[top:bottom, left:right] = True
    lpips = Perceptual.load(alexnet_file)
    noise = np.random.default_rng(0).normal(size=coffee.shape)

    def damaged(levels: int) -> UInt8Array:
        noisy = np.clip(coffee + levels * noise, 0, 255).astype(np.uint8)
        return np.where(region[..., None], noisy, coffee)

    same, slight, bad = (lpips.distance(coffee, damaged(levels), region) for levels in (0, 20, 80))
    assert same == 0
    assert 0 < slight < bad


def test_lpips_takes_safetensors_and_no_other_file(alexnet_file: Path, tmp_path: Path) -> None:
    coded = tmp_path / "alexnet.safetensors"
    save_file(torch.load(alexnet_file), coded)
    black, white = np.zeros((70, 90, 3), np.uint8), np.full((70, 90, 3), 255, np.uint8)
    region = np.ones((70, 90), np.bool_)
    first, second = (
        Perceptual.load(path).distance(black, white, region) for path in (alexnet_file, coded)
    )
    assert first == second > 0

    other, damaged = tmp_path / "vgg.pth", tmp_path / "damaged.pth"
    torch.save(vgg11().features.state_dict(prefix="features."), other)
    damaged.write_bytes(alexnet_file.read_bytes()[:1000])
    for path, code in (
        (other, "weights.unusable"),
        (damaged, "weights.unusable"),
        (tmp_path / "absent.pth", "weights.missing"),
    ):
        with pytest.raises(WeightsError, match=path.name) as caught:
            Perceptual.load(path)
        assert caught.value.code == code
        with pytest.raises(WeightsError, match=path.name):
            next(evaluate([], [], lpips=path))


def test_lpips_needs_the_libraries_of_models(
    alexnet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "jobs.evaluation.perceptual")
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(WeightsError, match="needs lpips") as caught:
        load_perceptual(alexnet_file)
    assert caught.value.code == "model.not_installed"


def test_the_command_adds_lpips_to_the_table_and_to_each_result(
    invoke: Command, benchmark: Path, alexnet_file: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    options = ("--recipe", "telea", "--jobs", 1, "--html", page)
    shown = invoke("evaluate", benchmark, *options, "--lpips", alexnet_file)
    assert shown.returncode == 0, shown.stderr
    assert "Warning" not in shown.stderr
    heading, line = (
        row.split() for row in shown.stdout.splitlines() if "LPIPS" in row or "telea" in row
    )
    assert heading[-1] == "LPIPS"
    each = [float(found) for found in re.findall(r", LPIPS ([0-9.]+)<", page.read_text())]
    assert len(each) == 6
    assert float(line[-1]) == pytest.approx(np.mean(each), abs=0.001)
    assert float(line[-1]) > 0
