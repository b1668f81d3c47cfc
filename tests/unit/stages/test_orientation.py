"""One orientation for photo, mask and result; what a browser shows is tested in ``tests/page``."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from stages.codecs.decode import decode_mask, decode_photo
from tests.support.files.editing import edited, tiff
from tests.support.files.turned_files import PICTURE, files, quadrants, xmp

FILES = files()
SPOT = np.zeros(PICTURE.shape[:2], np.bool_)
SPOT[2:10, 2:12] = True


@pytest.mark.parametrize("wanted", ["jpeg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize(
    "name", ["jpeg/exif-6", "jpeg/xmp", "jpeg/exif-8-and-xmp", "png/exif-behind", "webp/exif"]
)
def test_a_converted_photo_is_displayed_as_its_source(name: str, wanted: str) -> None:
    before = decode_photo(FILES[name], 1, "x")
    _, made = edited(FILES[name], SPOT, f"output.format={wanted}")
    after = decode_photo(made.data, 1, "x")
    assert quadrants(after.pixels.astype(np.uint8)) == quadrants(before.pixels.astype(np.uint8))
    if not name.startswith(wanted):
        with Image.open(io.BytesIO(made.data)) as theirs:
            assert theirs.getexif().get(0x0112, 1) == 1, "upright for readers of any opinion"


def test_a_tiff_is_turned_by_its_own_tag_alone() -> None:
    packet = xmp(6)
    extra = [(700, 1, len(packet), packet, True)]
    for tags, orientation in ((extra, 1), ([*extra, (274, 3, 1, 8, True)], 8)):
        data = tiff(PICTURE, photometric="rgb", extratags=tags)
        decoded = decode_photo(data, 1, "x")
        assert decoded.orientation == orientation
        mask = decode_mask(data, 1, "x").values
        grey = np.asarray(Image.fromarray(decoded.pixels.astype(np.uint8)).convert("L"))
        assert np.array_equal(mask, grey)
