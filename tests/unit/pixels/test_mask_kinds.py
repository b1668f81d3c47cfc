"""Masks as programs export them: each marks what was drawn, or is refused with its reason."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image, ImageOps
from pycocotools import mask as coco

from manifests.errors import RowError
from stages.arrays import BoolMask, UInt8Array
from stages.codecs.decode import decode_mask
from stages.pixels.masks import marked_pixels
from stages.recipe.options import MaskOptions
from tests.hostile.formats import chunk, png
from tests.support import DEMO, encoded

SIDE = 96
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE]
DISC: BoolMask = np.hypot(ROWS - 30, COLUMNS - 34) < 17
BAR: BoolMask = (ROWS >= 64) & (ROWS < 78) & (COLUMNS >= 20) & (COLUMNS < 88)
THIN: BoolMask = (ROWS == 58) & (COLUMNS > 70) & (COLUMNS < 90)
DRAWN: BoolMask = DISC | BAR
NOTHING: BoolMask = np.zeros((SIDE, SIDE), np.bool_)

#: What a mask may come to: marked pixels, or the code of its error.
Outcome = BoolMask | str


def outcome(data: bytes, **options: Any) -> Outcome:
    chosen = MaskOptions(**options)
    try:
        return marked_pixels(decode_mask(data, 10, "m", chosen), chosen, "m")
    except RowError as error:
        return error.code


def same(found: Outcome, expected: Outcome) -> bool:
    if isinstance(found, str) or isinstance(expected, str):
        return isinstance(found, str) and isinstance(expected, str) and found == expected
    return np.array_equal(found, expected)


def labels(
    *regions: tuple[BoolMask, int], background: int = 0, dtype: Any = np.uint8
) -> npt.NDArray[Any]:
    """A label map: the value of each region, in the order given, over ``background``."""
    made = np.full((SIDE, SIDE), background, dtype)
    for region, value in regions:
        made[region] = value
    return made


def soft(area: BoolMask, strength: int = 255, blur_px: float = 1.2) -> UInt8Array:
    return np.asarray(cv2.GaussianBlur((area * strength).astype(np.uint8), (0, 0), blur_px))


AROUND: BoolMask = cv2.dilate(DISC.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~DISC

#: Single planes of 8 bits, and what they mark, light on black.
PLANES: dict[str, tuple[UInt8Array, Outcome]] = {
    "a bool times 1": (labels((DRAWN, 1)), DRAWN),
    "a label of 2": (labels((DRAWN, 2)), DRAWN),
    "a label of 5": (labels((DRAWN, 5)), DRAWN),
    "a grey of 76": (labels((DRAWN, 76)), DRAWN),
    "white": (labels((DRAWN, 255)), DRAWN),
    "white on grey": (labels((DRAWN, 235), background=16), DRAWN),
    "nothing": (labels(), NOTHING),
    "all labelled": (labels(background=1), "mask.too_faint"),
    "all dark grey": (labels(background=100), "mask.too_faint"),
    "all light grey": (labels(background=200), ~NOTHING),
    "two labels without a background": (labels((DRAWN, 2), background=1), "mask.too_faint"),
    "instances 1 and 2": (labels((DISC, 1), (BAR, 2)), "mask.too_faint"),
    "train ids with void": (labels((DISC, 7), (AROUND, 255), (BAR, 11)), "mask.ambiguous"),
    "a train id inside its void": (labels((DISC, 1), (AROUND, 255)), "mask.ambiguous"),
    "COCO stuff": (labels((DISC, 92), (BAR, 157)), "mask.ambiguous"),
    "labels that touch": (labels((BAR, 200), (BAR & (COLUMNS < 50), 40)), "mask.ambiguous"),
    "a thin label apart": (labels((DISC, 180), (THIN, 3)), "mask.ambiguous"),
    "a trimap": (labels((BAR, 127), (BAR & (COLUMNS < 60), 255)), "mask.ambiguous"),
    "a trimap that is over the middle": (labels((DISC | AROUND, 128), (DISC, 255)), DISC | AROUND),
    "a soft brush": (soft(DRAWN), soft(DRAWN) >= 128),
    "a softer brush": (soft(DRAWN, blur_px=6), soft(DRAWN, blur_px=6) >= 128),
    "a faint brush": (soft(DRAWN, 90), "mask.too_faint"),
    "a fainter brush": (soft(DRAWN, 9), "mask.too_faint"),
    "a strong and a faint brush": (np.maximum(soft(DISC), soft(BAR, 90)), "mask.ambiguous"),
}


def as_luminance(plane: UInt8Array) -> bytes:
    return encoded(plane)


def as_alpha(plane: UInt8Array) -> bytes:
    photo = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return encoded(np.dstack([photo, plane]))


@pytest.mark.parametrize("polarity", ["light", "dark"])
@pytest.mark.parametrize("channel", ["luminance", "alpha"])
@pytest.mark.parametrize("name", PLANES)
def test_levels_mark_the_same_in_either_channel_and_polarity(
    name: str, channel: str, polarity: str
) -> None:
    plane, expected = PLANES[name]
    drawn = 255 - plane if polarity == "dark" else plane
    data = as_alpha(drawn) if channel == "alpha" else as_luminance(drawn)
    assert same(outcome(data, channel=channel, polarity=polarity), expected)


@pytest.mark.parametrize("polarity", ["light", "dark"])
@pytest.mark.parametrize("channel", ["luminance", "alpha"])
@pytest.mark.parametrize(
    "name", [n for n, (_, end) in PLANES.items() if isinstance(end, str) and "ambiguous" in end]
)
def test_an_ambiguous_mask_is_read_as_the_recipe_says(
    name: str, channel: str, polarity: str
) -> None:
    plane, _ = PLANES[name]
    drawn = 255 - plane if polarity == "dark" else plane
    data = as_alpha(drawn) if channel == "alpha" else as_luminance(drawn)
    how = {"channel": channel, "polarity": polarity}
    assert same(outcome(data, values="labels", **how), plane > 0)
    assert same(outcome(data, threshold=1, **how), plane > 0)
    assert same(outcome(data, values="levels", **how), plane >= 128)


def voc_palette() -> list[int]:
    """PASCAL VOC's colours: each band takes every third bit of the label, the lowest as highest."""
    return [
        sum((label >> 3 * bit + band & 1) << 7 - bit for bit in range(3))
        for label in range(256)
        for band in range(3)
    ]


