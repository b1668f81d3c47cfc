"""Nothing outside the mask changes: on the demo's JPEGs, and as a condition of being stored."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import jpeglib
import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
from PIL import Image

from jobs.cli.options import DEFAULT_RECIPE
from manifests.schema import LineageRow
from stages.arrays import BoolMask
from stages.codecs.jpeg import libjpeg
from stages.photo import Photo
from stages.pipeline import Pipeline
from stages.pixels.masks import distance_outside
from stages.recipe import Recipe
from tests.support import DEMO, encoded, upright_rgb

EXACT = "output.fidelity=exact"
JPEGS = sorted((DEMO / "photos").glob("*.jpg"))


def cleaned(image: Path, mask: Path, output: Path, recipe: Recipe) -> LineageRow:
    row = LineageRow(id="1", image_uri=str(image), mask_uri=str(mask), recipe_hash=recipe.hash)
    photo = Photo(row)
    Pipeline.of(recipe, str(output)).run(photo)
    return photo.lineage


def stored_frame(changed: BoolMask, image: Path) -> BoolMask:
    """Displayed to stored, for the two orientations that the demo has."""
    with Image.open(image) as picture:
        orientation = picture.getexif().get(0x0112, 1)
    assert orientation in (1, 6)
    return np.rot90(changed) if orientation == 6 else changed


def ycc_samples(image: Path) -> npt.NDArray[np.uint8]:
    """As Pillow's libjpeg decodes them, without a conversion of colours."""
    with Image.open(image) as picture:
        picture.draft("YCbCr", picture.size)
        assert picture.mode == "YCbCr"
        return np.asarray(picture)


def marked_segments(jpeg: bytes) -> list[bytes]:
    """Tables, frame, restart interval and application data up to the first scan."""
    found, at = [], 2
    while jpeg[at + 1] != 0xDA:
        length = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] != 0xC4:  # codes may be made anew for the new blocks
            found.append(jpeg[at : at + length])
        at += length
    return sorted(found)


