"""The review page in a real Chromium: by mouse, keyboard and touch, from disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from jobs.run import run
from stages.keep import kept_uri
from stages.recipe import Recipe
from tests.reviewing import chromium, clean_here, record, write_page
from tests.support import DEMO, encoded, write

#: A spreadsheet's formula, which a browser takes for text, and a script, which it must.
NOTE = '=HYPERLINK("https://example.org/","a & b")<script>document.title = "run"</script>'

#: The last one is stored on its side.
NAMES = ["bird-mobile-price-sticker", "fig-bowl-sticker-date", "lounge-bag-hang-tag"]

BAD = "<b>bad' \" %"

TELEA = Recipe.load("telea", ["output.keep_steps=true"])


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
    kept = Path(kept_uri(str(folder / "out"), TELEA, NAMES[1], 0, "removal"))
    write(kept, encoded(np.zeros((90, 90, 3), np.uint8), format="WEBP"))  # as if for a refiner
    return folder / "out"


@pytest.fixture(scope="module")
def page(output: Path) -> Path:
    return write_page(output, recipe="telea", title="four photos")


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


def open_page(browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    browser.get(page.as_uri())
    until(
        browser, lambda: browser.find_elements(By.CSS_SELECTOR, "body.ready #photo-id:not(:empty)")
    )
    return browser


def until(browser: webdriver.Chrome, holds: Any) -> Any:
    return WebDriverWait(browser, 60, 0.05).until(lambda _: holds())


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def text(browser: webdriver.Chrome, selector: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, selector).text


def looks_at(browser: webdriver.Chrome, name: str) -> None:
    until(browser, lambda: text(browser, "#photo-id") == name)


def go_to(browser: webdriver.Chrome, name: str) -> None:
    """Click a row in sight."""
    number = listed(browser).index(name)
    browser.find_elements(By.CSS_SELECTOR, "#rows .row-option")[number].click()
    looks_at(browser, name)


def cut(browser: webdriver.Chrome) -> float:
    pair = browser.find_element(By.CSS_SELECTOR, ".pair")
    script = "return getComputedStyle(arguments[0]).getPropertyValue('--cut')"
    return float(str(browser.execute_script(script, pair)).rstrip("%"))


def slider(browser: webdriver.Chrome) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, ".pair input[type=range]")


def listed(browser: webdriver.Chrome, part: str = "id") -> list[str]:
    """A part of each row in the document, at one moment: rows come and go."""
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
    found: list[str] = browser.execute_script(script, f"#rows .row-{part}")
    return found


def search(browser: webdriver.Chrome, field: str, value: str) -> None:
    """Fill in a criterion."""
    element = browser.find_element(By.NAME, field)
    browser.execute_script("document.querySelector('#filters details').open = true")
    if element.tag_name == "select":
        Select(element).select_by_value(value)
    else:
        element.clear()
        element.send_keys(value)


def finds_by_seconds(browser: webdriver.Chrome, count: int, *, slowest_first: bool) -> None:
    """Wait until so many photos that did not fail are listed, in the order of what they took."""

    def holds() -> bool:
        told = [each for each in listed(browser, "facts") if each.endswith(" s")]
        seconds = [float(each.removesuffix(" s")) for each in told]
        return len(seconds) == count and seconds == sorted(seconds, reverse=slowest_first)

    until(browser, holds)


def finds(browser: webdriver.Chrome, *names: str) -> None:
    """Wait until just these are listed."""
    until(browser, lambda: listed(browser) == list(names))


def test_it_shows_every_photo_and_why_one_failed(opened: webdriver.Chrome) -> None:
    assert sorted(listed(opened)) == sorted([*NAMES, BAD])
    assert opened.title == "four photos: before and after", "no script of the manifest's has run"
    for name in NAMES:
        go_to(opened, name)
        until(
            opened,
            lambda: opened.execute_script(
                "return [...document.images].every(i => i.complete && i.naturalWidth)"
            ),
        )
        assert NOTE in text(opened, "#facts")
    go_to(opened, BAD)
    assert "image.not_found" in text(opened, ".nothing")
    assert "<i>no</i>.jpg" in text(opened, ".nothing"), "shown as text, not as markup"
    assert opened.find_elements(By.CSS_SELECTOR, "i, b, a, #photo-id *") == []


def test_a_photo_stored_on_its_side_stands_upright(opened: webdriver.Chrome) -> None:
    go_to(opened, "lounge-bag-hang-tag")
    for name in ("before", "after"):
        image = opened.find_element(By.CSS_SELECTOR, f"img.{name}")
        until(opened, lambda image=image: image.get_property("naturalWidth"))
        assert int(str(image.get_property("naturalHeight"))) > int(
            str(image.get_property("naturalWidth"))
        )
        assert image.size["height"] > image.size["width"]


def test_the_slider_works_by_keyboard_and_by_mouse(opened: webdriver.Chrome) -> None:
    go_to(opened, "bird-mobile-price-sticker")
    start = cut(opened)
    assert start == 62, "it starts at the sticker, to show half of it"
    press(opened, Keys.ARROW_RIGHT)
    assert cut(opened) == start + 2, "arrows work wherever the focus is"
    handle = slider(opened)
    assert handle.get_attribute("aria-label") == (
        "How much of bird-mobile-price-sticker is shown as it was, in percent"
    )
    handle.send_keys(Keys.HOME)
    assert cut(opened) == 0
    handle.send_keys(Keys.ARROW_RIGHT)
    assert cut(opened) == 1
    before = opened.find_element(By.CSS_SELECTOR, "img.before")
    assert before.value_of_css_property("clip-path") == "inset(0px 99% 0px 0px)"
    quarter = handle.size["width"] // 4
    for offset, wanted in ((quarter, 75), (-quarter, 25)):
        drag = ActionChains(opened).move_to_element(handle).click_and_hold()
        drag.move_by_offset(offset // 2, 0).move_by_offset(offset - offset // 2, 10).perform()
        assert cut(opened) == pytest.approx(wanted, abs=1), "the line is under the pointer"
        ActionChains(opened).release().perform()


def test_the_slider_works_by_touch(opened: webdriver.Chrome) -> None:
    go_to(opened, "fig-bowl-sticker-date")
    box = slider(opened).rect
    y = box["y"] + box["height"] / 2

    def touch(kind: str, *shares: float) -> None:
        points = [{"x": box["x"] + box["width"] * share, "y": y} for share in shares]
        opened.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points}
        )

    opened.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        touch("Start", 0.5)
        for share in (0.55, 0.6, 0.7, 0.8):
            touch("Move", share)
        touch("End")
        assert cut(opened) == pytest.approx(80, abs=1.5)
    finally:
        opened.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_everything_can_be_reached_by_the_tab_key(opened: webdriver.Chrome) -> None:
    go_to(opened, NAMES[0])
    reached = set()
    for _ in range(40):
        press(opened, Keys.TAB)
        element = opened.switch_to.active_element
        if element.tag_name == "body":
            continue  # past the end: it begins anew
        outline = element.value_of_css_property("outline-width")
        if element.get_attribute("type") == "range":
            outline = opened.find_element(By.CLASS_NAME, "pair").value_of_css_property(
                "outline-width"
            )
        assert outline == "3px", "the focus is to be seen"
        reached.add(element.get_attribute("id") or element.get_attribute("name") or element.text)
        if element.get_attribute("type") == "range":
            reached.add("slider")
    wanted = {"open-summary", "open-keys", "next", "slider", "outline", "text", "sort", "list"}
    assert wanted <= reached
    assert {"Full resolution", "Accept\na"} <= {each.replace(" a", "\na") for each in reached}


def test_a_place_is_shown_at_full_resolution_with_its_outline(opened: webdriver.Chrome) -> None:
    go_to(opened, "fig-bowl-sticker-date")
    buttons = opened.find_elements(By.CSS_SELECTOR, "#places button")
    assert [each.text for each in buttons] == ["Whole photo", "Place 1", "Place 2"]
    press(opened, "zz")
    image = opened.find_element(By.CSS_SELECTOR, "img.after")
    assert str(image.get_attribute("src")).partition("?")[0].endswith("/1-after.webp")
    until(opened, lambda: image.get_property("naturalWidth"))
    assert image.size["width"] == image.get_property("naturalWidth"), "a pixel is a pixel"
    press(opened, "+")
    image = opened.find_element(By.CSS_SELECTOR, "img.after")
    until(opened, lambda: image.get_property("naturalWidth"))
    assert image.size["width"] == 2 * int(str(image.get_property("naturalWidth")))
    drawn = opened.find_element(By.CSS_SELECTOR, "svg.outline")
    assert not drawn.is_displayed()
    press(opened, "m")
    assert drawn.is_displayed()
    assert opened.find_element(By.ID, "outline").get_attribute("aria-pressed") == "true"
    part = opened.execute_script(
        "const b = arguments[0].querySelector('path').getBBox(); return [b.width, b.height]", drawn
    )
    assert min(part) > 50
    press(opened, "z")
    assert text(opened, "#places button[aria-pressed=true]") == "Whole photo"


def test_a_kept_step_stands_in_for_the_result(opened: webdriver.Chrome) -> None:
    go_to(opened, NAMES[1])
    assert not opened.find_element(By.ID, "layers").is_displayed()
    press(opened, "zs")
    assert text(opened, "#layers [aria-pressed=true]") == "after removal"
    image = opened.find_element(By.CSS_SELECTOR, "img.after")
    assert str(image.get_attribute("src")).partition("?")[0].endswith("/0-removal.webp")
    assert text(opened, ".tag.right") == "after removal"
    press(opened, "s")
    assert text(opened, ".tag.right") == "after"
    press(opened, "z")
    assert not opened.find_element(By.ID, "layers").is_displayed(), "of that place none was kept"


def test_photos_are_filtered_searched_and_sorted(opened: webdriver.Chrome) -> None:
    names = sorted([*NAMES, BAD])
    search(opened, "text", "STICKER")
    finds(opened, *NAMES[:2])
    search(opened, "text", "")
    search(opened, "status", "failed")
    finds(opened, BAD)
    assert text(opened, "#count") == "1 of 4 photos"
    looks_at(opened, BAD)
    search(opened, "status", "")
    search(opened, "code", "image.not_found")
    finds(opened, BAD)
    search(opened, "code", "")
    search(opened, "column1", "bird")
    finds(opened, NAMES[0])
    search(opened, "text", "nowhere")
    finds(opened)
    assert "No photo" in text(opened, ".nothing")
    opened.find_element(By.CSS_SELECTOR, "#filters [type=reset]").click()
    finds(opened, *names)
    search(opened, "sort", "-id")
    finds(opened, *reversed(names))
    search(opened, "sort", "-seconds")
    finds_by_seconds(opened, len(NAMES), slowest_first=True)
    search(opened, "sort", "seconds")
    finds_by_seconds(opened, len(NAMES), slowest_first=False)
    press(opened, Keys.ESCAPE)


def test_marks_are_made_by_key_kept_and_exported_for_a_run(
    opened: webdriver.Chrome, page: Path, downloads: Path, tmp_path: Path, ray_address: str
) -> None:
    names = sorted([*NAMES, BAD])
    looks_at(opened, names[0])
    for key, name in zip("xarr", names, strict=True):
        looks_at(opened, name)
        press(opened, key)
    assert text(opened, "#marked") == "1 accepted, 2 to redo, 1 rejected"
    press(opened, "r")
    assert text(opened, "#marked") == "1 accepted, 1 to redo, 1 rejected", "taken back"
    press(opened, "r")
    press(opened, Keys.ARROW_UP)
    looks_at(opened, names[-2])
    open_page(opened, page)
    assert text(opened, "#marked") == "1 accepted, 2 to redo, 1 rejected", "kept"
    search(opened, "mark", "r")
    finds(opened, *names[2:])
    opened.find_element(By.ID, "export-redo").click()
    redo = downloaded(downloads / "redo.jsonl")
    assert [row["id"] for row in redo] == names[2:]
    assert {row["review"] for row in redo} == {"redo"}
    assert {row["note"] for row in redo} == {NOTE}
    opened.find_element(By.ID, "export-all").click()
    marked = downloaded(downloads / "marks.jsonl")
    assert {row["id"]: row["review"] for row in marked} == dict(
        zip(names, ["reject", "accept", "redo", "redo"], strict=True)
    )
    recipe = Recipe.load("telea", ["seed=1"])
    outcome = run(
        str(downloads / "redo.jsonl"),
        str(tmp_path / "again"),
        recipe,
        Console(quiet=True),
        address=ray_address,
    )
    assert (outcome.exit_code, outcome.tally.ok) == (0, 2)
    again = write_page(tmp_path / "again")
    open_page(opened, again)
    search(opened, "column2", "redo")
    finds(opened, *names[2:])  # what was marked is a column now
    assert text(opened, "#marked") == "0 accepted, 0 to redo, 0 rejected", "other results"


def downloaded(path: Path) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} was not downloaded"
        time.sleep(0.05)
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_photos_with_pictures_come_first(browser: webdriver.Chrome, output: Path) -> None:
    open_page(browser, write_page(output, recipe="telea", sample=1, only=["ok"]))
    options = "[...document.querySelectorAll('#rows .row-option')]"
    icons = f"return {options}.map((row) => Boolean(row.querySelector('img')))"
    assert browser.execute_script(icons) == [True, False, False]
    press(browser, Keys.ARROW_DOWN)
    until(browser, lambda: "1 of 3 photos have some" in text(browser, ".nothing"))


def test_two_recipes_stand_side_by_side(browser: webdriver.Chrome, output: Path) -> None:
    pair = write_page(output, recipe="telea", compare="navier-stokes")
    open_page(browser, pair)
    go_to(browser, NAMES[1])
    panes = browser.find_elements(By.CSS_SELECTOR, ".pane")
    heads = [pane.find_element(By.CSS_SELECTOR, "figcaption").text for pane in panes]
    assert [head.partition("-")[0] for head in heads] == ["telea", "navier"]
    assert panes[0].rect["y"] == panes[1].rect["y"]
    first, second = browser.find_elements(By.CSS_SELECTOR, ".pair input")
    first.send_keys(Keys.END)
    assert second.get_attribute("value") == "100", "the lines move together"
    pictures = {
        str(each.get_attribute("src")) for each in browser.find_elements(By.TAG_NAME, "img")
    }
    assert len({each for each in pictures if each.partition("?")[0].endswith("/after.webp")}) == 2
    browser.find_element(By.ID, "open-summary").click()
    assert len(browser.find_elements(By.CSS_SELECTOR, "#summaries > section")) == 2
    press(browser, Keys.ESCAPE)


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

    record(manifest, folder / "out", TELEA, told)
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


def test_it_loads_nothing_from_elsewhere_and_logs_no_error(
    browser: webdriver.Chrome, page: Path
) -> None:
    for name in ("performance", "browser"):
        browser.get_log(name)  # type: ignore[no-untyped-call]
    open_page(browser, page)
    go_to(browser, NAMES[0])
    press(browser, "zm")
    asked = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in browser.get_log("performance")  # type: ignore[no-untyped-call]
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert any("/data/page.js" in url for url in asked), "requests are seen"
    assert [url for url in asked if not url.startswith((page.parent.as_uri(), "data:,"))] == []
    logged = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [each for each in logged if each["level"] in ("SEVERE", "WARNING")] == []


#: Each text in sight, its colour, and the one behind it.
TEXTS = """
const shown = (e) => e.checkVisibility() && !e.matches(":disabled") && !e.closest(".pair, select");
return [...document.querySelectorAll("body *")].filter(shown)
  .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .map((e) => {
    let behind = e;
    const style = () => getComputedStyle(behind).backgroundColor;
    while (style() === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    return [e.textContent, getComputedStyle(e).color, style()];
  });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_in_light_and_dark(opened: webdriver.Chrome, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    press(opened, "axr", Keys.ARROW_UP, "m")
    opened.find_element(By.CSS_SELECTOR, "#filters summary").click()
    time.sleep(0.3)  # buttons change their colours in 0.12 s
    texts = opened.execute_script(TEXTS)
    assert len(texts) > 60
    poor = [each for each in texts if contrast(*each[1:]) < 4.5]
    assert poor == [], "WCAG asks for 4.5 of text"


def test_on_a_phone_nothing_is_wider_than_the_screen(opened: webdriver.Chrome) -> None:
    phone = {"width": 360, "height": 780, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        go_to(opened, NAMES[2])
        widths = "return [document.documentElement.scrollWidth, innerWidth]"
        scrolled, inner = opened.execute_script(widths)
        assert scrolled <= inner == 360
        assert slider(opened).size["width"] > 300
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two CSS colours."""
    lights = sorted((luminance(first), luminance(second)), reverse=True)
    return (lights[0] + 0.05) / (lights[1] + 0.05)


def luminance(colour: str) -> float:
    numbers = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [n / 12.92 if n <= 0.04045 else ((n + 0.055) / 1.055) ** 2.4 for n in numbers]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