def palette(plane: UInt8Array, colours: list[int]) -> Image.Image:
    picture = Image.fromarray(plane, "P")
    picture.putpalette(colours)
    return picture


def coloured(*regions: tuple[BoolMask, tuple[int, ...]], background: tuple[int, ...]) -> UInt8Array:
    made = np.full((SIDE, SIDE, len(background)), background, np.uint8)
    for region, colour in regions:
        made[region] = colour
    return made


def by_opencv(array: npt.NDArray[Any], suffix: str = ".png", *how: int) -> bytes:
    return bytes(cv2.imencode(suffix, array, how)[1])


def by_tifffile(array: npt.NDArray[Any], **how: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **how)
    return buffer.getvalue()


def raw_png(samples: npt.NDArray[Any], depth: int, key: int | None = None) -> bytes:
    """A PNG of a depth and a transparent grey or colour that Pillow cannot write."""
    if depth == 16:
        rows = samples.astype(">u2").view(np.uint8).reshape(SIDE, -1)
    else:
        bits = np.unpackbits(samples[..., None], axis=2)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(SIDE, -1), axis=1)
    filtered = np.pad(rows, ((0, 0), (1, 0))).tobytes()
    kind, bands = (2, 3) if samples.ndim == 3 else (0, 1)
    before = [] if key is None else [chunk(b"tRNS", key.to_bytes(2, "big") * bands)]
    return png(SIDE, SIDE, zlib.compress(filtered), *before, depth=depth, kind=kind)


def from_coco() -> UInt8Array:
    """What ``annToMask`` gives: 0 and 1."""
    rle = coco.encode(np.asfortranarray(DRAWN.astype(np.uint8)))
    return np.asarray(coco.decode(rle))


