"""What was detected is looked at, corrected on the page, and cleaned by the manifest it exports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from stages.recipe import Recipe
from tests.browser.page import downloaded, finds, go_to, open_page, press, search, text, until
from tests.support import DEMO, encoded, write
from tests.support.files.stickers import logo, with_logo
from tests.support.output_folders import clean_here, write_page

#: Recognised text is as untrusted as this name of a template.
LABEL = "<img src=x onerror=document.title=1>"

#: Where logos are, by photo: of two, the one that matches better is removed.
PLACES = {"none": [], "one": [(400, 40)], "three": [(40, 300)], "two": [(400, 40), (50, 250)]}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of four photos, a marked one and one that is missing."""
    folder = tmp_path_factory.mktemp("detected")
    write(folder / f"{LABEL}.png", encoded(logo()))
    coffee = Image.open(DEMO / "photos" / "coffee-stray-coins.jpg").convert("RGB")
    lines = ["id,image,mask,sku"]
    for name, places in PLACES.items():
        shown = coffee
        for number, place in enumerate(places):
            shown = with_logo(shown, place, 120 - 20 * number)
        shown.save(folder / f"{name}.png")
        lines.append(f"{name},{name}.png,,00{name}")
    mask = DEMO / "masks" / "coffee-stray-coins.png"
    lines += [f"marked,one.png,{mask},7", "missing,no.png,,8"]
    manifest = write(folder / "manifest.csv", "\n".join(lines))
    options = {"detect.method": "template", "detect.max_matches": 1}
    options["detect.templates"] = str(folder / f"{LABEL}.png")
    recipe = Recipe.load("telea", options)
    clean_here(manifest, folder / "out", recipe.detecting())
    clean_here(manifest, folder / "cleaned", recipe)
    return folder


@pytest.fixture
def opened(browser: webdriver.Chrome, found: Path) -> Iterator[webdriver.Chrome]:
    page = write_page(found / "out")
    browser.get(page.as_uri())
    browser.execute_script("localStorage.clear()")
    browser.get_log("browser")  # type: ignore[no-untyped-call]
    yield open_page(browser, page)
    logged = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [each for each in logged if each["level"] in ("SEVERE", "WARNING")] == []


def entries(browser: webdriver.Chrome) -> list[tuple[str, bool]]:
    """What is listed as found, and whether it is removed."""
    boxes = browser.find_elements(By.CSS_SELECTOR, "#found input")
    return [(str(each.accessible_name), each.is_selected()) for each in boxes]


def outlines(browser: webdriver.Chrome) -> list[str | None]:
    drawn = browser.find_elements(By.CSS_SELECTOR, ".detections g")
    return [each.get_attribute("class") for each in drawn]


def test_photos_are_filtered_by_what_was_found(opened: webdriver.Chrome) -> None:
    for kind, names in {"removed": ["one", "three", "two"], "nothing": ["none"]}.items():
        search(opened, "found", kind)
        finds(opened, *names)
    assert text(opened, "#found h3") == "Nothing found"
    search(opened, "found", "")
    finds(opened, "marked", "missing", *PLACES)
    go_to(opened, "marked")
    assert text(opened, "#found h3") == "Not searched: its row has marks"
    go_to(opened, "missing")
    assert "image.not_found" in text(opened, ".nothing")


def correct(opened: webdriver.Chrome) -> None:
    """Switch on what was kept of a photo, reject one, accept one."""
    go_to(opened, "two")
    assert text(opened, "#found h3") == "1 of 2 found is removed"
    before = entries(opened)
    assert sorted(removed for _, removed in before) == [False, True]
    assert all(name.startswith(LABEL) for name, _ in before)
    assert any("more than 1 matches" in name for name, _ in before)
    kept = next(number for number, (_, removed) in enumerate(before) if not removed)
    assert outlines(opened)[kept] == "kept"
    opened.find_elements(By.CSS_SELECTOR, ".detections g")[kept].click()
    assert [removed for _, removed in entries(opened)] == [True, True]
    assert outlines(opened) == ["removed", "removed"]
    press(opened, "1")
    assert [removed for _, removed in entries(opened)] == [False, True]
    press(opened, Keys.SPACE)  # the box that was switched has the focus
    assert [removed for _, removed in entries(opened)] == [True, True]
    press(opened, "d")
    assert not opened.find_element(By.CSS_SELECTOR, ".detections").is_displayed()
    go_to(opened, "one")
    press(opened, "x")
    go_to(opened, "three")
    press(opened, "a")


def test_what_was_found_is_corrected_and_cleaned_as_it_was_left(
    opened: webdriver.Chrome, found: Path, downloads: Path, tmp_path: Path
) -> None:
    correct(opened)
    open_page(opened, found / "out" / "report" / "index.html")
    assert text(opened, "#decisions") == "1 accepted, 1 rejected, 1 edited", "kept"
    go_to(opened, "one")
    assert text(opened, "#found h3") == "Rejected: none of 1 found is removed"
    assert opened.title == "out: before and after", "no script in a label has run"
    names = ("export-found", "export-redo", "export-all")
    assert [opened.find_element(By.ID, each).is_displayed() for each in names] == [1, 0, 0]

    opened.find_element(By.ID, "export-found").click()
    rows = {row.pop("id"): row for row in downloaded(downloads / "corrected.jsonl")}
    until(opened, lambda: "6 photos in corrected.jsonl" in text(opened, "#notice"))
    assert {row["sku"] for row in rows.values()} == {*(f"00{name}" for name in PLACES), "7", "8"}
    masks = {name: row["mask"] for name, row in rows.items()}
    assert (masks["none"], masks["one"], masks["two"], masks["missing"]) == ([], [], [], None)
    assert masks["three"][0].endswith("/three.png")
    assert [name for name, row in rows.items() if "rle" in row] == ["two"]

    assert_cleaned(downloads / "corrected.jsonl", found, tmp_path / "out")


def assert_cleaned(manifest: Path, found: Path, output: Path) -> None:
    plain = Recipe.load("telea")
    clean_here(manifest, output, plain)
    results = {row["id"]: row for row in pq.read_table(output / "lineage").to_pylist()}
    codes = {name: row["error_code"] for name, row in results.items() if row["error_code"]}
    assert codes == {"missing": "mask.no_uri"}
    assert results["none"]["fidelity"] == results["one"]["fidelity"] == "identical"
    assert len(results["two"]["patches"]) == 2
    direct = next((found / "cleaned" / "images").rglob("three.png"))
    assert Path(results["three"]["output_uri"]).read_bytes() == direct.read_bytes()
    changed = np.asarray(Image.open(results["two"]["output_uri"]).convert("RGB")) != np.asarray(
        Image.open(found / "two.png")
    )
    assert changed[50:90, 420:500].any(axis=2).mean() > 0.9
    assert changed[260:290, 70:130].any(axis=2).mean() > 0.9


def test_a_page_of_cleaned_photos_shows_what_was_detected(
    browser: webdriver.Chrome, found: Path
) -> None:
    page = write_page(found / "cleaned")
    open_page(browser, page)
    go_to(browser, "two")
    assert sorted(str(each) for each in outlines(browser)) == ["kept", "removed"]
    assert browser.find_elements(By.CSS_SELECTOR, "img.after")
    names = ("export-found", "export-redo", "export-all")
    assert all(browser.find_element(By.ID, each).is_displayed() for each in names)
