"""Photos and masks meet in the frame in which a real browser shows them."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt
import pytest
from selenium import webdriver

from stages.codecs.decode import decode_mask, decode_photo
from tests.support.files.turned_files import files, quadrants

FILES = files()

#: Draws a picture as the browser shows it; returns its width, height and RGBA samples.
DRAW = """
const [code, type, done] = arguments;
const image = new Image();
image.onerror = () => done(null);
image.onload = () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  done([canvas.width, canvas.height, btoa(String.fromCharCode(...data))]);
};
image.src = `data:${type};base64,${code}`;
"""


def shown(browser: webdriver.Chrome, data: bytes, kind: str) -> npt.NDArray[np.uint8]:
    """``(h, w, 4)`` of what the browser shows."""
    code = base64.b64encode(data).decode()
    width, height, samples = browser.execute_async_script(DRAW, code, f"image/{kind}")
    return np.frombuffer(base64.b64decode(samples), np.uint8).reshape(height, width, 4)


@pytest.mark.parametrize("name", FILES)
def test_a_photo_is_displayed_as_a_browser_shows_it(browser: webdriver.Chrome, name: str) -> None:
    browser.get("about:blank")
    theirs = shown(browser, FILES[name], name.partition("/")[0])
    photo = decode_photo(FILES[name], 1, name).pixels.astype(np.uint8)
    assert (photo.shape[:2], quadrants(photo)) == (theirs.shape[:2], quadrants(theirs))


@pytest.mark.parametrize("name", FILES)
def test_a_mask_has_the_frame_of_a_photo(browser: webdriver.Chrome, name: str) -> None:
    browser.get("about:blank")
    theirs = shown(browser, FILES[name], name.partition("/")[0]).astype(int)
    mask = decode_mask(FILES[name], 1, name).values.astype(int)
    luminance = theirs[..., :3] @ np.array([0.299, 0.587, 0.114])
    assert mask.shape == luminance.shape
    assert np.abs(mask - luminance).mean() < 8