BLACK, VIOLET, YELLOW = (0, 0, 0), (68, 1, 84), (253, 231, 37)
CLEAR = (0, 0, 0, 0)
SIXTEEN = labels((DRAWN, 3), dtype=np.uint16)
IDS = labels((DISC, 1), (BAR, 2), (THIN, 3), dtype=np.uint16)
FAX = {"compression": "group4"}
VOC = [*voc_palette()[:765], 224, 224, 192]

#: Lossless files in which DRAWN is what is marked.
FILES: dict[str, bytes] = {
    "OpenCV, bool": by_opencv(DRAWN.astype(np.uint8)),
    "OpenCV, 16 bits of 3": by_opencv(SIXTEEN),
    "OpenCV, 16 bits of an instance": by_opencv(labels((DRAWN, 26001), dtype=np.uint16)),
    "OpenCV, 16 bits of white": by_opencv(labels((DRAWN, 65535), dtype=np.uint16)),
    "OpenCV, 16 bits RGB": by_opencv(np.dstack([SIXTEEN] * 3)),
    "OpenCV, 16 bits RGBA": by_opencv(np.dstack([SIXTEEN] * 3 + [SIXTEEN * 0 + 65535])),
    "OpenCV, 16 bits TIFF": by_opencv(SIXTEEN, ".tiff"),
    "OpenCV, 16 bits RGB TIFF": by_opencv(np.dstack([SIXTEEN * 0, SIXTEEN, SIXTEEN]), ".tiff"),
    "OpenCV, BMP": by_opencv(DRAWN.astype(np.uint8), ".bmp"),
    "OpenCV, lossless WebP": by_opencv(
        np.dstack([labels((DRAWN, 2))] * 3), ".webp", cv2.IMWRITE_WEBP_QUALITY, 101
    ),
    "grey and alpha of 16 bits": bytes(
        imagecodecs.png_encode(np.dstack([SIXTEEN, SIXTEEN * 0 + 65535]))
    ),
    "Pillow, 1 bit": encoded(Image.fromarray(DRAWN)),
    "Pillow, 1 bit TIFF": encoded(Image.fromarray(DRAWN), format="TIFF", **FAX),
    "Photoshop, 1 bit": encoded(
        Image.fromarray(DRAWN), format="TIFF", tiffinfo={262: 0}, compression="packbits"
    ),
    "GIF": encoded(Image.fromarray(labels((DRAWN, 1))), format="GIF"),
    "animated GIF": encoded(
        palette(labels((DRAWN, 1)), [0, 0, 0, 9, 9, 9]),
        format="GIF",
        save_all=True,
        append_images=[palette(labels((BAR, 1)), [0, 0, 0, 9, 9, 9])],
    ),
    "animated lossless WebP": encoded(
        Image.fromarray(coloured((DRAWN, (0, 0, 9)), background=BLACK)),
        format="WEBP",
        lossless=True,
        save_all=True,
        append_images=[Image.fromarray(coloured((BAR, (0, 0, 9)), background=BLACK))],
    ),
    "pages of a TIFF": by_tifffile(np.stack([labels((DRAWN, 1)), labels((BAR, 1))])),
    "tifffile, bool": by_tifffile(DRAWN, photometric="minisblack"),
    "tifffile, deflate": by_tifffile(labels((DRAWN, 2)), compression="deflate", tile=(32, 32)),
    "tifffile, white is zero": by_tifffile(255 - labels((DRAWN, 2)), photometric="miniswhite"),
    "tifffile, 16 bits big-endian": by_tifffile(SIXTEEN, byteorder=">"),
    "pycocotools": encoded(from_coco()),
    "COCO panoptic": encoded(coloured((DRAWN, (7, 0, 0)), background=BLACK)),
    "labelme": encoded(palette(labels((DRAWN, 1)), VOC)),
    "VOC, person": encoded(palette(labels((DRAWN, 15)), VOC)),
    "VOC, potted plant in RGB": encoded(palette(labels((DRAWN, 16)), VOC).convert("RGB")),
    "a palette of (0, 0, 0) and (1, 1, 1)": encoded(
        palette(labels((DRAWN, 1)), [0, 0, 0, 1, 1, 1])
    ),
    "a palette of 2 bits": encoded(palette(labels((DRAWN, 1)), [0, 0, 0, 0, 0, 1]), bits=2),
    "a palette with a clear background": encoded(
        palette(labels((DRAWN, 1)), [255, 255, 255, 0, 0, 90]), transparency=0
    ),
    "blue": encoded(coloured((DRAWN, (0, 0, 255)), background=BLACK)),
    "navy": encoded(coloured((DRAWN, (0, 0, 128)), background=BLACK)),
    "the darkest blue": encoded(coloured((DRAWN, (0, 0, 1)), background=BLACK)),
    "red and blue of one luminance": encoded(
        coloured((DISC, (97, 0, 0)), (BAR, (0, 0, 255)), background=BLACK)
    ),
    "matplotlib": encoded(coloured((DRAWN, (*YELLOW, 255)), background=(*VIOLET, 255))),
    "an overlay": encoded(coloured((DRAWN, (30, 144, 255, 150)), background=CLEAR)),
    "a faint overlay": encoded(coloured((DRAWN, (0, 0, 90, 3)), background=CLEAR)),
    "grey and alpha": encoded(coloured((DRAWN, (255, 90)), background=(255, 0))),
    "white on clear white": encoded(coloured((DRAWN, (255,) * 4), background=(255, 255, 255, 0))),
    "2 bits of grey": raw_png(labels((DRAWN, 1)), 2),
    "a clear grey of 4 bits": raw_png(labels((DRAWN, 9), background=7), 4, key=7),
    "a clear colour of 16 bits": raw_png(
        np.dstack([labels((DRAWN, 900), background=700, dtype=np.uint16)] * 3), 16, key=700
    ),
    "a clear grey": encoded(labels((DRAWN, 9), background=7), transparency=7),
    "a clear grey of 16 bits": encoded(
        labels((DRAWN, 900), background=700, dtype=np.uint16), transparency=700
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_mask_of_two_colours_marks_what_is_not_background(name: str) -> None:
    assert same(outcome(FILES[name]), DRAWN)


@pytest.mark.parametrize("name", [name for name in FILES if "clear" in name or "overlay" in name])
def test_what_is_clear_in_it_does_not_mark_by_its_alpha_either(name: str) -> None:
    assert same(outcome(FILES[name], channel="alpha"), DRAWN)


#: Of the same, what has colours that a negative mirrors.
MIRRORED = ["Pillow, 1 bit", "pycocotools", "labelme", "COCO panoptic", "blue", "navy"]


@pytest.mark.parametrize("name", [*MIRRORED, "the darkest blue", "matplotlib"])
def test_a_negative_of_it_marks_the_same_with_the_other_polarity(name: str) -> None:
    negative = ImageOps.invert(Image.open(io.BytesIO(FILES[name])).convert("RGB"))
    assert same(outcome(encoded(negative), polarity="dark"), DRAWN)


def jpeg(array: UInt8Array, quality: int = 95) -> bytes:
    return encoded(array, format="JPEG", quality=quality)


VOC_CLASSES = labels((BAR, 1), (AROUND, 255), (DISC, 15))
TRANSPARENT = np.dstack([np.repeat(labels((DRAWN, 200))[..., None], 3, 2), labels()])

#: Files that the threshold would take for empty, or for less than they show.
REFUSED: dict[str, tuple[bytes, str]] = {
    "SAM, 16 bits": (by_opencv(IDS), "mask.too_faint"),
    "Cityscapes instances": (by_opencv(IDS * np.uint16(1001)), "mask.too_faint"),
    "distant instances": (
        by_opencv(labels((DISC, 1001), (BAR, 60_000), dtype=np.uint16)),
        "mask.ambiguous",
    ),
    "VOC": (encoded(palette(VOC_CLASSES, VOC)), "mask.ambiguous"),
    "VOC in RGB": (encoded(palette(VOC_CLASSES, VOC).convert("RGB")), "mask.ambiguous"),
    "VOC, raw": (encoded(VOC_CLASSES), "mask.ambiguous"),
    "VOC, dark classes": (encoded(palette(labels((DISC, 1), (BAR, 8)), VOC)), "mask.too_faint"),
    "VOC as JPEG": (jpeg(np.asarray(palette(VOC_CLASSES, VOC).convert("RGB"))), "mask.ambiguous"),
    "COCO stuff as JPEG": (jpeg(labels((DISC, 92), (BAR, 157))), "mask.ambiguous"),
    "a dark JPEG": (jpeg(labels((DRAWN, 5))), "mask.too_faint"),
    "a dark JPEG in TIFF": (
        encoded(labels((DRAWN, 5)), format="TIFF", compression="jpeg"),
        "mask.too_faint",
    ),
    "a dark lossy WebP": (encoded(labels((DRAWN, 9)), format="WEBP"), "mask.too_faint"),
    "a dark AVIF": (encoded(labels((DRAWN, 9)), format="AVIF"), "mask.too_faint"),
    "transparent everywhere": (encoded(TRANSPARENT), "mask.too_faint"),
    "black on clear": (
        encoded(coloured((DRAWN, (0, 0, 0, 255)), background=CLEAR)),
        "mask.too_faint",
    ),
    "a palette of one colour": (encoded(palette(labels((DRAWN, 1)), [0] * 6)), "mask.too_faint"),
    "a palette of clear colours": (
        encoded(palette(labels((DRAWN, 1)), [0, 0, 0, 9, 9, 9]), transparency=bytes(2)),
        "mask.too_faint",
    ),
    "dark grey of 16 bits": (by_opencv(SIXTEEN * 0 + 3), "mask.too_faint"),
    "logits": (by_tifffile(np.where(DRAWN, 4, -4).astype(np.float32)), "mask.unsupported"),
    "void of -1": (by_tifffile(labels((DRAWN, -1), dtype=np.int32)), "mask.unsupported"),
    "32 bits": (by_tifffile(labels((DRAWN, 70_000), dtype=np.int32)), "mask.unsupported"),
    "float": (by_tifffile(DRAWN.astype(np.float32)), "mask.unsupported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mask_that_would_be_taken_for_empty_or_for_half_is_refused(name: str) -> None:
    data, code = REFUSED[name]
    assert same(outcome(data), code)


@pytest.mark.parametrize("name", ["SAM, 16 bits", "Cityscapes instances", "VOC", "VOC in RGB"])
def test_all_labels_mark_if_the_recipe_says_so(name: str) -> None:
    expected = DRAWN | AROUND if "VOC" in name else DRAWN | THIN
    assert same(outcome(REFUSED[name][0], values="labels"), expected)


@pytest.mark.parametrize("photo", sorted((DEMO / "photos").iterdir()), ids=lambda path: path.stem)
@pytest.mark.parametrize("polarity", ["light", "dark"])
def test_a_photo_is_no_mask_unless_the_recipe_says_how_it_marks(photo: Path, polarity: str) -> None:
    data = photo.read_bytes()
    assert same(outcome(data, polarity=polarity), "mask.ambiguous")
    assert isinstance(outcome(data, polarity=polarity, values="levels"), np.ndarray)


def test_a_cut_out_marks_by_its_transparency_or_not_at_all() -> None:
    photo = Image.open(DEMO / "photos" / "coffee-stray-coins.jpg").resize((SIDE, SIDE))
    cut_out = encoded(np.dstack([np.asarray(photo), labels((DRAWN, 255))]))
    assert same(outcome(cut_out), "mask.ambiguous")
    assert same(outcome(cut_out, channel="alpha"), DRAWN)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_mask_of_soft_edges_thin_lines_or_one_colour_is_no_photo(name: str) -> None:
    lines, marked = labels(), labels((DISC, 200), (BAR, 150))
    for row in range(0, SIDE, 8):
        cv2.line(lines, (0, row), (SIDE, row + 5), 255, 1, cv2.LINE_AA)
    for plane in (soft(DRAWN, blur_px=0.06 * SIDE), lines, labels(background=180), marked):
        assert isinstance(outcome(encoded(plane, format=name, quality=60)), np.ndarray)


@pytest.mark.parametrize(
    ("mode", "light"), [("CMYK", (0, 0, 0, 0)), ("LAB", (255, 0, 0)), ("YCbCr", (255, 128, 128))]
)
def test_a_mask_in_another_colour_space_is_read(mode: str, light: tuple[int, ...]) -> None:
    found = outcome(encoded(Image.new(mode, (9, 9), light), format="TIFF"))
    assert isinstance(found, np.ndarray)
    assert found.all()


def test_a_soft_mask_of_any_size_is_no_photo() -> None:
    """Brushes, ramps, and masks of a badge that are all edge."""
    rows, columns = np.mgrid[:300, :300]
    away = np.hypot(rows - 150, columns - 150)
    planes = [
        columns * (255 / 299),
        255 * (1 - away / 212),
        np.where(away < 120, 150 + rows / 4, 0),
    ]
    planes += [cv2.GaussianBlur((away < 130) * 255.0, (0, 0), 40)]
    planes += [255 * np.clip(1.2 - away[140:160, 140:160] / 10, 0, 1)]
    for plane in planes:
        for name in ("PNG", "JPEG"):
            data = encoded(plane.astype(np.uint8), format=name, quality=75)
            assert isinstance(outcome(data), np.ndarray)


def test_strokes_and_labels_in_transparency_are_no_photo() -> None:
    brush = soft(DRAWN)
    assert same(outcome(encoded(np.dstack([brush] * 4))), brush * (brush / 255) >= 128)
    colours = ((0, 200, 90, 255), (255, 120, 130, 255), (130, 190, 255, 255))
    parts = (DISC & (COLUMNS < 34), DISC & (COLUMNS >= 34), BAR)
    overlay = coloured(*zip(parts, colours, strict=True), background=CLEAR)
    assert same(outcome(encoded(overlay)), DRAWN)


def test_a_lossy_file_has_no_labels() -> None:
    assert same(outcome(jpeg(labels((DRAWN, 255))), values="labels"), "mask.ambiguous")


@pytest.mark.parametrize("quality", [10, 20, 50, 75, 90, 100])
@pytest.mark.parametrize("polarity", ["light", "dark"])
def test_an_empty_mask_is_empty_in_every_format(quality: int, polarity: str) -> None:
    plane = labels(background=255 if polarity == "dark" else 0)
    lossy = [encoded(plane, format=name, quality=quality) for name in ("JPEG", "WEBP", "AVIF")]
    clear = [
        encoded(coloured(background=CLEAR)),
        encoded(coloured(background=(255, 255, 255, 0)), format="WEBP", lossless=True),
        encoded(coloured(background=(90, 0))),
    ]
    grey = [
        *(encoded(Image.fromarray(plane).convert(mode)) for mode in ("1", "L", "RGB", "P")),
        by_opencv(plane.astype(np.uint16) * 257),
    ]
    for data in (*lossy, *clear, *grey):
        assert same(outcome(data, polarity=polarity), NOTHING)


@pytest.mark.parametrize("quality", [10, 30, 60, 90])
@pytest.mark.parametrize("name", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("blur_px", [0.0, 1.0, 4.0])
def test_coding_noise_neither_marks_nor_refuses_a_mask(
    name: str, quality: int, blur_px: float
) -> None:
    """Nor does it in a lossless copy, whose format says that each level is exact."""
    drawn = soft(DRAWN, blur_px=blur_px) if blur_px else labels((DRAWN, 255))
    lossy = encoded(drawn, format=name, quality=quality)
    copy = encoded(Image.open(io.BytesIO(lossy)).convert("L"))
    edge = cv2.morphologyEx(DRAWN.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((9, 9), np.uint8))
    for data in (lossy, copy) if quality > 30 or name != "AVIF" else (lossy,):
        found = outcome(data)
        assert not isinstance(found, str), found
        assert not (found != DRAWN)[edge == 0].any()


def test_a_lossy_mask_is_empty_below_the_noise_of_its_codec() -> None:
    assert same(outcome(jpeg(labels((DRAWN, 2)))), NOTHING)


def test_soft_levels_are_empty_where_the_recipe_says_that_they_are_soft() -> None:
    assert same(outcome(encoded(soft(DRAWN, 30)), values="levels"), NOTHING)
    assert same(outcome(encoded(soft(DRAWN, 60)), values="levels"), "mask.too_faint")
