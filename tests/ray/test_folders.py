"""Folders of photos and masks end to end: results mirror the folders, on disk and in S3."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.storage.path import StoragePath
from stages.recipe import Recipe
from tests.conftest import Command
from tests.support import encoded
from tests.support.s3_server import BUCKET, S3Server

TELEA = Recipe.load("telea")


def files_of(coffee: npt.NDArray[np.uint8], folder: str) -> dict[str, bytes]:
    """Four photos in folders, and masks of three of them."""
    mask = np.zeros((48, 64), np.uint8)
    mask[20:30, 16:40] = 255
    files = {}
    for number, name in enumerate(("red/deep/1", "red/2", "3", "alone")):
        part = coffee[number * 60 :][:48, 100:164]
        kind, suffix = ("PNG", "png") if number == 1 else ("JPEG", "JPG")
        files[f"{folder}/{name}.{suffix}"] = encoded(part, format=kind)
    for name in ("red/deep/1_mask", "red/2-mask", "3"):
        files[f"masks/{name}.png"] = encoded(mask)
    return files


def test_results_on_disk_mirror_the_folders_and_every_command_takes_them(
    coffee: npt.NDArray[np.uint8], ray_address: str, invoke: Command, tmp_path: Path
) -> None:
    for name, data in files_of(coffee, "photos").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    options = ["photos", "--masks", "masks/", "-o", "photos/cleaned", "-r", "telea"]
    dry = invoke("run", *options, "--dry-run")
    assert "note: 4 photos: 3 paired with masks; 1 without marks: alone." in dry.stdout
    done = invoke("run", *options, "--unmatched", "pass", "--address", ray_address)
    assert done.returncode == 0, done.stderr
    assert "1 without marks, passed on unchanged: alone." in done.stdout
    images = tmp_path / "photos" / "cleaned" / "images" / TELEA.label
    stored = {str(path.relative_to(images)) for path in images.rglob("*") if path.is_file()}
    assert stored == {"red/deep/1.jpg", "red/2.png", "3.jpg", "alone.jpg"}
    alone = (tmp_path / "photos" / "alone.JPG").read_bytes()
    assert (images / "alone.jpg").read_bytes() == alone
    again = invoke("run", *options, "--unmatched", "pass", "--address", ray_address)
    assert "0 of 4 photos are left to do." in again.stdout, "results did not become photos"
    checked = invoke("verify", "photos/cleaned")
    assert "4 checked: 4 unchanged outside the mask" in checked.stdout
    assert "red/deep/1: " in checked.stdout
    assert invoke("report", "photos/cleaned").returncode == 0
    page = tmp_path / "photos" / "cleaned" / "report"
    assert '"red/deep/1"' in (page / "data" / "rows-0000.js").read_text()
    assert len(list(page.glob("pictures/*/after.webp"))) == 4
    counted = invoke("estimate", "photos", "--masks", "masks", "--from", "photos/cleaned")
    assert "4 photos, " in counted.stdout, counted.stderr
    assert invoke("failures", "photos/cleaned", "--to", "f.jsonl").returncode == 0


def test_results_in_s3_mirror_the_folders(
    coffee: npt.NDArray[np.uint8],
    ray_address: str,
    invoke: Command,
    s3: str,
    s3_server: S3Server,
    tmp_path: Path,
) -> None:
    client = s3_server.client()
    for name, data in files_of(coffee, "photos").items():
        key = name.replace("masks/3.png", "photos/3.mask.png").replace("masks/", "photos/")
        client.put_object(Bucket=BUCKET, Key=f"folders/{key}", Body=data)
    photos, output = f"{s3}/folders/photos/", f"{s3}/folders/out"
    options = [photos, "--masks", photos, "-o", output, "-r", "telea", "--address", ray_address]
    done = invoke("run", *options)
    assert done.returncode == 3, done.stderr
    assert re.search(r"4 photos in .* 3 ok, 1 failed", done.stdout)
    assert "1  mask.unmatched" in done.stdout
    images = StoragePath.of(f"{output}/images/{TELEA.label}")
    assert list(images.walk()) == ["3.jpg", "red/2.png", "red/deep/1.jpg"]
    assert "3 checked: 3 unchanged outside the mask" in invoke("verify", output).stdout
    assert invoke("report", output).returncode == 0
    assert (
        len([name for name in StoragePath.of(f"{output}/report").walk() if "/icon.webp" in name])
        == 4
    )
    failures = invoke("failures", output, "--to", "failed.jsonl")
    assert failures.returncode == 0, failures.stderr
    (again,) = map(json.loads, (tmp_path / "failed.jsonl").read_text().splitlines())
    assert (again["id"], again["mask"]) == ("alone", None), "an empty list would mark nothing"
    done = invoke("plan", "failed.jsonl", "-o", "again", "--unmatched", "fail")
    assert "1  mask.no_uri" in done.stdout
