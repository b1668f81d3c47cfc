"""From a mask file to the region that is painted anew."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from manifests.errors import RowError
from stages.codecs.decode import decode_mask
from stages.masks import Bits, Bytes, fit_to_photo, grown, marked
from stages.recipe import MaskOptions
from tests.support import encoded


def generation_mask(mask: Bytes, options: MaskOptions) -> Bits:
    return grown(marked(mask, options, "m.png"), options)


def ring() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    mask = np.zeros((100, 100), np.uint8)
    cv2.circle(mask, (50, 50), 30, (255,), 5)
    return mask


def test_dilation_is_in_pixels_and_round() -> None:
    mask = np.zeros((41, 41), np.uint8)
    mask[20, 20] = 255
    grown = generation_mask(mask, MaskOptions(dilate_px=5))
    ys, xs = np.nonzero(grown)
    assert np.hypot(ys - 20, xs - 20).max() == 5
    assert grown.sum() == pytest.approx(np.pi * 25, rel=0.1)


def test_dilation_at_the_border_stays_inside() -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[0, 0] = 255
    grown = generation_mask(mask, MaskOptions(dilate_px=4))
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
    region = np.zeros((height, width), np.bool_)
    region[150, 150] = True
    ys, xs = np.nonzero(grown(region, options))
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (130, 170, 130, 170)


def test_an_outline_is_filled_only_on_request() -> None:
    assert not generation_mask(ring(), MaskOptions(dilate_px=0))[50, 50]
    assert generation_mask(ring(), MaskOptions(dilate_px=0, fill_holes=True))[50, 50]


def test_dark_masks_remove_black() -> None:
    usual = generation_mask(ring(), MaskOptions(dilate_px=0))
    dark = generation_mask(255 - ring(), MaskOptions(dilate_px=0, polarity="dark"))
    assert np.array_equal(usual, dark)


def test_jpeg_ringing_below_the_threshold_is_not_removed() -> None:
    mask = decode_mask(encoded(ring(), format="JPEG", quality=30), 100, "m.jpg", MaskOptions())
    assert mask[mask < 128].any(), "the file must have ringing for this to test anything"
    region = generation_mask(mask, MaskOptions(dilate_px=0))
    far = cv2.distanceTransform(np.asarray(ring() == 0, np.uint8), cv2.DIST_L2, 5) > 3
    assert not region[far].any()


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
    ],
    ids=["L", "1", "RGB", "P", "L of 0 and 1", "16 bit", "white on transparent"],
)
def test_every_kind_of_mask_file_means_the_same(picture: Image.Image) -> None:
    mask = decode_mask(encoded(picture), 100, "m.png", MaskOptions())
    assert np.array_equal(mask >= 128, ring() >= 128)


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


def test_a_mask_that_is_too_faint_is_refused_and_noise_is_not() -> None:
    with pytest.raises(RowError, match="strongest sample is 76, the threshold 128") as caught:
        marked(np.where(ring() > 0, 76, 0).astype(np.uint8), MaskOptions(), "m.png")
    assert caught.value.code == "mask.too_faint"
    assert not marked(ring() // 32, MaskOptions(), "m.png").any()


def test_a_mask_drawn_in_transparency_on_black_is_refused_and_not_taken_for_empty() -> None:
    black = Image.new("L", (100, 100))
    hole = Image.merge("RGBA", [black, black, black, Image.fromarray(255 - ring())])
    with pytest.raises(RowError, match="only its transparency varies"):
        decode_mask(encoded(hole), 100, "m.png", MaskOptions())


def test_a_format_that_pillow_would_hand_to_other_programs_is_refused() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    with pytest.raises(RowError, match="its format is EPS") as caught:
        decode_mask(postscript, 100, "m.eps", MaskOptions())
    assert caught.value.code == "mask.unsupported"
