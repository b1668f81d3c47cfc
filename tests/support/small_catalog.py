"""Many small photos in S3, and whether a run on them left what an undisturbed one does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from manifests.ledger import Ledger
from manifests.planning.plan import load_plan
from stages.recipe import Recipe
from tests.support import DEMO, encoded, upright_rgb
from tests.support.s3_server import BUCKET, S3Server

TELEA = Recipe.load("telea")
_SIDE = (64, 48)


@dataclass(frozen=True)
class SmallCatalog:
    """Photos of 64 x 48 px, JPEG and PNG, cut from real ones, each with a mask; and a manifest.

    Attributes:
        server: where they are.
        prefix: of all keys.
        count: how many photos.
    """

    server: S3Server
    prefix: str
    count: int

    @property
    def manifest(self) -> str:
        return f"s3://{BUCKET}/{self.prefix}/manifest.csv"

    def output(self, name: str) -> str:
        return f"s3://{BUCKET}/{self.prefix}/{name}"

    def store(self) -> None:
        photos = [upright_rgb(path) for path in sorted((DEMO / "photos").iterdir())]
        rng = np.random.default_rng(7)
        mask = np.zeros((_SIDE[1], _SIDE[0]), np.uint8)
        mask[20:30, 16:40] = 255
        files: dict[str, bytes] = {"mask.png": encoded(mask)}
        for number in range(self.count):
            photo = photos[number % len(photos)]
            x = int(rng.integers(0, photo.shape[1] - _SIDE[0]))
            y = int(rng.integers(0, photo.shape[0] - _SIDE[1]))
            small = photo[y : y + _SIDE[1], x : x + _SIDE[0]]
            kind = "JPEG" if number % 4 else "PNG"
            name = f"{number:06d}.{'jpg' if number % 4 else 'png'}"
            files[name] = encoded(small, format=kind)
        names = [name for name in files if name != "mask.png"]
        lines = "".join(f"{name[:6]},{name},mask.png\n" for name in names)
        files["manifest.csv"] = f"id,image,mask\n{lines}".encode()
        client = self.server.client()

        def put(name: str) -> None:
            client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}", Body=files[name])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, files))

    def recorded(self, name: str) -> int:
        """How many rows an output's lineage has; those that are being merged count twice."""
        return sum(map(row_count, self.read(self.keys(f"{name}/lineage/"))))

    def results(self, name: str) -> dict[str, str]:
        """Id -> sha256 of the stored picture, after all that must hold of an output is asserted."""
        plan = load_plan(self.output(name))
        assert plan
        ledger = Ledger(plan.output, TELEA.hash)
        rows = []
        for shard in range(plan.shards):
            rows += ledger.latest(
                shard, ["id", "status", "output_uri", "output_sha256"]
            ).to_pylist()
        files = self.keys(f"{name}/lineage/")
        assert len(files) == plan.shards, "each shard's files are merged"
        assert sum(map(row_count, self.read(files))) == len(rows) == self.count, "each id once"
        assert {row["status"] for row in rows} == {"ok"}
        stored = {f"s3://{BUCKET}/{key}": key for key in self.keys(f"{name}/images/")}
        assert stored.keys() == {row["output_uri"] for row in rows}
        pictures = self.read([stored[row["output_uri"]] for row in rows])
        for row, picture in zip(rows, pictures, strict=True):
            assert hashlib.sha256(picture).hexdigest() == row["output_sha256"]
        return {row["id"]: row["output_sha256"] for row in rows}

    def keys(self, folder: str) -> list[str]:
        pages = self.server.client().get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=BUCKET, Prefix=f"{self.prefix}/{folder}")
        return [each["Key"] for page in found for each in page.get("Contents", [])]

    def read(self, keys: Iterable[str]) -> list[bytes]:
        """The objects, as far as they are still there."""
        client = self.server.client()

        def get(key: str) -> bytes:
            return client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(get, keys))


def row_count(parquet: bytes) -> int:
    """The number of rows of a Parquet file."""
    return int(pq.ParquetFile(pa.BufferReader(parquet)).metadata.num_rows)
