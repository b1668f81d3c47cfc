"""Commands on a bucket: the doctor asks it, runs are numbered in it, a report is written to it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from jobs.report.write import write_report
from stages.recipe import Recipe
from tests.conftest import Command
from tests.support import encoded, write
from tests.support.output_folders import clean_here
from tests.support.s3_server import S3Server
from tests.unit.manifests.test_runs import assert_each_has_a_number


def test_doctor_looks_at_the_machine_and_at_s3(invoke: Command, s3: str) -> None:
    healthy = invoke("doctor", "--s3", f"{s3}/doctor")
    assert healthy.returncode == 0, healthy.stdout
    for what in ("Python", "Machine", "Libraries", "PatchMatch", "GPU", "Weights", "Ray", "S3"):
        assert f" {what}: " in healthy.stdout
    assert " JPEG: blocks outside the mask are kept" in healthy.stdout
    assert " Pool: cpu: fetch ▸ decode" in healthy.stdout
    assert "an object was written, read and deleted" in healthy.stdout
    ailments = {"LAMA_MODEL": "/nowhere/lama.pt", "RAY_ADDRESS": "127.0.0.1:9"}
    sick = invoke("doctor", "--s3", "s3://no-such-bucket", **ailments)
    assert sick.returncode == 1
    assert "Ray at 127.0.0.1:9: " in sick.stdout
    assert "writing fails" in sick.stdout
    assert "LAMA_MODEL=/nowhere/lama.pt is not a file" in sick.stdout


def test_of_many_runs_that_begin_at_once_each_has_a_number(s3: str) -> None:
    assert_each_has_a_number(f"{s3}/numbered")


def test_a_report_in_a_bucket_opens_there(s3: str, s3_server: S3Server, tmp_path: Path) -> None:
    photo, mask = np.full((200, 300, 3), 90, np.uint8), np.zeros((200, 300), np.uint8)
    mask[60:90, 100:160] = 255
    write(tmp_path / "a.png", encoded(photo))
    write(tmp_path / "mask.png", encoded(mask))
    manifest = write(tmp_path / "m.csv", "id,image,mask\na,a.png,mask.png\n")
    clean_here(manifest, f"{s3}/reported", Recipe.load("telea"))
    uri = write_report(f"{s3}/reported", Console(quiet=True))
    assert uri == f"{s3}/reported/report/index.html"
    bucket, _, prefix = uri.removeprefix("s3://").rpartition("/")[0].partition("/")
    client = s3_server.client()
    kinds = {}
    for name in ("index.html", "page.css", "page.js", "data/page.js", "data/details-0000.js"):
        kinds[name] = client.get_object(Bucket=bucket, Key=f"{prefix}/{name}")["ContentType"]
    assert kinds["index.html"] == "text/html"
    assert kinds["page.css"] == "text/css"
    assert {kinds["page.js"], kinds["data/page.js"]} <= {
        "text/javascript",
        "application/javascript",
    }
    listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/pictures/")["Contents"]
    before = next(each["Key"] for each in listed if each["Key"].endswith("/before.webp"))
    stored = client.get_object(Bucket=bucket, Key=before)["Body"].read()
    assert Image.open(io.BytesIO(stored)).size == (300, 200)
