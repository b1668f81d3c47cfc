"""What a review page holds: which rows, which pictures, and what it says of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from jobs.report.listing import list_rows, sample_rows, select_recipes
from jobs.report.pictures import outline
from jobs.report.write import DETAILS_PER_FILE
from jobs.results.verify import verify
from manifests.errors import CatalogCleanupError
from manifests.ledger import Ledger
from stages.recipe import Recipe
from tests.support import DEMO, encoded, write
from tests.support.output_folders import clean_here, page_data, record, write_page

TELEA = Recipe.load("telea")
TELEA_HASH = TELEA.hash


@pytest.fixture
def photo() -> Image.Image:
    return Image.open(DEMO / "photos" / "coffee-stray-coins.jpg").resize((300, 200))


@pytest.fixture
def mask() -> bytes:
    drawn = np.zeros((200, 300), np.uint8)
    drawn[60:90, 100:160] = drawn[150:160, 250:260] = 255
    return encoded(drawn)


def catalog(folder: Path, names: list[str], photo: Image.Image, mask: bytes) -> Path:
    """A manifest of one photo under several ids, each with a number that no float holds."""
    lines = ["id,image,mask,note"]
    for name in names:
        write(folder / f"{name}.jpg", encoded(photo, format="JPEG"))
        lines.append(f"{name},{name}.jpg,mask.png,{name}'s note")
    write(folder / "mask.png", mask)
    return Path(write(folder / "manifest.csv", "\n".join(lines)))


def ids(count: int, folder: Path) -> str:
    """A manifest of photos that nobody opens."""
    lines = "".join(f"p{n:04d},p.jpg,m.png,{n % 3}\n" for n in range(count))
    return write(folder / "manifest.csv", f"id,image,mask,score\n{lines}")


def some_flagged(rows: pa.Table) -> dict[str, Any]:
    """Of each ten rows one is flagged and two have failed."""
    numbers = [int(name[1:]) for name in rows["id"].to_pylist()]
    failed = [n % 10 in (3, 4) for n in numbers]
    return {
        "status": ["failed" if each else "ok" for each in failed],
        "error_code": ["image.corrupt" if each else None for each in failed],
        "flag": pa.array(["came_back" if n % 10 == 7 else None for n in numbers], pa.string()),
    }


def test_it_tells_of_each_row_and_draws_it(tmp_path: Path, photo: Image.Image, mask: bytes) -> None:
    manifest = catalog(tmp_path, ["a", "b"], photo, mask)
    clean_here(manifest, tmp_path / "out", TELEA)
    page = write_page(tmp_path / "out")
    assert page == tmp_path / "out" / "report" / "index.html"
    first, second = page_data(page, "details-0000")
    row = json.loads(first["line"])
    assert row == {
        "id": "a",
        "image": str(tmp_path / "a.jpg"),
        "mask": [str(tmp_path / "mask.png")],
        "note": "a's note",
    }
    assert json.loads(second["line"])["id"] == "b"
    result = first["results"][0]
    assert result["output_uri"] == str(tmp_path / "out" / "images" / TELEA.label / "a.jpg")
    pictures = result["pictures"]
    assert (pictures["shown"], pictures["problem"]) == (["before", "after"], "")
    assert (pictures["width"], pictures["height"]) == (300, 200)
    assert pictures["outline"].count("M") == 2, "two parts are marked"
    folder = page.parent / "pictures" / pictures["folder"]
    with Image.open(folder / "before.webp") as before, Image.open(folder / "after.webp") as after:
        lost, cleaned = (np.asarray(each, np.int16) for each in (before, after))
        stored = np.asarray(Image.open(result["output_uri"]), np.int16)
    assert np.abs(cleaned - stored).mean() < 3, "it is the result"
    assert np.abs(lost - np.asarray(photo, np.int16)).mean() < 5, "it is the photo"
    for index, patch in enumerate(pictures["patches"]):
        x, y, width, height = patch["box"]
        assert patch["scale"] == 1
        with Image.open(folder / f"{index}-after.webp") as crop:
            assert crop.size == (width, height), "a pixel of the photo is one of the picture"
            there = stored[y : y + height, x : x + width]
            assert np.abs(np.asarray(crop, np.int16) - there).mean() < 3
    summary = page_data(page, "page")["recipes"][0]["summary"]
    assert summary["statuses"] == {"ok": 2}
    assert summary["fidelity"] == ["kept outside the masks: all JPEG coefficients 2"]
    assert summary["rowsPerSecond"] == pytest.approx(2 / 2.5)
    assert [stage["name"] for stage in summary["stages"]][:2] == ["fetch", "decode"]


def test_what_cannot_be_drawn_says_why_and_costs_no_other(
    tmp_path: Path, photo: Image.Image, mask: bytes
) -> None:
    names = ["changed", "crashed", "fine", "gone", "lost", "no-mask"]
    manifest = catalog(tmp_path, names, photo, mask)
    manifest.write_text(manifest.read_text().replace("no-mask.jpg,mask", "no-mask.jpg,nowhere"))
    job = clean_here(manifest, tmp_path / "out", TELEA)
    write(tmp_path / "changed.jpg", encoded(photo.rotate(180), format="JPEG"))
    (tmp_path / "gone.jpg").unlink()
    (tmp_path / "out" / "images" / TELEA.label / "lost.jpg").unlink()
    crash(job.ledger, "crashed")
    page = write_page(tmp_path / "out")
    found = {
        json.loads(row["line"])["id"]: row["results"][0] for row in page_data(page, "details-0000")
    }
    assert list(found) == names
    rendered = {name: result["pictures"] for name, result in found.items()}
    assert {name: pictures["shown"] for name, pictures in rendered.items()} == {
        "changed": ["before", "after"],
        "crashed": [],
        "fine": ["before", "after"],
        "gone": ["after"],
        "lost": ["before"],
        "no-mask": ["before"],
    }
    problems = {name: pictures["problem"] for name, pictures in rendered.items()}
    assert "has changed since" in problems["changed"]
    assert problems["fine"] == ""
    assert str(tmp_path / "gone.jpg") in problems["gone"]
    assert "lost.jpg" in problems["lost"]
    assert found["no-mask"]["error_code"] == "mask.not_found"
    assert "might end this one" in problems["crashed"]


def crash(ledger: Ledger, name: str) -> None:
    """Record that a row ended so, in the folder's only files."""
    for path in Path(ledger.output, "lineage").rglob("*.parquet"):
        table = pa.parquet.read_table(path)
        rows = table.to_pylist(maps_as_pydicts="strict")
        for row in rows:
            if row["id"] == name:
                row |= {"status": "crashed", "error_code": "row.crashed"}
        pa.parquet.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def test_flagged_and_failed_photos_are_drawn_first(tmp_path: Path) -> None:
    record(ids(200, tmp_path), tmp_path / "out", TELEA, some_flagged)
    rows = list_rows(select_recipes(str(tmp_path / "out")), ()).rows
    names = rows["id"].to_pylist()

    def kinds(sample: int) -> list[int]:
        chosen = sample_rows(rows, sample)
        assert chosen == sorted(set(chosen))
        ends = [int(names[row][1:]) % 10 for row in chosen]
        return [ends.count(7), ends.count(3) + ends.count(4), len(ends)]

    assert kinds(10) == [10, 0, 10]
    assert kinds(60) == [20, 30, 60], "failed ones take half at most"
    assert kinds(195) == [20, 40, 195]
    assert kinds(0) == kinds(500) == [20, 40, 200]
    assert sample_rows(rows, 60) == sample_rows(rows, 60)


