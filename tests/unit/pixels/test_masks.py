"""From a mask file to the hole that is filled."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from manifests.errors import RowError
from stages.arrays import BoolMask, UInt8Array
from stages.codecs.decode import decode_mask
from stages.codecs.mask_file import FORMATS
from stages.pixels.masks import Levels, fit_to_photo, hole_mask, marked_pixels
from stages.recipe.options import MaskOptions
from tests.support import encoded


def hole_of(mask: UInt8Array, options: MaskOptions) -> BoolMask:
    return hole_mask(marked_pixels(Levels(mask), options, "m.png"), options)


def ring() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    mask = np.zeros((100, 100), np.uint8)
    cv2.circle(mask, (50, 50), 30, (255,), 5)
    return mask


def of_two_colours(
    marked: tuple[int, int, int], other: tuple[int, int, int], mode: str = "P"
) -> Image.Image:
    picture = Image.fromarray((ring() == 0).astype(np.uint8), "P")
    picture.putpalette([*marked, *other])
    return picture.convert(mode)


def read_as(data: bytes, **options: Any) -> BoolMask:
    """What a mask file marks, without dilation."""
    chosen = MaskOptions(dilate_px=0, **options)
    return marked_pixels(decode_mask(data, 100, "m.png", chosen), chosen, "m.png")


def test_dilation_is_in_pixels_and_round() -> None:
    mask = np.zeros((41, 41), np.uint8)
    mask[20, 20] = 255
    grown = hole_of(mask, MaskOptions(dilate_px=5))
    ys, xs = np.nonzero(grown)
    assert np.hypot(ys - 20, xs - 20).max() == 5
    assert grown.sum() == pytest.approx(np.pi * 25, rel=0.1)


def test_dilation_at_the_border_stays_inside() -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[0, 0] = 255
    grown = hole_of(mask, MaskOptions(dilate_px=4))
    assert grown[4, 0]
    assert grown[0, 4]
    assert not grown[5:, 5:].any()


@pytest.mark.parametrize(("width", "height"), [(4000, 300), (300, 4000)])
def test_shares_are_of_the_longer_side_and_the_larger_length_applies(
    width: int, height: int
) -> None:
    options = MaskOptions(dilate_px=3, dilate_share=0.005, feather_px=60, feather_share=0.01)
    assert options.dilate_for(width, height) == 20
    assert options.feather_for(width, height) == 60
    marked = np.zeros((height, width), np.bool_)
    marked[150, 150] = True
    ys, xs = np.nonzero(hole_mask(marked, options))
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (130, 170, 130, 170)


def test_an_outline_is_filled_only_on_request() -> None:
    assert not hole_of(ring(), MaskOptions(dilate_px=0))[50, 50]
    assert hole_of(ring(), MaskOptions(dilate_px=0, fill_holes=True))[50, 50]


def test_dark_masks_remove_black() -> None:
    usual = hole_of(ring(), MaskOptions(dilate_px=0))
    dark = hole_of(255 - ring(), MaskOptions(dilate_px=0, polarity="dark"))
    assert np.array_equal(usual, dark)


def test_jpeg_ringing_below_the_threshold_is_not_removed() -> None:
    data = encoded(ring(), format="JPEG", quality=30)
    levels = decode_mask(data, 100, "m.jpg").values
    assert levels[levels < 128].any(), "the file must have ringing for this to test anything"
    marked = read_as(data)
    far = cv2.distanceTransform(np.asarray(ring() == 0, np.uint8), cv2.DIST_L2, 5) > 3
    assert not marked[far].any()


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(ring()),
        Image.fromarray(ring()).convert("1"),
        Image.fromarray(ring()).convert("RGB"),
        Image.fromarray(ring()).convert("P"),
        Image.fromarray(ring() // 255),
        Image.fromarray((ring() > 0).astype(np.uint16) * 65535),
        Image.merge("RGBA", [Image.new("L", (100, 100), 255)] * 3 + [Image.fromarray(ring())]),
        Image.merge("LA", [Image.new("L", (100, 100), 255), Image.fromarray(ring())]),
        of_two_colours((200, 255, 120), (40, 0, 60)),
        of_two_colours((255, 255, 255), (0, 0, 0), mode="RGB"),
    ],
    ids=["L", "1", "RGB", "P", "0 and 1", "16 bit", "RGBA", "LA", "palette", "two colours"],
)
def test_every_kind_of_mask_file_means_the_same(picture: Image.Image) -> None:
    assert np.array_equal(read_as(encoded(picture)), ring() >= 128)


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "GIF"])
def test_a_mask_of_one_bit_means_the_same_in_every_format(name: str) -> None:
    picture = Image.fromarray(ring()).convert("1")
    assert np.array_equal(read_as(encoded(picture, format=name)), ring() >= 128)


@pytest.mark.parametrize("name", ["TIFF", "GIF", "WEBP", "PNG"])
def test_of_several_pictures_in_a_file_the_first_counts(name: str) -> None:
    other = Image.fromarray(ring().T[::-1] // 2 + 127)
    lossless = {"lossless": True} if name == "WEBP" else {}
    data = encoded(
        Image.fromarray(ring()), format=name, save_all=True, append_images=[other], **lossless
    )
    with Image.open(io.BytesIO(data)) as picture:
        assert getattr(picture, "n_frames", 1) == 2
    assert np.array_equal(read_as(data), ring() >= 128)


@pytest.mark.parametrize("blur_px", [1, 3, 9])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_soft_mask_marks_up_to_the_middle_of_its_edge(blur_px: int, bits: int) -> None:
    disc = np.zeros((200, 200), np.uint8)
    cv2.circle(disc, (100, 100), 60, (255,), -1)
    soft = cv2.GaussianBlur(disc, (0, 0), blur_px)
    scaled = np.asarray(soft, np.uint16) * 257 if bits == 16 else soft
    marked = read_as(encoded(Image.fromarray(np.asarray(scaled))))
    ys, xs = np.mgrid[0:200, 0:200]
    distance = np.hypot(ys - 100, xs - 100)
    assert marked[distance < 58].all()
    assert not marked[distance > 62].any()
    assert read_as(encoded(Image.fromarray(soft)), threshold=40).sum() > marked.sum()


@pytest.mark.parametrize("quality", [20, 50, 90])
@pytest.mark.parametrize("polarity", ["light", "dark"])
def test_a_jpeg_mask_marks_what_was_drawn(quality: int, polarity: str) -> None:
    mask = ring() if polarity == "light" else 255 - ring()
    marked = read_as(encoded(mask, format="JPEG", quality=quality), polarity=polarity)
    wrong = marked != (ring() >= 128)
    edge = cv2.morphologyEx(ring(), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    assert not wrong[~edge].any()
    assert wrong.sum() < 0.1 * marked.sum()


ALPHA = Image.fromarray(ring())
GREY = Image.fromarray(np.random.default_rng(1).integers(0, 256, (100, 100), dtype=np.uint8))
KEYED = Image.fromarray(np.where(ring() > 0, 200, 7).astype(np.uint8))


@pytest.mark.parametrize(
    ("picture", "how"),
    [
        (Image.merge("RGBA", [GREY, GREY, GREY, ALPHA]), {}),
        (Image.merge("RGBA", [GREY, GREY, GREY, ALPHA]), {"format": "TIFF"}),
        (Image.merge("RGBA", [GREY] * 3 + [ALPHA]), {"format": "WEBP", "lossless": True}),
        (Image.merge("LA", [GREY, ALPHA]), {}),
        (KEYED, {"transparency": 7}),
        (KEYED.convert("RGB"), {"transparency": (7, 7, 7)}),
        (KEYED.convert("P"), {"transparency": 7}),
        (KEYED.convert("P"), {"transparency": bytes([255] * 7 + [9] + [255] * 248)}),
        (KEYED.convert("P"), {"transparency": 7, "format": "GIF"}),
        (KEYED.point(lambda v: 255 * (v > 99)).convert("1"), {"transparency": 0}),
        (Image.fromarray(np.asarray(KEYED, np.uint16) * 256), {"transparency": 7 * 256}),
    ],
    ids=["RGBA", "TIFF", "WebP", "LA", "L", "RGB", "P", "P, soft", "GIF", "1", "16 bit"],
)
def test_alpha_is_read_from_every_mode_that_has_it(
    picture: Image.Image, how: dict[str, Any]
) -> None:
    data = encoded(picture, **how)
    assert np.array_equal(read_as(data, channel="alpha"), ring() > 0)
    assert np.array_equal(read_as(data, channel="alpha", polarity="dark"), ring() == 0)


def test_an_alpha_channel_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    half = Image.new("RGBA", (40, 20), (9, 9, 9, 0))
    half.paste((9, 9, 9, 255), (0, 0, 20, 20))
    marked = read_as(encoded(half, exif=exif), channel="alpha")
    assert marked.shape == (40, 20)
    assert marked[:20].all()
    assert not marked[20:].any()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "I;16"])
def test_a_mask_without_alpha_is_told(mode: str) -> None:
    picture = Image.fromarray(ring().astype(np.uint16)) if mode == "I;16" else ALPHA.convert(mode)
    with pytest.raises(RowError, match=r"The mask m\.png has no alpha channel") as caught:
        read_as(encoded(picture), channel="alpha")
    assert caught.value.code == "mask.no_alpha"


def test_dark_strokes_on_nothing_are_read_over_white() -> None:
    black = Image.new("L", (100, 100))
    strokes = encoded(Image.merge("RGBA", [black, black, black, ALPHA]))
    assert np.array_equal(read_as(strokes, polarity="dark"), ring() >= 128)
    with pytest.raises(RowError, match="black all over; only its transparency varies"):
        read_as(strokes)


def test_another_size_is_refused_unless_allowed_and_of_the_same_aspect() -> None:
    half = np.asarray(Image.fromarray(ring()).resize((50, 50))) >= 128
    with pytest.raises(RowError, match=r"m\.png is 50x50, the photo 100x100") as caught:
        fit_to_photo(half, 100, 100, MaskOptions(), "m.png")
    assert caught.value.code == "mask.size_mismatch"
    scaled = fit_to_photo(half, 100, 100, MaskOptions(scale_to_photo=True), "m.png")
    overlap = scaled & (ring() >= 128)
    assert overlap.sum() > 0.8 * (ring() >= 128).sum()
    with pytest.raises(RowError):
        fit_to_photo(half, 150, 100, MaskOptions(scale_to_photo=True), "m.png")


@pytest.mark.parametrize("row", range(1996, 2004))
def test_a_thin_line_survives_shrinking(row: int) -> None:
    line = np.zeros((4000, 4000), np.bool_)
    line[row] = True
    small = fit_to_photo(line, 500, 500, MaskOptions(scale_to_photo=True), "m.png")
    assert small[row // 8].all()
    assert small.sum() == 500


@pytest.mark.parametrize(("width", "height"), [(300, 299), (299, 300), (301, 299), (299, 301)])
def test_a_thin_line_survives_when_one_side_shrinks(width: int, height: int) -> None:
    options = MaskOptions(scale_to_photo=True)
    for number in range(300):
        lines = np.zeros((2, 300, 300), np.bool_)
        lines[0, number] = lines[1, :, number] = True
        across, down = (fit_to_photo(each, width, height, options, "m.png") for each in lines)
        assert height > 300 or across.all(axis=1).any()
        assert width > 300 or down.all(axis=0).any()


def test_a_mask_drawn_in_transparency_on_black_is_refused_and_not_taken_for_empty() -> None:
    black = Image.new("L", (100, 100))
    hole = Image.merge("RGBA", [black, black, black, Image.fromarray(255 - ring())])
    with pytest.raises(RowError, match="only its transparency varies"):
        decode_mask(encoded(hole), 100, "m.png")


def test_a_format_that_pillow_would_hand_to_other_programs_is_refused() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    with pytest.raises(RowError, match="its format is EPS") as caught:
        decode_mask(postscript, 100, "m.eps")
    assert caught.value.code == "mask.unsupported"
    assert all(name in caught.value.remedy.upper() for name in set(FORMATS) - {"MPO"})
    assert "HEIC" not in caught.value.remedy


@pytest.mark.parametrize(
    ("anchor", "left", "top"),
    [
        *(("top-left", 0, 0), ("top", 30, 0), ("top-right", 60, 0)),
        *(("left", 0, 25), ("centre", 30, 25), ("right", 60, 25)),
        *(("bottom-left", 0, 50), ("bottom", 30, 50), ("bottom-right", 60, 50)),
    ],
)
def test_an_anchored_mask_lies_at_its_corner_edge_or_centre(
    anchor: Any, left: int, top: int
) -> None:
    mark = np.eye(10, 20, dtype=np.bool_)
    options = MaskOptions(anchor=anchor)
    placed = fit_to_photo(mark, 80, 60, options, "m.png")
    assert placed.shape == (60, 80)
    assert np.array_equal(placed[top : top + 10, left : left + 20], mark)
    assert placed.sum() == mark.sum(), "and nowhere else"
    large = np.zeros((90, 120), np.bool_)
    large[30:60, 40:80] = True  # of a photo of another size: what lies outside is cut off
    cut = fit_to_photo(large, 80, 60, options, "m.png")
    x, y = (round((80 - 120) * left / 60), round((60 - 90) * top / 50))
    assert np.array_equal(cut, large[-y : 60 - y, -x : 80 - x])
    own = fit_to_photo(large, 120, 90, options, "m.png")
    assert own is large, "a mask of the photo's size lies where it is drawn"


def test_an_anchored_mask_can_follow_the_photos_width() -> None:
    mark = np.ones((10, 20), np.bool_)
    options = MaskOptions(anchor="bottom-right", anchor_width=0.25)
    for width, height in ((160, 100), (400, 90)):
        placed = fit_to_photo(mark, width, height, options, "m.png")
        expected = np.zeros((height, width), np.bool_)
        expected[-width // 8 :, -width // 4 :] = True
        assert np.array_equal(placed, expected)
    hair = np.zeros((1000, 2000), np.bool_)
    hair[500] = True
    assert fit_to_photo(hair, 160, 100, options, "m.png").sum() == 40, "thin lines survive"
    with pytest.raises(ValueError, match="anchor_width needs an anchor"):
        MaskOptions(anchor_width=0.5)


def test_an_anchored_mask_whose_marks_lie_outside_is_refused() -> None:
    mark = np.zeros((50, 50), np.bool_)
    mark[:5, :5] = True
    options = MaskOptions(anchor="bottom-right")
    with pytest.raises(RowError, match="lies outside the photo of 40x40") as caught:
        fit_to_photo(mark, 40, 40, options, "m.png")
    assert caught.value.code == "mask.size_mismatch"
    assert not fit_to_photo(np.zeros((50, 50), np.bool_), 40, 40, options, "m.png").any()
