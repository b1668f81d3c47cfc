"""The before/after page in a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from jobs.page import write_page
from jobs.try_one import try_one
from manifests.ledger import Ledger
from manifests.marks import Marks
from manifests.schema import LineageRow, lineage_schema
from stages.photo import lineage_dict
from stages.recipe import Recipe
from tests.support import DEMO

#: A spreadsheet's formula, which a browser takes for text, and a script, which it must.
NOTE = '=HYPERLINK("https://example.org/","a & b")<script>document.title = "run"</script>'

NAMES = {"lounge-bag-hang-tag": "jpg", "bird-mobile-price-sticker": "png"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two photos (one stored on its side) and a failed row with markup in its error."""
    output = tmp_path_factory.mktemp("page")
    rows = [
        try_one(
            str(DEMO / "photos" / f"{name}.{suffix}"),
            Marks([str(DEMO / "masks" / f"{name}.png")]),
            str(output / "images" / f"{name}.{suffix}"),
            Recipe.load("telea"),
        )
        for name, suffix in NAMES.items()
    ]
    rows.append(
        LineageRow(id="<b>bad</b>", status="failed", error_code="image.corrupt", error="<i>no</i>")
    )
    extra = pa.schema([("note", pa.string())])
    written = [lineage_dict(row) | {"note": NOTE} for row in rows]
    Ledger(str(output), "x").add(0, written, lineage_schema(extra))
    return write_page(output, "two photos", note_column="note")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium, "install chromium and chromedriver (Debian: chromium chromium-driver)"
    assert driver, "install chromedriver (Debian: chromium-driver)"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as chrome:
        chrome.set_window_size(1200, 1000)
        yield chrome


@pytest.fixture
def opened(browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    browser.get(page.as_uri())
    return browser


def cut_of(slider: WebElement) -> str:
    script = "return getComputedStyle(arguments[0].closest('.pair')).getPropertyValue('--cut')"
    return str(slider.parent.execute_script(script, slider)).strip()


def test_it_shows_every_photo_and_every_failure(opened: webdriver.Chrome) -> None:
    titles = [each.text for each in opened.find_elements(By.CSS_SELECTOR, "figure h2")]
    assert sorted(titles) == sorted(NAMES)
    loaded = opened.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(loaded) == 4
    assert all(loaded), "all pictures load"
    failed = opened.find_element(By.CSS_SELECTOR, "tbody tr").text
    assert failed == "<b>bad</b> image.corrupt <i>no</i>", "shown as text, not as markup"


def test_what_the_manifest_says_is_text(opened: webdriver.Chrome) -> None:
    notes = [each.text for each in opened.find_elements(By.CSS_SELECTOR, "figcaption p")]
    assert notes.count(NOTE) == len(NAMES)
    assert opened.title == "Before and after: two photos", "no script of the manifest's has run"
    assert opened.find_elements(By.TAG_NAME, "a") == []


def test_a_photo_stored_on_its_side_stands_upright(opened: webdriver.Chrome) -> None:
    image = opened.find_element(By.CSS_SELECTOR, "img[alt='lounge-bag-hang-tag, cleaned']")
    assert image.size["height"] > image.size["width"]


def test_the_slider_works_by_keyboard_and_by_mouse(opened: webdriver.Chrome) -> None:
    slider = opened.find_element(By.CSS_SELECTOR, "input[type=range]")
    start = int(slider.get_attribute("value") or "")
    assert cut_of(slider) == f"{start}%"
    assert start == 62, "the slider starts at the sticker, to show half of it"
    opened.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert opened.switch_to.active_element == slider, "the first stop of the Tab key"
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert cut_of(slider) == f"{start + 2}%"
    ActionChains(opened).move_to_element_with_offset(slider, 100, 0).click().perform()
    assert float(cut_of(slider).rstrip("%")) > start + 5


def test_the_before_picture_is_cut_where_the_slider_says(opened: webdriver.Chrome) -> None:
    slider = opened.find_element(By.CSS_SELECTOR, "input[type=range]")
    slider.send_keys(Keys.HOME)
    before = opened.find_element(By.CSS_SELECTOR, "img.before")
    assert "inset(0px 100% 0px 0px)" in before.value_of_css_property("clip-path").replace(
        "calc(100% + 0%)", "100%"
    )


def test_it_loads_nothing_from_elsewhere_and_logs_no_error(opened: webdriver.Chrome) -> None:
    asked = [
        entry["message"]
        for entry in opened.get_log("performance")  # type: ignore[no-untyped-call]
        if "Network.requestWillBeSent" in entry["message"] and '"url":"http' in entry["message"]
    ]
    assert asked == []
    logged = opened.get_log("browser")  # type: ignore[no-untyped-call]
    assert [each for each in logged if each["level"] == "SEVERE"] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_in_light_and_dark(opened: webdriver.Chrome, scheme: str) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    colours = [
        opened.find_element(By.CSS_SELECTOR, selector).value_of_css_property(name)
        for selector, name in [
            ("figcaption p", "color"),
            ("figure", "background-color"),
        ]
    ]
    assert contrast(*colours) >= 4.5, "as WCAG asks of text"


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two CSS colours."""
    lights = sorted((luminance(first), luminance(second)), reverse=True)
    return (lights[0] + 0.05) / (lights[1] + 0.05)


def luminance(colour: str) -> float:
    numbers = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [n / 12.92 if n <= 0.04045 else ((n + 0.055) / 1.055) ** 2.4 for n in numbers]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
