"""``detect`` on a bucket of photos without marks: killed, resumed, and cleaned by its manifest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from manifests.storage.path import StoragePath
from stages import clean
from stages.recipe import Recipe
from tests.conftest import Command
from tests.support import DEMO, encoded, wait_until
from tests.support.files.stickers import logo, with_logo

_PHOTOS = 48
_PER_SHARD = 4


@pytest.fixture
def photos(s3: str) -> str:
    """A folder in S3; every third photo shows no logo, one is no photo."""
    folder = StoragePath.of(f"{s3}/unmarked")
    (folder / "logo.png").write(encoded(logo()))
    coffee = Image.open(DEMO / "photos" / "coffee-stray-coins.jpg").convert("RGB")
    for number in range(_PHOTOS - 1):
        shown = coffee.crop((number, number, number + 320, number + 240))
        if number % 3:
            shown = with_logo(shown, (20 + 3 * number, 100), 60 + number)
        (folder / "photos" / "shop" / f"{number:02d}.jpg").write(encoded(shown, format="JPEG"))
    (folder / "photos" / "shop" / "99.jpg").write(b"no photo")
    return folder.uri


def test_a_killed_detection_resumes_and_its_manifest_cleans_the_photos(
    photos: str, ray_address: str, invoke: Command, tmp_path: Path
) -> None:
    found, cleaned = f"{photos}/found", f"{photos}/cleaned"
    options = ["--recipe", "telea", "--set", "detect.method=template"]
    options += ["--set", f"detect.templates={photos}/logo.png", "--address", ray_address]
    words = ["detect", f"{photos}/photos", "--output", found, *options]
    words += ["--rows-per-shard", str(_PER_SHARD), "--sample", "2"]

    def recorded() -> list[StoragePath]:
        return files_below(f"{found}/lineage")

    with subprocess.Popen([sys.executable, "-m", "jobs.cli", *words]) as driver:
        wait_until(recorded)
        driver.kill()
    assert 0 < len(recorded()) < _PHOTOS // _PER_SHARD
    assert StoragePath.of(found).files() == []

    resumed = invoke(*words)
    assert resumed.returncode == 3, resumed.stderr
    assert "48 photos, 31 with something to remove, 0 with kept objects only" in resumed.stdout
    assert f"catalog-cleanup run {found}/detected.jsonl --recipe telea" in resumed.stdout
    assert b"<title>" in StoragePath.of(f"{found}/report/index.html").read()
    rows = [
        json.loads(line) for line in StoragePath.of(f"{found}/detected.jsonl").read().splitlines()
    ]
    marks = {row["id"]: row["mask"] for row in rows}
    assert len(rows) == len(marks) == _PHOTOS
    assert [name for name, mask in marks.items() if mask is None] == ["shop/99"]
    assert sorted(name for name, mask in marks.items() if mask == []) == [
        f"shop/{number:02d}" for number in range(0, _PHOTOS - 1, 3)
    ]
    assert {mask.uri for mask in files_below(f"{found}/masks")} == {
        mask[0] for mask in marks.values() if mask
    }

    done = invoke(
        *("run", f"{found}/detected.jsonl", "--output", cleaned, "--recipe", "telea"),
        *("--address", ray_address),
    )
    assert done.returncode == 3, done.stderr
    assert "47 ok, 1 failed" in done.stdout
    detecting = Recipe.load("telea", [word for word in options if word.startswith("detect.")])
    images = f"{cleaned}/images/{Recipe.load('telea').label}"
    for number in (0, 1):
        direct = clean(f"{photos}/photos/shop/{number:02d}.jpg", recipe=detecting)
        assert StoragePath.of(f"{images}/shop/{number:02d}.jpg").read() == direct.data
        assert direct.hole.any() == bool(number)


def files_below(folder: str) -> list[StoragePath]:
    """The files two folders below one."""
    outer = StoragePath.of(folder).folders()
    return [file for one in outer for inner in one.folders() for file in inner.files()]
