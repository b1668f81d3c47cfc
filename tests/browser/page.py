"""What is on the page, and hands for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from stages.recipe import Recipe
from tests.support import wait_until

#: A spreadsheet's formula, which a browser takes for text, and a script, which it must.
NOTE = '=HYPERLINK("https://example.org/","a & b")<script>document.title = "run"</script>'

#: The last one is stored on its side.
NAMES = ["bird-mobile-price-sticker", "fig-bowl-sticker-date", "lounge-bag-hang-tag"]

BAD = "<b>bad' \" %"

TELEA = Recipe.load("telea", ["output.keep_steps=true"])


@contextmanager
def chromium(downloads: Path) -> Iterator[webdriver.Chrome]:
    """A real browser, which logs what it asks for."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert program, "install chromium and chromedriver (Debian: chromium chromium-driver)"
    assert driver, "install chromedriver (Debian: chromium-driver)"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as browser:
        browser.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
        )
        browser.set_window_size(1280, 900)
        yield browser


def open_page(browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    browser.get(page.as_uri())
    until(
        browser, lambda: browser.find_elements(By.CSS_SELECTOR, "body.ready #photo-id:not(:empty)")
    )
    return browser


def until(browser: webdriver.Chrome, holds: Any) -> Any:
    """Wait until something is true; rows may come and go meanwhile."""
    waiting = WebDriverWait(browser, 60, 0.05, [StaleElementReferenceException])
    return waiting.until(lambda _: holds())


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def text(browser: webdriver.Chrome, selector: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, selector).text


def looks_at(browser: webdriver.Chrome, name: str) -> None:
    until(browser, lambda: text(browser, "#photo-id") == name)


def go_to(browser: webdriver.Chrome, name: str) -> None:
    """Click a row in sight."""

    def click() -> bool:
        rows = browser.find_elements(By.CSS_SELECTOR, "#rows .row-option")
        rows[listed(browser).index(name)].click()
        return True

    until(browser, click)
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


def finds(browser: webdriver.Chrome, *names: str) -> None:
    """Wait until just these are listed."""
    until(browser, lambda: listed(browser) == list(names))


def finds_by_seconds(browser: webdriver.Chrome, count: int, *, slowest_first: bool) -> None:
    """Wait until so many photos that did not fail are listed, in the order of what they took."""

    def holds() -> bool:
        told = [each for each in listed(browser, "facts") if each.endswith(" s")]
        seconds = [float(each.removesuffix(" s")) for each in told]
        return len(seconds) == count and seconds == sorted(seconds, reverse=slowest_first)

    until(browser, holds)


def downloaded(path: Path) -> list[dict[str, Any]]:
    wait_until(path.exists, 30)
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
