"""Prefixes of pictures in S3 as manifests: what is listed, and by how many requests."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient

from manifests.errors import ManifestError
from manifests.planning.plan import make_plan
from manifests.storage.s3 import objects
from tests.support import rows_of
from tests.support.s3_server import BUCKET, S3Server

PAGE, COUNT = 10, 60


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Operation -> number of requests that boto3 makes from now on."""
    made: Counter[str] = Counter()
    send = BaseClient._make_api_call  # type: ignore[attr-defined] # boto3 has no other place

    def counted(self: Any, operation: str, parameters: Any) -> Any:
        made[operation] += 1
        return send(self, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", counted)
    monkeypatch.setattr(objects, "_PAGE_OBJECTS", PAGE)
    return made


def store(server: S3Server, *keys: str) -> None:
    client = server.client()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=b"x"), keys))


def test_a_prefix_is_listed_page_by_page_and_no_photo_is_asked_for(
    s3: str, s3_server: S3Server, tmp_path: Path, requests: Counter[str]
) -> None:
    shoes = [f"{number % 4}/shoe {number:02}%20" for number in range(COUNT)]
    store(s3_server, *(f"flat/photos/{each}.jpg" for each in shoes))
    store(s3_server, *(f"flat/photos/masks/{each}_mask.png" for each in shoes[1:]))
    store(s3_server, "flat/photos/.cache/1.jpg", "flat/photos/red/2.txt", "flat/photos/")
    requests.clear()
    photos, output = f"{s3}/flat/photos", str(tmp_path / "out")
    plan = make_plan(f"{photos}/", output, masks=f"{photos}/masks/", unmarked="pass")
    rows = {str(row["id"]): row for row in rows_of(plan)}
    assert sorted(rows) == sorted(shoes)
    assert rows["1/shoe 01%20"]["image_uri"] == f"{photos}/1/shoe 01%20.jpg"
    assert rows["1/shoe 01%20"]["mask_uri"] == f"{photos}/masks/1/shoe 01%20_mask.png"
    assert f"{COUNT} photos: {COUNT - 1} paired with masks; 1 without marks" in str(plan.notes)
    pages = 3 * (COUNT // PAGE) + 10  # of the photos with the masks among them, and of the masks
    assert requests.pop("ListObjectsV2") <= pages
    assert set(requests) == {"HeadObject"}
    assert requests["HeadObject"] <= 4, "of what the user named"
    requests.clear()
    pattern = make_plan(f"{photos}/?/*0%20.jpg", str(tmp_path / "two"), unmarked="detect")
    assert [row["id"] for row in rows_of(pattern)] == [
        each for each in sorted(shoes) if "0%" in each
    ]
    for absent in ("nowhere", "flat/photos/masks/9*"):
        with pytest.raises(ManifestError):
            make_plan(f"{s3}/{absent}", str(tmp_path / "three"))
    store(s3_server, "flat/photos/late.jpg")
    with pytest.raises(Exception, match="another state of it"):
        make_plan(photos, output, masks=f"{photos}/masks", unmarked="pass")
