"""Recipes held against references: on a benchmark made of real photos, as the command makes it."""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import alexnet, vgg11

from jobs.evaluation.evaluate import (
    SAME_DB,
    evaluate,
    evaluate_row,
    load_perceptual,
    mean_figures,
    measure,
    read_rows,
)
from jobs.evaluation.perceptual import Perceptual
from jobs.evaluation.synthetic import make_benchmark
from manifests.errors import RowError, WeightsError
from stages.arrays import UInt8Array
from stages.recipe import Recipe
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


def test_what_is_pasted_can_be_seen_and_lies_inside_the_mask(benchmark: Path) -> None:
    rows = list(csv.DictReader(benchmark.read_text().splitlines()))
    assert [row["kind"] for row in rows] == ["object", "shape", "text"] * 2
    for row in rows:
        photo, reference = (upright_rgb(benchmark.parent / row[c]) for c in ("image", "reference"))
        mask = upright_rgb(benchmark.parent / row["mask"])[..., 0] > 0
        moved = np.abs(photo.astype(int) - reference).max(axis=2)
        assert not moved[~mask].any()
        assert (moved > 10).sum() > 40


def test_the_same_photos_make_the_same_benchmark(benchmark: Path, tmp_path: Path) -> None:
    sources = sorted(str(path) for path in (benchmark.parent.parent / "sources").iterdir())
    again = make_benchmark(tmp_path, sources)
    assert again.read_text() == benchmark.read_text()
    for path in (benchmark.parent / "photos").iterdir():
        assert (tmp_path / "photos" / path.name).read_bytes() == path.read_bytes()


def test_figures_of_a_row_and_their_mean(benchmark: Path) -> None:
    rows = read_rows(str(benchmark))
    recipe = Recipe.load("telea")
    found = [evaluate_row(row, recipe, views=True) for row in rows]
    assert [each.error for each in found] == [""] * 6
    for each in found:
        assert each.figures is not None
        assert 10 < each.figures.psnr < 60
        assert 0 < each.figures.ssim < 1
        assert each.figures.ring_psnr > each.figures.psnr
        assert each.figures.outside_levels == 0
        assert [view[:4] for view in each.views] == [b"RIFF"] * 3
    mean = mean_figures(found)
    assert mean is not None
    assert mean.psnr == pytest.approx(np.mean([e.figures.psnr for e in found if e.figures]))


def test_nothing_differs_from_itself_and_a_seam_is_an_edge(coffee: UInt8Array) -> None:
    region = np.zeros(coffee.shape[:2], np.bool_)
    region[300:340, 40:90] = True
    same = measure(coffee, coffee, coffee, region)
    assert (same.psnr, same.ring_psnr, same.outside_levels, same.seam) == (SAME_DB, SAME_DB, 0, 0)
    assert same.ssim == pytest.approx(1)

    lighter = np.where(region[..., None], np.minimum(coffee, 205) + np.uint8(50), coffee)
    found = measure(coffee, coffee, lighter.astype(np.uint8), region)
    assert found.psnr < 15
    assert found.seam > 5
    assert found.ring_psnr == SAME_DB

    elsewhere = coffee.copy()
    elsewhere[0, 0, 0] += 9
    assert measure(coffee, coffee, elsewhere, region).outside_levels == 9


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


def test_a_row_that_cannot_be_done_is_told_and_costs_no_other(
    benchmark: Path, tmp_path: Path
) -> None:
    rows = list(csv.reader(benchmark.read_text().splitlines()))
    folder = benchmark.parent
    whole = [[row[0], *(str(folder / cell) for cell in row[1:4])] for row in rows[1:4]]
    whole[0][3] = str(DEMO / "photos" / "nuthatch-caption.webp")
    whole[1][1] = str(folder / "absent.png")
    manifest = tmp_path / "manifest.csv"
    with manifest.open("w", newline="") as out:
        csv.writer(out).writerows([rows[0][:4], *whole])
    first, second, third = (
        evaluate_row(row, Recipe.load("telea")) for row in read_rows(str(manifest))
    )
    assert "another size" in first.error
    assert "absent.png" in second.error
    assert third.figures is not None


def test_a_manifest_without_references_is_refused(tmp_path: Path) -> None:
    text = "id,image,mask\n1,a.png,b.png\n"
    with pytest.raises(RowError) as caught:
        read_rows(write(tmp_path / "m.csv", text))
    assert caught.value.code == "evaluate.no_reference"
    text = "id,image,mask,reference\n1,a.png,b.png,\n"
    with pytest.raises(RowError, match="Row 1"):
        read_rows(write(tmp_path / "n.csv", text))


def test_the_command_makes_the_same_benchmark(
    invoke: Command, benchmark: Path, tmp_path: Path
) -> None:
    sources = sorted((benchmark.parent.parent / "sources").iterdir())
    made = invoke("evaluate", "make", *sources, "-o", "made")
    assert (made.returncode, made.stdout) == (0, f"{Path('made/manifest.csv')}\n")
    assert (tmp_path / "made" / "manifest.csv").read_text() == benchmark.read_text()


def test_a_row_that_marks_nothing_has_no_figures(benchmark: Path, tmp_path: Path) -> None:
    row, *_ = read_rows(str(benchmark))
    black = write(tmp_path / "black.png", encoded(np.zeros_like(upright_rgb(Path(row.mask_uri)))))
    found = evaluate_row(replace(row, mask_uri=black), Recipe.load("telea"))
    assert (found.figures, found.error) == (None, "Nothing is marked.")


def test_the_command_prints_a_table_and_writes_a_page_that_loads_nothing(
    invoke: Command, benchmark: Path, tmp_path: Path
) -> None:
    shown = invoke(
        "evaluate", benchmark, "--recipe", "telea", "--jobs", 1, "--html", tmp_path / "page.html"
    )
    assert shown.returncode == 0, shown.stderr
    assert "LPIPS" not in shown.stdout
    assert "telea" in shown.stdout
    assert "exact" in shown.stdout
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/webp;base64,") == 3 * 6
    assert "http" not in page
    assert invoke("evaluate", benchmark, benchmark).returncode == 2


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
