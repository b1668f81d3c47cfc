"""The list of photos: found, sorted, decided on and exported; also 100,000 of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from stages.recipe import Recipe
from tests.browser.page import (
    BAD,
    NAMES,
    NOTE,
    TELEA,
    downloaded,
    finds,
    finds_by_seconds,
    listed,
    looks_at,
    open_page,
    press,
    search,
    text,
    until,
)
from tests.support import lineage, write
from tests.support.output_folders import clean_here, record, write_page


def by_share(output: Path) -> list[str]:
    """The ids of the photos that did not fail, that with the largest filled share first."""
    rows = pd.read_parquet(output / "lineage").drop_duplicates("id").set_index("id").drop(BAD)
    return list((-rows.masked_px / (rows.width * rows.height)).sort_values().index)


def test_photos_are_filtered_searched_and_sorted(opened: webdriver.Chrome, output: Path) -> None:
    names = sorted([*NAMES, BAD])
    search(opened, "text", "STICKER")
    finds(opened, *NAMES[:2])
    search(opened, "text", "")
    search(opened, "status", "failed")
    finds(opened, BAD)
    assert text(opened, "#count") == "1 of 4 photos"
    looks_at(opened, BAD)
    search(opened, "status", "")
    search(opened, "error_code", "image.not_found")
    finds(opened, BAD)
    search(opened, "error_code", "")
    search(opened, "column1", "bird")
    finds(opened, NAMES[0])
    search(opened, "text", "nowhere")
    finds(opened)
    assert "No photo" in text(opened, ".nothing")
    opened.find_element(By.CSS_SELECTOR, "#filters [type=reset]").click()
    finds(opened, *names)
    search(opened, "sort", "-id")
    finds(opened, *reversed(names))
    search(opened, "sort", "-share")
    finds(opened, *by_share(output), BAD)
    search(opened, "sort", "-seconds")
    finds_by_seconds(opened, len(NAMES), slowest_first=True)
    search(opened, "sort", "seconds")
    finds_by_seconds(opened, len(NAMES), slowest_first=False)
    press(opened, Keys.ESCAPE)


def test_photos_with_pictures_come_first(
    browser: webdriver.Chrome, output: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(output, tmp_path / "out")  # the others' page stays as it is
    open_page(browser, write_page(own, recipe="telea", sample=1, only=["ok"]))
    options = "[...document.querySelectorAll('#rows .row-option')]"
    icons = f"return {options}.map((row) => Boolean(row.querySelector('img')))"
    assert browser.execute_script(icons) == [True, False, False]
    press(browser, Keys.ARROW_DOWN)
    until(browser, lambda: "1 of 3 photos have some" in text(browser, ".nothing"))


def test_decisions_are_made_by_key_kept_and_exported_for_a_run(
    opened: webdriver.Chrome, page: Path, downloads: Path, tmp_path: Path
) -> None:
    names = sorted([*NAMES, BAD])
    looks_at(opened, names[0])
    for key, name in zip("xarr", names, strict=True):
        looks_at(opened, name)
        press(opened, key)
    assert text(opened, "#decisions") == "1 accepted, 2 to redo, 1 rejected"
    press(opened, "r")
    assert text(opened, "#decisions") == "1 accepted, 1 to redo, 1 rejected", "taken back"
    press(opened, "r")
    press(opened, Keys.ARROW_UP)
    looks_at(opened, names[-2])
    open_page(opened, page)
    assert text(opened, "#decisions") == "1 accepted, 2 to redo, 1 rejected", "kept"
    search(opened, "decision", "r")
    finds(opened, *names[2:])
    opened.find_element(By.ID, "export-redo").click()
    redo = downloaded(downloads / "redo.jsonl")
    assert [row["id"] for row in redo] == names[2:]
    assert {row["review"] for row in redo} == {"redo"}
    assert {row["note"] for row in redo} == {NOTE}
    opened.find_element(By.ID, "export-all").click()
    decisions = downloaded(downloads / "decisions.jsonl")
    assert {row["id"]: row["review"] for row in decisions} == dict(
        zip(names, ["reject", "accept", "redo", "redo"], strict=True)
    )
    clean_here(downloads / "redo.jsonl", tmp_path / "again", Recipe.load("telea", ["seed=1"]))
    assert (lineage(tmp_path / "again").status == "ok").tolist() == [True, True]
    again = write_page(tmp_path / "again")
    open_page(opened, again)
    search(opened, "column2", "redo")
    finds(opened, *names[2:])  # what was decided is a column now
    assert text(opened, "#decisions") == "0 accepted, 0 to redo, 0 rejected", "other results"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 100,000 rows, of whose photos there are no files."""
    folder = tmp_path_factory.mktemp("large")
    lines = "".join(f"p{n:06d},p.jpg,m.png,shop {n % 500}\n" for n in range(100_000))
    manifest = write(folder / "manifest.csv", f"id,image,mask,shop\n{lines}")

    def told(rows: Any) -> dict[str, Any]:
        numbers = [int(name[1:]) for name in rows["id"].to_pylist()]
        flags = pa.array(["came_back" if n % 1000 == 5 else None for n in numbers], pa.string())
        return {"score": [n * 7919 % 100_000 / 100_000 for n in numbers], "flag": flags}

    record(manifest, folder / "out", TELEA, told, rows_per_shard=10_000)
    return write_page(folder / "out", sample=20)


def test_a_hundred_thousand_rows_are_at_hand(
    browser: webdriver.Chrome, large: Path, downloads: Path
) -> None:
    open_page(browser, large)
    browser.execute_script("localStorage.clear()")
    assert text(browser, "#count") == "100,000 photos"

    def elements() -> int:
        return int(browser.execute_script("return document.querySelectorAll('*').length"))

    few = elements()
    assert few < 1500
    box = browser.find_element(By.ID, "list")
    for share in (0.25, 0.5, 1):
        browser.execute_script(
            "arguments[0].scrollTop = arguments[0].scrollHeight * arguments[1]", box, share
        )
        wanted = f"p{min(int(100_000 * share), 99_999):06d}"
        until(browser, lambda wanted=wanted: wanted in listed(browser))
        assert elements() < few + 100
    row = browser.find_elements(By.CSS_SELECTOR, "#rows .row-option")[-1]
    assert (row.get_attribute("aria-posinset"), row.get_attribute("aria-setsize")) == (
        "100000",
        "100000",
    )
    row.click()
    looks_at(browser, "p099999")
    press(browser, "r")
    search(browser, "sort", "-score")

    def falls() -> bool:
        scores = listed(browser, "facts")
        return scores == sorted(scores, reverse=True)

    until(browser, falls)
    search(browser, "column0", "shop 7")
    until(browser, lambda: text(browser, "#count") == "2,200 of 100,000 photos")  # 7, 70 to 79
    search(browser, "scoreFrom", "0.999")
    until(browser, lambda: 0 < len(listed(browser)) < 5)
    assert elements() < few + 100
    browser.find_element(By.CSS_SELECTOR, "#filters [type=reset]").click()
    search(browser, "flag", "came_back")
    until(browser, lambda: text(browser, "#count") == "100 of 100,000 photos")
    assert all("came back" in each for each in listed(browser, "facts"))
    (downloads / "redo.jsonl").unlink(missing_ok=True)
    browser.find_element(By.ID, "export-redo").click()
    (redo,) = downloaded(downloads / "redo.jsonl")
    assert (redo["id"], redo["shop"]) == ("p099999", "shop 499")
