"""Photos before and after: the slider, the places, what stands beside."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from stages.arrays import UInt8Array
from stages.recipe import Recipe
from tests.browser.page import (
    BAD,
    NAMES,
    NOTE,
    cut,
    go_to,
    listed,
    open_page,
    press,
    slider,
    text,
    until,
)
from tests.support import DEMO, write
from tests.support.models import shadow_eraser
from tests.support.output_folders import clean_here, write_page


def test_it_shows_every_photo_and_why_one_failed(opened: webdriver.Chrome) -> None:
    assert sorted(listed(opened)) == sorted([*NAMES, BAD])
    assert opened.title == "out: before and after", "no script of the manifest's has run"
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


def test_what_was_removed_beyond_the_mask_has_an_outline_of_its_own(
    browser: webdriver.Chrome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def casts(pixels: UInt8Array, mask: UInt8Array) -> UInt8Array:
        is_high = mask.any(axis=1).sum() > mask.any(axis=0).sum()
        return np.full_like(mask, 255) if is_high else shadow_eraser.to_the_right(pixels, mask)

    shadow_eraser.use(monkeypatch, casts)
    photo = next((DEMO / "photos").glob("fig-bowl-sticker-date.*"))
    rows = ["id,image,boxes", f'shown,{photo},"[600, 400, 120, 80]"']
    rows.append(f'flagged,{photo},"[600, 400, 40, 100]"')
    manifest = write(tmp_path / "manifest.csv", "\n".join(rows))
    clean_here(manifest, tmp_path / "out", Recipe.load("telea", ["mask.effects=alpha"]))
    open_page(browser, write_page(tmp_path / "out"))
    go_to(browser, "shown")
    press(browser, "m")
    mask, effects_drawn = (
        browser.find_element(By.CSS_SELECTOR, f".outline .stroke{kind}")
        for kind in (":not(.effects)", ".effects")
    )
    assert effects_drawn.is_displayed()
    assert mask.value_of_css_property("stroke") != effects_drawn.value_of_css_property("stroke")
    left, across = browser.execute_script(
        "const b = arguments[0].getBBox(); return [b.x, b.width]", effects_drawn
    )
    assert 720 < left < left + across < 795, "half its width, at its right"
    (effects_px,) = re.findall(r"([\d,]+) px changed, outlined in blue", text(browser, "#facts"))
    assert 4000 < int(effects_px.replace(",", "")) < 6000
    go_to(browser, "flagged")
    assert "effects dropped" in text(browser, "#facts")
    assert "nothing changed" in text(browser, "#facts")
    assert not browser.find_elements(By.CSS_SELECTOR, ".outline .effects")


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


def test_two_recipes_stand_side_by_side(
    browser: webdriver.Chrome, output: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(output, tmp_path / "out")  # the others' page stays as it is
    pair = write_page(own, recipe="telea", compare="navier-stokes")
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