def test_of_too_many_rows_an_even_draw_is_listed(tmp_path: Path) -> None:
    record(ids(2000, tmp_path), tmp_path / "out", TELEA, some_flagged)
    recipes = select_recipes(str(tmp_path / "out"))
    listing = list_rows(recipes, (), max_rows=500)
    numbers = [int(name[1:]) for name in listing.rows["id"].to_pylist()]
    good = [n for n in numbers if n % 10 not in (3, 4, 7)]
    assert (len(numbers), sum(n % 10 == 7 for n in numbers), len(good)) == (500, 200, 50)
    assert 600 < np.median(good) < 1400
    assert sorted(numbers) == numbers
    assert listing.summaries[0].rows == 2000, "all are counted"
    assert listing.summaries[0].counts["flag"] == {"came_back": 200}
    only = list_rows(recipes, {"flagged"}).rows["id"].to_pylist()
    assert [int(name[1:]) % 10 for name in only] == [7] * 200
    assert list_rows(recipes, {"flagged", "failed"}).rows.num_rows == 600


def test_a_manifests_column_may_be_called_like_ours(tmp_path: Path) -> None:
    record(ids(20, tmp_path), tmp_path / "out", TELEA, some_flagged)
    page = write_page(tmp_path / "out", sample=1)
    about, columns = page_data(page, "page"), page_data(page, "rows-0000")
    (own,) = about["columns"]
    assert own["name"] == "manifest_score"
    assert own["values"] == ["0", "1", "2"]
    assert columns["column0"] == [str(n % 3) for n in range(20)]
    assert set(columns["score"]) == {None}
    assert about["flag"] == ["came_back"]
    assert about["meanings"].keys() == {"image.corrupt"}


