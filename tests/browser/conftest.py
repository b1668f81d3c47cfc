"""The page of three photos and a failure, and the browser that shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver

from stages.recipe import Recipe
from stages.steps.snapshots import snapshot_uri
from tests.browser.page import BAD, NAMES, NOTE, TELEA, chromium, open_page
from tests.support import DEMO, encoded, write
from tests.support.output_folders import clean_here, write_page


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos, cleaned with two recipes, and a row that fails, with markup in its id."""
    folder = tmp_path_factory.mktemp("page")
    rows = [
        {
            "id": name,
            "image": str(next((DEMO / "photos").glob(f"{name}.*"))),
            "mask": str(DEMO / "masks" / f"{name}.png"),
            "note": NOTE,
            "kind": "bird" if name.startswith("bird") else "thing",
        }
        for name in NAMES
    ]
    rows.append(
        {"id": BAD, "image": "<i>no</i>.jpg", "mask": "no.png", "note": "", "kind": "thing"}
    )
    manifest = write(folder / "manifest.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    for recipe in (Recipe.load("navier-stokes"), TELEA):
        clean_here(manifest, folder / "out", recipe)
    kept = Path(snapshot_uri(str(folder / "out"), TELEA.label, NAMES[1], 0, "removal"))
    write(kept, encoded(np.zeros((90, 90, 3), np.uint8), format="WEBP"))  # as if for a refiner
    return folder / "out"


@pytest.fixture(scope="module")
def page(output: Path) -> Path:
    return write_page(output, recipe="telea")


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads: Path) -> Iterator[webdriver.Chrome]:
    with chromium(downloads) as browser:
        yield browser


@pytest.fixture
def opened(browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    """The page as somebody sees it for the first time."""
    browser.get(page.as_uri())
    browser.execute_script("localStorage.clear()")
    return open_page(browser, page)
