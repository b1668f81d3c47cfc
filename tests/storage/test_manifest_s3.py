"""Manifests in S3: what is read there, planned there, and named there."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.planning.plan import load_plan, make_plan
from tests.support import rows_of

ROWS = [
    {"id": "1", "image": "a.jpg", "mask": "a.png", "sku": "0012"},
    {"id": "2", "image": "b.jpg", "mask": "b.png", "sku": "0013"},
]


CSV = "id,image,mask,sku\n1,a.jpg,a.png,0012\n2,b.jpg,b.png,0013\n"


JSON_LINES = (
    '{"id": 1, "image": "a.jpg", "mask": "a.png", "sku": "0012"}\n\n'
    '{"id": 2, "image": "b.jpg", "mask": "b.png", "sku": "0013"}\n'
)


def test_dots_are_resolved_within_the_root_and_in_relative_paths_alone(
    s3: str, tmp_path: Path
) -> None:
    boto3.client("s3").put_object(
        Bucket="catalog",
        Key="dots/m.csv",
        Body=b"id,image,mask\n1,../a//b.jpg,../../../c.png\n2,s3://x/a/../b.jpg,d//e.png\n",
    )
    first, second = rows_of(make_plan(f"{s3}/dots/m.csv", str(tmp_path / "out")))
    assert (first["image_uri"], first["mask_uri"]) == (f"{s3}/a/b.jpg", f"{s3}/c.png")
    assert (second["image_uri"], second["mask_uri"]) == ("s3://x/a/../b.jpg", f"{s3}/dots/d//e.png")


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "parquet"])
def test_a_manifest_in_s3_is_planned_in_s3(s3: str, tmp_path: Path, suffix: str) -> None:
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), table)
    text = {"csv": CSV.encode(), "csv.gz": gzip.compress(CSV.encode())}
    body = text | {"jsonl": JSON_LINES.encode(), "parquet": table.getvalue()}
    client = boto3.client("s3")
    client.put_object(Bucket="catalog", Key=f"plan/{suffix}/in/m.{suffix}", Body=body[suffix])
    plan = make_plan(f"{s3}/plan/{suffix}/in/*.{suffix}", f"{s3}/plan/{suffix}/out")
    assert [row["image_uri"] for row in rows_of(plan)] == [
        f"{s3}/plan/{suffix}/in/a.jpg",
        f"{s3}/plan/{suffix}/in/b.jpg",
    ]
    assert load_plan(f"{s3}/plan/{suffix}/out") == plan