@pytest.mark.parametrize("image", JPEGS, ids=lambda path: path.stem)
def test_the_demo_keeps_each_jpeg_outside_its_mask(image: Path, tmp_path: Path) -> None:
    """As other decoders see it, by coefficients and by samples."""
    recipe = Recipe.load(DEFAULT_RECIPE, [EXACT])
    mask = DEMO / "masks" / f"{image.stem}.png"
    row = cleaned(image, mask, tmp_path, recipe)
    assert (row.status, row.fidelity, row.fidelity_note) == ("ok", "coefficients", None), row.error
    result = Path(str(row.output_uri))
    assert marked_segments(result.read_bytes()) == marked_segments(image.read_bytes())
    reach = recipe.mask.dilate_px + recipe.mask.feather_px
    drawn = np.asarray(Image.open(mask).convert("L")) >= recipe.mask.threshold
    stored = stored_frame(distance_outside(drawn) <= reach, image)
    old, new = (jpeglib.read_dct(str(path)) for path in (image, result))
    assert old.progressive_mode == new.progressive_mode
    assert np.array_equal(old.qt, new.qt)
    assert np.array_equal(old.samp_factor, new.samp_factor)
    for plane in ("Y", "Cb", "Cr"):
        before, after = getattr(old, plane), getattr(new, plane)
        side = 8 * -(-old.Y.shape[0] // before.shape[0])
        ys, xs = np.nonzero(stored)
        touched = np.zeros(before.shape[:2], np.bool_)
        touched[ys // side, xs // (8 * -(-old.Y.shape[1] // before.shape[1]))] = True
        assert np.array_equal(before[~touched], after[~touched])
    far = distance_outside(stored) > 32  # two MCUs: what a decoder smooths ends within one
    was, now = ycc_samples(image), ycc_samples(result)
    assert np.array_equal(was[far], now[far])
    assert not np.array_equal(was, now)


def coffee(mode: str = "RGB") -> Image.Image:
    pixels = upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg")[:150, :220]
    return Image.fromarray(pixels).convert(mode)


def heic() -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(coffee()).save(buffer, quality=80)
    return buffer.getvalue()


def comment_between_scans() -> bytes:
    jpeg = encoded(coffee(), format="JPEG", progressive=True)
    at = jpeg.rindex(b"\xff\xda")
    return jpeg[:at] + b"\xff\xfe\0\4hi" + jpeg[at:]


def in_16_bits() -> bytes:
    return encoded(np.asarray(coffee("L")).astype(np.uint16) * 257)


#: Name -> the file, options, and what the error must say.
REFUSED: dict[str, tuple[Callable[[], bytes], list[str], str]] = {
    "lossy-webp": (lambda: encoded(coffee(), format="WEBP", quality=80), [], "lossy WebP"),
    "avif": (lambda: encoded(coffee(), format="AVIF", quality=80), [], "AVIF"),
    "heic": (heic, [], "HEIC"),
    "jpeg-of-a-refused-kind": (comment_between_scans, [], "between its scans"),
    "png-to-jpeg": (lambda: encoded(coffee()), ["output.format=jpeg"], "from png to jpeg"),
    "png-to-webp": (lambda: encoded(coffee()), ["output.format=webp"], "from png to webp"),
    "png-to-avif": (lambda: encoded(coffee()), ["output.format=avif"], "from png to avif"),
    "16-bits-to-webp": (in_16_bits, ["output.format=webp"], "16 bits"),
    "cmyk-to-png": (
        lambda: encoded(coffee("CMYK"), format="JPEG"),
        ["output.format=png"],
        "CMYK turned into sRGB",
    ),
}

KEPT: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "png": (lambda: encoded(coffee()), []),
    "png-of-16-bits-to-tiff": (in_16_bits, ["output.format=tiff"]),
    "tiff": (lambda: encoded(coffee(), format="TIFF"), []),
    "lossless-webp": (lambda: encoded(coffee(), format="WEBP", lossless=True), []),
    "lossy-webp-to-png": (
        lambda: encoded(coffee(), format="WEBP", quality=80),
        ["output.format=png"],
    ),
    "jpeg": (lambda: encoded(coffee(), format="JPEG"), []),
    "jpeg-to-png": (lambda: encoded(coffee(), format="JPEG"), ["output.format=png"]),
}


def files(folder: Path, image: bytes) -> tuple[Path, Path]:
    paths = folder / "photo", folder / "mask.png"
    paths[0].write_bytes(image)
    mask = np.zeros((150, 220), np.uint8)
    mask[60:90, 100:140] = 255
    paths[1].write_bytes(encoded(mask))
    return paths


def assert_refused(row: LineageRow, output: Path, reason: str) -> None:
    assert (row.status, row.error_code) == ("failed", "output.not_exact"), row.error
    assert row.error is not None
    assert row.image_uri in row.error
    assert reason in row.error
    assert "\n" not in row.error
    assert row.output_uri is None
    assert not [path for path in output.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_only_be_coded_again_is_refused_and_not_stored(
    name: str, tmp_path: Path
) -> None:
    make, options, reason = REFUSED[name]
    image, mask = files(tmp_path, make())
    output = tmp_path / "out"
    row = cleaned(image, mask, output, Recipe.load("telea", [EXACT, *options]))
    assert_refused(row, output, reason)
    row = cleaned(image, mask, output, Recipe.load("telea", options))
    assert (row.status, row.fidelity) == ("ok", "reencoded"), "which is the default"


def test_a_jpeg_is_refused_where_there_is_no_libjpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libjpeg, "library", lambda: None)
    image, mask = files(tmp_path, encoded(coffee(), format="JPEG"))
    row = cleaned(image, mask, tmp_path / "out", Recipe.load("telea", [EXACT]))
    assert_refused(row, tmp_path / "out", "no libjpeg")


@pytest.mark.parametrize("name", KEPT)
def test_what_keeps_all_outside_the_mask_is_stored(name: str, tmp_path: Path) -> None:
    make, options = KEPT[name]
    image, mask = files(tmp_path, make())
    row = cleaned(image, mask, tmp_path / "out", Recipe.load("telea", [EXACT, *options]))
    assert row.status == "ok", row.error
    assert row.fidelity in ("coefficients", "lossless")


def test_a_run_that_asks_for_exactness_is_another_recipe() -> None:
    """Else what an earlier run re-encoded would count as done in it."""
    plain = Recipe.load("telea")
    assert Recipe.load("telea", [EXACT]).hash != plain.hash
    assert Recipe.load("telea", ["output.fidelity=any"]).hash == plain.hash
