"""The benchmark of the whole pipeline, small: ours, our steps in a pool; and simple-lama's loop.

IOPaint is left out, whose environment would have to be fetched: this misses whether it still runs.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.bench.catalog import Catalog, make_catalog
from jobs.bench.cli import app
from jobs.bench.networks import make_lama, save_torchscript
from jobs.bench.peers import Peers
from jobs.bench.pipeline import check_ours, times_of_results
from manifests import runs
from manifests.errors import CleanupError
from manifests.ledger import Ledger
from manifests.plan import make_plan
from manifests.schema import OK, LineageRow, lineage_schema
from stages.geometry import bounds_of
from stages.photo import lineage_dict
from stages.recipe import Recipe
from tests.conftest import Command

RECIPE = Recipe.load("lama")


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_catalog(tmp_path_factory.mktemp("catalog") / "made", 4, 1.2)


def test_each_way_cleans_the_same_photos_and_is_timed(command: Command, tmp_path: Path) -> None:
    small = ("--peer", "pool", "--photos", 3, "--megapixels", 0.1, "--pairs", 1)
    done = command("bench", "pipeline", *small, "--json", "found.json")
    assert (done.returncode, done.stderr) == (0, "")
    ours, pool = json.loads((tmp_path / "found.json").read_text())
    assert (ours["way"], ours["photos"], ours["ratio"]) == ("ours", 3, 1.0)
    assert ours["megapixels"] == pytest.approx(0.3)
    assert pool["way"] == "pool"
    assert pool["ratios"] == [pool["work_s"] / ours["work_s"]]
    for each in (ours, pool):
        assert each["startup_s"] > 0
        assert each["images_per_s"] * each["work_s"] == pytest.approx(3)
        assert f"{each['ratio']:.2f}x" in done.stdout


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_simple_lamas_loop_keeps_format_and_size(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path / "small", 3, 0.05)
    weights = save_torchscript(make_lama(tiny=True), tmp_path / "tiny.pt")
    results = tmp_path / "results"
    results.mkdir()
    loop = Peers("lama", (), weights, 1, None).command("simple-lama", catalog, results)
    subprocess.run(loop.arguments, env=os.environ | dict(loop.environment), check=True)
    assert len(times_of_results("simple-lama", results, catalog)) == 3
    assert sorted(p.name for p in results.iterdir()) == ["0000.jpg", "0001.jpg", "0002.png"]


@pytest.mark.parametrize(
    "wrong", [("--recipe", "patchmatch"), ("--peer", "simple-lama"), ("--photos", 0)], ids=str
)
def test_what_cannot_be_compared_is_refused(wrong: tuple[str, object]) -> None:
    done = CliRunner().invoke(app, ["pipeline", *map(str, wrong)])
    assert done.exit_code == 2, "typer's own; `catalog-cleanup` makes it 1"
    assert wrong[0] in done.output


def test_a_catalog_has_marks_under_its_masks_and_is_made_the_same_again(
    catalog: Catalog, tmp_path: Path
) -> None:
    again = make_catalog(tmp_path / "again", 4, 1.2)
    photos = sorted(catalog.photos.iterdir())
    assert [path.suffix for path in photos] == [".jpg", ".jpg", ".png", ".jpg"]
    for path in photos:
        assert path.read_bytes() == (again.photos / path.name).read_bytes()
        mask = np.asarray(Image.open(catalog.mask_of(path.name)))
        with Image.open(path) as photo:
            pixels = np.asarray(photo)
        assert pixels.shape[:2] == mask.shape
        assert 0.99 < mask.size / 1e6 < 1.21
        assert 0.001 < (mask > 0).mean() < 0.02
        assert pixels[mask > 0].mean() > 250, "white marks"
        assert pixels[mask == 0].std() > 20, "a photo around them"


def test_from_the_25th_on_photos_come_again(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path / "many", 26, 0.05)
    assert len(list(catalog.photos.iterdir())) == catalog.count == 26
    assert catalog.megapixels == pytest.approx(26 * 0.05)
    assert (catalog.photos / "0025.jpg").samefile(catalog.photos / "0001.jpg")
    assert catalog.mask_of("0025.jpg").samefile(catalog.mask_of("0001.jpg"))


def _record(catalog: Catalog, output: Path, **changes: Any) -> Path:
    """A run's lineage, as it is when all is well but for the changes to its first row."""
    plan = make_plan(str(catalog.manifest), str(output), rows_per_shard=catalog.count)
    rows = []
    for planned in plan.shard(0).read_table().to_pylist():
        box = bounds_of(np.asarray(Image.open(planned["mask_uri"])))
        assert box is not None
        around = box.grown(128)
        window = {"x": around.x0, "y": around.y0, "width": around.width, "height": around.height}
        row = LineageRow(
            id=planned["id"],
            image_uri=planned["image_uri"],
            status=OK,
            fidelity="lossless" if planned["image_uri"].endswith(".png") else "coefficients",
            patches=[{"window": window}],
        )
        rows.append(lineage_dict(row))
    rows[0] |= changes
    runs.release(runs.claim(plan.output, {"recipe_hash": RECIPE.hash}))
    Ledger(plan.output, RECIPE.hash).add(0, rows, lineage_schema())
    return output


