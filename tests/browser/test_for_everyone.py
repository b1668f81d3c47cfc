"""The page is there for everyone: by keyboard, in light and dark, on a phone, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.page import NAMES, go_to, open_page, press, slider, until


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


MOTION_ENDED = """
  const done = arguments[0];
  Promise.all(document.getAnimations().map((each) => each.finished)).then(() => done());
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_in_light_and_dark(opened: webdriver.Chrome, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    press(opened, "axr", Keys.ARROW_UP, "m")
    opened.find_element(By.CSS_SELECTOR, "#filters summary").click()
    opened.execute_async_script(MOTION_ENDED)  # buttons change their colours in 0.12 s
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
        until(opened, lambda: slider(opened).size["width"] > 300)
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