def test_a_browser_rounds_no_number_of_a_manifest(tmp_path: Path) -> None:
    line = {"id": "1", "image": "p.jpg", "boxes": [1, 2, 3, 4], "sku": 2**60 + 1, "review": "x"}
    manifest = write(tmp_path / "m.jsonl", json.dumps(line))
    record(manifest, tmp_path / "out", TELEA, lambda _: {})
    (row,) = page_data(write_page(tmp_path / "out"), "details-0000")
    assert f'"sku":{2**60 + 1}' in row["line"]
    assert '"boxes":[1,2,3,4]' in row["line"]
    assert "review" not in row["line"], "the page writes a new one"


def test_recipes_stand_beneath_each_other_or_side_by_side(
    tmp_path: Path, photo: Image.Image, mask: bytes
) -> None:
    manifest = catalog(tmp_path, ["a", "b"], photo, mask)
    stokes = Recipe.load("navier-stokes")
    for recipe in (TELEA, stokes):
        clean_here(manifest, tmp_path / "out", recipe)
    few = catalog(tmp_path / "few", ["b", "c"], photo, mask)
    clean_here(few, tmp_path / "other", TELEA)
    out = tmp_path / "out"
    both = write_page(out, sample=1)
    assert page_data(both, "rows-0000")["id"] == ["a", "a", "b", "b"]
    assert [recipe["name"] for recipe in page_data(both, "page")["recipes"]] == [
        "telea",
        "navier-stokes",
    ]
    one = write_page(out, recipe=TELEA.hash[:6])
    assert page_data(one, "rows-0000")["id"] == ["a", "b"]
    pair = write_page(out, compare="telea")
    assert [recipe["name"] for recipe in page_data(pair, "page")["recipes"]] == [
        "navier-stokes",
        "telea",
    ]
    assert page_data(pair, "rows-0000")["status2"] == ["ok", "ok"]
    for row in page_data(pair, "details-0000"):
        first, second = (result["pictures"]["folder"] for result in row["results"])
        assert first != second
        for folder in (first, second):
            assert (pair.parent / "pictures" / folder / "0-after.webp").exists()
    other = write_page(out, recipe="telea", compare=str(tmp_path / "other"))
    assert [len(row["results"]) for row in page_data(other, "details-0000")] == [1, 2]
    assert page_data(other, "rows-0000")["status2"] == ["", "ok"]
    assert page_data(other, "page")["recipes"][1]["output"] == str(tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"recipe": "lama"}, "recipe.not_found"),
        ({"compare": "telea"}, "recipe.not_found"),
        ({"compare": "elsewhere"}, "output.not_found"),
    ],
)
def test_what_is_not_there_is_told(options: dict[str, str], code: str, tmp_path: Path) -> None:
    record(ids(1, tmp_path), tmp_path / "out", TELEA, lambda _: {})
    with pytest.raises(CatalogCleanupError) as told_:
        write_page(tmp_path / "out", **options)
    assert told_.value.code == code
    with pytest.raises(CatalogCleanupError) as told_:
        write_page(tmp_path / "nothing")
    assert told_.value.code == "output.not_found"


