"""Recipes held against references: on a benchmark made of real photos, as the command makes it."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.evaluation.evaluate import (
    IDENTICAL_PSNR_DB,
    evaluate_case,
    mean_scores,
    measure,
    read_cases,
)
from jobs.evaluation.synthetic import make_benchmark
from manifests.errors import RowError
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
    rows = read_cases(str(benchmark))
    recipe = Recipe.load("telea")
    found = [evaluate_case(row, recipe, views=True) for row in rows]
    assert [each.error for each in found] == [""] * 6
    for each in found:
        assert each.scores is not None
        assert 10 < each.scores.psnr < 60
        assert 0 < each.scores.ssim < 1
        assert each.scores.ring_psnr > each.scores.psnr
        assert each.scores.outside_levels == 0
        assert [view[:4] for view in each.views] == [b"RIFF"] * 3
    mean = mean_scores(found)
    assert mean is not None
    assert mean.psnr == pytest.approx(np.mean([e.scores.psnr for e in found if e.scores]))


def test_nothing_differs_from_itself_and_a_seam_is_an_edge(coffee: UInt8Array) -> None:
    hole = np.zeros(coffee.shape[:2], np.bool_)
    hole[300:340, 40:90] = True
    same = measure(coffee, coffee, coffee, hole)
    assert (same.psnr, same.ring_psnr, same.outside_levels, same.seam) == (
        IDENTICAL_PSNR_DB,
        IDENTICAL_PSNR_DB,
        0,
        0,
    )
    assert same.ssim == pytest.approx(1)

    lighter = np.where(hole[..., None], np.minimum(coffee, 205) + np.uint8(50), coffee)
    found = measure(coffee, coffee, lighter.astype(np.uint8), hole)
    assert found.psnr < 15
    assert found.seam > 5
    assert found.ring_psnr == IDENTICAL_PSNR_DB

    elsewhere = coffee.copy()
    elsewhere[0, 0, 0] += 9
    assert measure(coffee, coffee, elsewhere, hole).outside_levels == 9


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
        evaluate_case(row, Recipe.load("telea")) for row in read_cases(str(manifest))
    )
    assert "another size" in first.error
    assert "absent.png" in second.error
    assert third.scores is not None


def test_a_manifest_without_references_is_refused(tmp_path: Path) -> None:
    text = "id,image,mask\n1,a.png,b.png\n"
    with pytest.raises(RowError) as caught:
        read_cases(write(tmp_path / "m.csv", text))
    assert caught.value.code == "evaluate.no_reference"
    text = "id,image,mask,reference\n1,a.png,b.png,\n"
    with pytest.raises(RowError, match="Row 1"):
        read_cases(write(tmp_path / "n.csv", text))


def test_the_command_makes_the_same_benchmark(
    invoke: Command, benchmark: Path, tmp_path: Path
) -> None:
    sources = sorted((benchmark.parent.parent / "sources").iterdir())
    made = invoke("evaluate", "make", *sources, "-o", "made")
    assert (made.returncode, made.stdout) == (0, f"{Path('made/manifest.csv')}\n")
    assert (tmp_path / "made" / "manifest.csv").read_text() == benchmark.read_text()
    write(tmp_path / "plain.png", encoded(np.full((300, 300, 3), 255, np.uint8)))
    refused = invoke("evaluate", "make", "plain.png", "-o", "none")
    assert (refused.returncode, "pasted into plain.png" in refused.stderr) == (2, True)


def test_a_row_that_marks_nothing_has_no_figures(benchmark: Path, tmp_path: Path) -> None:
    row, *_ = read_cases(str(benchmark))
    black = write(tmp_path / "black.png", encoded(np.zeros_like(upright_rgb(Path(row.mask_uri)))))
    found = evaluate_case(replace(row, mask_uri=black), Recipe.load("telea"))
    assert (found.scores, found.error) == (None, "Nothing is marked.")


def test_the_command_prints_a_table_and_writes_a_page_that_loads_nothing(
    invoke: Command, benchmark: Path, tmp_path: Path
) -> None:
    shown = invoke(
        "evaluate", benchmark, "--recipe", "telea", "--jobs", 1, "--html", tmp_path / "page.html"
    )
    assert shown.returncode == 0, shown.stderr
    heading, telea, page_name = shown.stdout.splitlines()
    names = (
        "recipe",
        "rows",
        "PSNR, dB",
        "SSIM",
        "ring, dB",
        "ring SSIM",
        "outside",
        "seam",
        "seconds",
    )
    assert re.fullmatch(" +".join(names), heading)
    figures = r"telea +6( +\d\d\.\d\d +0\.\d{3}){2} +0 +[+-]\d\.\d\d +\d\.\d\d"
    assert re.fullmatch(figures, telea)
    assert page_name == str(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/webp;base64,") == 3 * 6
    assert "http" not in page
    assert invoke("evaluate", benchmark, benchmark).returncode == 2
    twice = invoke("evaluate", benchmark, "--recipe", "telea", "--recipe", "telea")
    assert twice.returncode == 2
    assert "two recipes have the same name" in twice.stderr
