"""One orientation for photo, mask and result; what a browser shows is tested in ``tests/page``."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from stages.cleaner import Cleaner
from stages.codecs.decode import decode_mask, decode_photo
from stages.recipe import Recipe
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


def test_an_anchored_mask_lies_in_the_frame_that_is_displayed() -> None:
    logo = np.zeros((30, 20, 4), np.uint8)
    logo[:20, :, 3] = 180  # half transparent, and by its own orientation at the right
    turned = Image.Exif()
    turned[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(logo).save(file, "PNG", exif=turned)
    photo = io.BytesIO()
    Image.fromarray(np.full((80, 120, 3), 99, np.uint8)).save(photo, "JPEG", exif=turned)
    options = {"mask.channel": "alpha", "mask.anchor": "top-left", "mask.anchor_width": 0.75}
    recipe = Recipe.load("telea", options | {"mask.dilate_px": 0})
    record = Cleaner(recipe).clean(photo.getvalue(), [file.getvalue()]).record
    assert (record.width, record.height) == (80, 120)
    (patch,) = record.patches
    assert patch.region == {"x": 20, "y": 0, "width": 40, "height": 40}