def test_results_are_found_by_the_hash_that_their_run_recorded(
    tmp_path: Path, photo: Image.Image, mask: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may compute another hash of the same recipe."""
    out = str(tmp_path / "out")
    clean_here(catalog(tmp_path, ["a"], photo, mask), out, TELEA)
    monkeypatch.setattr("stages.recipe.SCHEMA", 99)
    assert Recipe.load("telea").hash != TELEA_HASH
    (results,) = select_recipes(out, TELEA_HASH)
    assert results.label == f"telea-{TELEA_HASH[:8]}"
    listing = list_rows([results], ())
    assert listing.rows["id"].to_pylist() == ["a"]
    assert listing.summaries[0].as_values([results.record])["seconds"] == 2.5
    assert [verdict.id for verdict in verify(out)] == ["a"]


def test_kept_steps_are_shown(
    tmp_path: Path,
    photo: Image.Image,
    mask: bytes,
    flux_folder: Path,
) -> None:
    recipe = Recipe.load(
        "flux-fill",
        [
            "remove.method=telea",
            f"refine.weights={flux_folder}",
            *("refine.size_px=64", "refine.steps=2", "refine.dtype=float32"),
            *("output.keep_steps=true", "output.format=png"),
        ],
    )
    manifest = catalog(tmp_path, ["a"], photo, mask)
    clean_here(manifest, tmp_path / "out", recipe)
    page = write_page(tmp_path / "out")
    pictures = page_data(page, "details-0000")[0]["results"][0]["pictures"]
    assert [patch["steps"] for patch in pictures["patches"]] == [["removal", "refined"]]
    folder = page.parent / "pictures" / pictures["folder"]
    shown = {}
    for name in ("before", "removal", "refined", "after"):
        with Image.open(folder / f"0-{name}.webp") as picture:
            shown[name] = np.asarray(picture, np.int16)
    x, y, *_ = pictures["patches"][0]["box"]
    hole = np.s_[60 - y : 90 - y, 100 - x : 160 - x]

    def apart(one: str, other: str, where: Any) -> float:
        return float(np.abs(shown[one][where] - shown[other][where]).mean())

    assert apart("removal", "before", np.s_[:20]) < 4, "around the hole it is the photo"
    assert apart("removal", "before", hole) > 8
    assert apart("refined", "removal", hole) > 8, "a random network paints something else"
    assert apart("after", "refined", hole) < 4, "what is pasted is the refiner's"
    shutil.rmtree(tmp_path / "out" / "steps")
    again = page_data(write_page(tmp_path / "out"), "details-0000")[0]["results"][0]["pictures"]
    assert [patch["steps"] for patch in again["patches"]] == [[]]


def test_an_outline_has_holes_and_follows_the_mask() -> None:
    ring = np.zeros((100, 200), np.bool_)
    ring[20:80, 30:170] = True
    ring[40:60, 80:120] = False
    path = outline(ring)
    assert path.count("M") == path.count("Z") == 2
    assert "30 20" in path
    assert outline(np.zeros((4, 4), np.bool_)) == ""


def test_details_are_in_files_of_some_rows_each(tmp_path: Path) -> None:
    record(ids(DETAILS_PER_FILE + 1, tmp_path), tmp_path / "out", TELEA, lambda _: {})
    page = write_page(tmp_path / "out", sample=1)
    assert len(page_data(page, "details-0000")) == DETAILS_PER_FILE
    assert len(page_data(page, "details-0001")) == 1
    assert (
        page_data(page, "page")["count"]
        == len(page_data(page, "rows-0000")["id"])
        == DETAILS_PER_FILE + 1
    )
