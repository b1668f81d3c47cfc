"""The main job end to end: real Ray, real photos, real files, and a real S3 server."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import boto3
import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco

from cluster.pools import PoolSize
from manifests.errors import OutputError
from stages.pixels.masks import distance_outside
from stages.recipe import Recipe
from tests.conftest import Run
from tests.support import DEMO, encoded, last_run, lineage
from tests.support import faulty_steps as doubles
from tests.support.files.catalog import BAD_ROWS, make_catalog
from tests.support.output_folders import clean_here

TELEA = Recipe.load("telea")


def test_two_hundred_photos_with_ten_bad_rows(on_ray: Run, tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, good=190, least_mp=0.05, most_mp=0.3)
    two = {"cpu": PoolSize(min_actors=2, max_actors=2, cpus=0.5)}
    outcome = on_ray(catalog.manifest, tmp_path / "out", pools=two)
    assert outcome.exit_code == 3
    assert (outcome.tally.rows, outcome.tally.ok) == (200, 190)
    assert outcome.tally.failed == dict.fromkeys(BAD_ROWS, 1)
    assert (outcome.tally.crashed, outcome.tally.pending_count) == (0, 0)
    rows = lineage(tmp_path / "out")
    assert rows.index.is_unique
    assert set(rows.index) == {*catalog.good, *catalog.bad}
    assert {name: rows.error_code[name] for name in catalog.bad} == catalog.bad
    stored = {path.stem for path in (tmp_path / "out" / "images" / TELEA.label).iterdir()}
    assert stored == set(catalog.good)
    for name in catalog.good[::5]:  # every fifth is a PNG
        assert_nothing_changed_outside_the_mask(tmp_path, name, rows.output_uri[name])


def test_a_limited_run_takes_rows_from_all_over_the_manifest_and_the_next_goes_on(
    on_ray: Run, tmp_path: Path
) -> None:
    photo, mask = DEMO / "photos" / "coffee-stray-coins.jpg", DEMO / "masks"
    rows = [f"{n:02},{photo},{mask / 'coffee-stray-coins.png'}" for n in range(20)]
    (tmp_path / "m.csv").write_text("\n".join(["id,image,mask", *rows]))
    outcome = on_ray(tmp_path / "m.csv", tmp_path / "out", limit=3, rows_per_shard=4)
    assert (outcome.exit_code, outcome.tally.rows, outcome.tally.ok) == (0, 3, 3)
    done = lineage(tmp_path / "out").index
    assert len(done) == len({int(name) // 4 for name in done}) == 3, "of different shards"
    assert last_run(tmp_path / "out")["limit"] == 3
    outcome = on_ray(tmp_path / "m.csv", tmp_path / "out", limit=99)
    assert (outcome.exit_code, outcome.tally.ok) == (0, 17)
    assert lineage(tmp_path / "out").index.is_unique
    assert on_ray(tmp_path / "m.csv", tmp_path / "out").tally.ok == 20


def assert_nothing_changed_outside_the_mask(folder: Path, name: str, output: str) -> None:
    before = np.asarray(Image.open(folder / "in" / f"{name}.png"))
    after = np.asarray(Image.open(output))
    mask = np.asarray(Image.open(folder / "in" / f"{name}-mask.png")) >= 128
    changed = (before != after).any(axis=2)
    reach = TELEA.mask.dilate_px + TELEA.mask.feather_px + 1
    assert not changed[distance_outside(mask) >= reach].any()
    assert changed[mask].mean() > 0.99, "the mark itself must be gone"


def test_marks_of_every_form_go_through_and_are_resumed(on_ray: Run, tmp_path: Path) -> None:
    photo = str(DEMO / "photos" / "coffee-stray-coins.jpg")
    masks = [np.zeros((400, 600), np.uint8) for _ in range(2)]
    masks[0][50:90, 60:100] = masks[1][300:330, 20:80] = 255
    for number, mask in enumerate(masks):
        (tmp_path / f"{number}.png").write_bytes(encoded(mask))
    rle = coco.encode(np.asfortranarray(masks[0] | masks[1]) // 255)
    polygon = [[60, 50, 100, 50, 100, 90, 60, 90], [20, 300, 80, 300, 80, 330, 20, 330]]
    marks: dict[str, dict[str, Any]] = {
        "boxes": {"boxes": [[60, 50, 40, 40], [20, 300, 60, 30]]},
        "polygons": {"polygons": polygon},
        "rle": {"rle": {"size": [400, 600], "counts": rle["counts"].decode()}},
        "masks": {"mask": ["0.png", "1.png"]},
        "mixed": {"mask": "0.png", "boxes": [20, 300, 60, 30]},
        "none": {"boxes": []},
        "bad": {"boxes": [[60, 50, 40]]},
        "size": {"rle": {"size": [600, 400], "counts": [240_000]}},
        "forgotten": {},
    }
    lines = [json.dumps({"id": name, "image": photo, **mark}) for name, mark in marks.items()]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    outcome = on_ray(tmp_path / "m.jsonl", tmp_path / "out")
    assert outcome.tally.failed == {"mask.bad_shape": 1, "mask.size_mismatch": 1, "mask.no_uri": 1}
    assert (outcome.tally.ok, outcome.tally.unchanged, outcome.tally.pending_count) == (6, 1, 0)
    rows = lineage(tmp_path / "out")
    same = ["boxes", "polygons", "rle", "masks", "mixed"]
    assert len(set(rows.masked_px[same])) == 1
    assert rows.fidelity["none"] == "identical"
    assert "boxes[0] has 3 numbers, not x, y, width, height" in rows.error["bad"]
    assert json.loads(rows.marks["masks"]) == {"masks": [str(tmp_path / "1.png")]}
    again = on_ray(tmp_path / "m.jsonl", tmp_path / "out")
    assert again.tally == outcome.tally
    assert (lineage(tmp_path / "out").run_id == rows.run_id).all(), "nothing was done twice"


def test_the_lineage_tells_how_a_photo_was_made(on_ray: Run, tmp_path: Path) -> None:
    on_ray(DEMO / "manifest.csv", tmp_path)
    row = lineage(tmp_path).loc["fig-bowl-sticker-date"]
    assert (row.status, row.recipe_name) == ("ok", "telea")
    assert pd.isna(row.error_code)
    assert row.recipe_hash == TELEA.hash
    assert row.output_uri == str(tmp_path / "images" / TELEA.label / "fig-bowl-sticker-date.jpg")
    assert (row.width, row.height, len(row.patches)) == (1300, 879, 2)
    assert row.category == "tableware"
    steps = ["fetch", "decode", "mask", "cut", "remove", "stitch", "encode", "publish"]
    assert [name for name, _ in row.seconds] == steps
    table = duckdb.read_parquet(f"{tmp_path}/lineage/*/*/*.parquet", hive_partitioning=True)
    seen = table.select("id, shard, patches[1].crop.width, seconds['remove']").fetchall()
    assert len(seen) == 8
    record = last_run(tmp_path)
    assert (record["status"], record["exit_code"], record["rows"]) == ("finished", 0, 8)
    assert record["recipe"]["remove"]["method"] == "telea"


def test_apart_or_fused_the_pictures_are_the_same(
    on_ray: Run, small_demo: str, tmp_path: Path
) -> None:
    """Misses what a GPU pool would add: the pool apart is of CPU actors."""
    share = PoolSize(min_actors=1, max_actors=1, cpus=0.3)
    recipe = Recipe.load("patchmatch", ["resize.max_side_px=200"])
    clean_here(small_demo, tmp_path / "fused", recipe)
    apart = on_ray(
        small_demo,
        tmp_path / "apart",
        recipe=recipe,
        steps=doubles.apart,
        pools={"cpu": share, "small_gpu": share},
        rows_per_shard=3,
    )
    assert apart.exit_code == 0
    hashes = [lineage(tmp_path / name).output_sha256 for name in ("fused", "apart")]
    pd.testing.assert_series_equal(hashes[0], hashes[1])
    assert (lineage(tmp_path / "apart").category == lineage(tmp_path / "fused").category).all()


def test_a_second_run_does_only_what_is_left(on_ray: Run, small_demo: str, tmp_path: Path) -> None:
    clean_here(small_demo, tmp_path, TELEA, rows_per_shard=2)
    first = lineage(tmp_path)
    on_ray(small_demo, tmp_path)
    pd.testing.assert_frame_equal(lineage(tmp_path), first)
    (lost,) = (tmp_path / "lineage").glob("*/shard=00002/*")
    redone = set(pd.read_parquet(lost).id)
    lost.unlink()
    outcome = on_ray(small_demo, tmp_path)
    again = lineage(tmp_path)
    assert outcome.exit_code == 0
    assert again.index.is_unique
    assert (again.output_sha256 == first.output_sha256).all()
    assert set(again.index[again.run_id != first.run_id]) == redone


def test_failed_rows_are_done_again_on_request(on_ray: Run, tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, good=2, least_mp=0.2, most_mp=0.3)
    clean_here(catalog.manifest, tmp_path / "out", TELEA)
    good = tmp_path / "in" / "photo-001.jpg"
    (tmp_path / "in" / "bad-image.zero_bytes.jpg").write_bytes(good.read_bytes())
    mask = (tmp_path / "in" / "photo-001-mask.png").read_bytes()
    (tmp_path / "in" / "bad-image.zero_bytes-mask.png").write_bytes(mask)
    blind = {"check_inputs": False}
    assert on_ray(catalog.manifest, tmp_path / "out", **blind).tally.failed_count == 10
    outcome = on_ray(catalog.manifest, tmp_path / "out", retry={"failed"}, **blind)
    assert (outcome.tally.ok, outcome.tally.failed_count) == (3, 9)
    assert "image.zero_bytes" not in outcome.tally.failed
    assert lineage(tmp_path / "out").index.is_unique, "the rows that were done again are gone"


def test_originals_are_never_overwritten(on_ray: Run, tmp_path: Path) -> None:
    (tmp_path / "images" / TELEA.label).mkdir(parents=True)
    photo, mask = DEMO / "photos" / "coffee-stray-coins.jpg", DEMO / "masks"
    input_ = tmp_path / "images" / TELEA.label / "1.jpg"
    input_.write_bytes(photo.read_bytes())
    (tmp_path / "m.csv").write_text(
        f"id,image,mask\n1,{input_},{mask}/coffee-stray-coins.png\n[/../2],a,b\n"
    )
    outcome = on_ray(tmp_path / "m.csv", tmp_path)
    assert outcome.tally.failed == {"output.is_input": 1, "id.unsafe": 1}
    assert input_.read_bytes() == photo.read_bytes()


def test_an_output_that_cannot_be_written_stops_the_run(
    on_ray: Run, small_demo: str, tmp_path: Path
) -> None:
    (tmp_path / "images").write_text("in the way")
    with pytest.raises(OutputError, match="Cannot store"):
        on_ray(small_demo, tmp_path)
    assert last_run(tmp_path)["status"] == "failed"
    (tmp_path / "images").unlink()
    assert on_ray(small_demo, tmp_path).exit_code == 0


def test_results_of_several_recipes_lie_side_by_side(
    on_ray: Run, small_demo: str, tmp_path: Path
) -> None:
    clean_here(small_demo, tmp_path, TELEA)
    other = Recipe.load("telea", ["mask.dilate_px=9"])
    assert on_ray(small_demo, tmp_path, recipe=other).tally.ok == 8
    rows = pd.read_parquet(tmp_path / "lineage")
    assert rows.groupby("recipe_hash").id.nunique().tolist() == [8, 8]
    assert rows.output_uri.is_unique
    for uri, sha256 in zip(rows.output_uri, rows.output_sha256, strict=True):
        assert hashlib.sha256(Path(uri).read_bytes()).hexdigest() == sha256


def test_from_s3_to_s3(on_ray: Run, s3: str, small_demo: str, tmp_path: Path) -> None:
    client = boto3.client("s3")
    folder = Path(small_demo).parent
    for path in folder.rglob("*.*"):
        client.upload_file(str(path), "catalog", f"run/{path.relative_to(folder)}")
    clean_here(small_demo, tmp_path, TELEA)
    assert on_ray(f"{s3}/run/manifest.csv", f"{s3}/run-out").exit_code == 0
    for uri in lineage(tmp_path).output_uri:
        key = f"run-out/images/{TELEA.label}/{Path(uri).name}"
        body = client.get_object(Bucket="catalog", Key=key)["Body"].read()
        assert body == Path(uri).read_bytes()
    assert last_run(f"{s3}/run-out")["tally"]["ok"] == 8