def test_ours_counts_only_if_it_did_as_much(catalog: Catalog, tmp_path: Path) -> None:
    check_ours(_record(catalog, tmp_path / "well"), catalog, RECIPE)
    small = {"window": {"x": 200, "y": 200, "width": 100, "height": 100}}
    wrong: dict[str, dict[str, Any]] = {
        "saw less": {"patches": [small]},
        "coded again": {"fidelity": "reencoded", "fidelity_note": "coded again"},
        "it failed": {"status": "failed", "error": "it failed"},
    }
    for told, changes in wrong.items():
        with pytest.raises(CleanupError, match=told) as caught:
            check_ours(_record(catalog, tmp_path / told, **changes), catalog, RECIPE)
        assert caught.value.code == "bench.failed"


def test_a_result_that_is_missing_or_of_another_size_is_no_result(
    catalog: Catalog, tmp_path: Path
) -> None:
    for path in catalog.photos.iterdir():  # as PNG, like IOPaint's
        Image.open(path).save(tmp_path / f"{path.stem}.png")
    assert len(times_of_results("some", tmp_path, catalog)) == 4
    Image.new("RGB", (8, 8)).save(tmp_path / "0001.png")
    (tmp_path / "0003.png").unlink()
    with pytest.raises(CleanupError, match="some did not clean 0001, 0003"):
        times_of_results("some", tmp_path, catalog)


def test_iopaint_is_given_our_weights_method_and_radius(catalog: Catalog, tmp_path: Path) -> None:
    weights = tmp_path / "big-lama.pt"
    weights.write_bytes(b"weights")
    lama = Peers("lama", (), weights, 2, None).command("iopaint", catalog, tmp_path)
    assert lama.arguments[-2:] == ["--model", "lama"]
    folder = Path(lama.arguments[lama.arguments.index("--model-dir") + 1])
    assert (folder / "torch/hub/checkpoints/big-lama.pt").read_bytes() == b"weights"
    telea = Peers("telea", ("remove.radius_px=7",), weights, 2, None)
    *_, config = telea.command("iopaint", catalog, tmp_path).arguments
    assert json.loads(Path(config).read_text()) == {"cv2_flag": "INPAINT_TELEA", "cv2_radius": 7}


def test_what_cannot_be_installed_is_told(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV", "false")
    peers = Peers("telea", (), tmp_path / "none", 2, tmp_path / "peers")
    with pytest.raises(CleanupError, match="iopaint cannot be installed") as caught:
        peers.command("iopaint", catalog, tmp_path)
    assert caught.value.code == "bench.failed"
