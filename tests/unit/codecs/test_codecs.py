"""Files in and out: what is refused and why, and what stays as it was."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin, PngImagePlugin

from manifests.errors import RowError
from stages.arrays import Samples
from stages.codecs.decode import check_photo, decode_mask, decode_photo
from stages.codecs.encode import suffix_of
from stages.codecs.jpeg.markers import split_metadata
from stages.codecs.picture import Decoded
from stages.recipe import Recipe
from tests.support import DEMO, encoded
from tests.support.files.editing import written

Pixels = npt.NDArray[np.uint8]
PHOTOS = sorted((DEMO / "photos").iterdir())


def png(*chunks: bytes) -> bytes:
    """A PNG of raw chunks, name and content each."""
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def png_bomb() -> bytes:
    """Claims 3.6 gigapixels, and holds next to nothing."""
    return png(b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), b"IDAT")


def reencoded(source: bytes, pixels: Samples | None = None) -> bytes:
    """The file with all its pixels edited; to themselves, unless others are given."""
    decoded = decode_photo(source, 100, "x")
    edited = decoded.pixels if pixels is None else pixels
    everywhere = np.ones(edited.shape[:2], np.bool_)
    new = Decoded(edited, decoded.orientation, decoded.space)
    return written(source, new, everywhere, Recipe.load("telea")).data


def as_modes(coffee: Pixels) -> dict[str, Image.Image]:
    rgb = Image.fromarray(coffee)
    alpha = Image.linear_gradient("L").resize(rgb.size)
    with_alpha = rgb.copy()
    with_alpha.putalpha(alpha)
    grey_alpha = rgb.convert("L")
    grey_alpha.putalpha(alpha)
    return {
        "RGB": rgb,
        "L": rgb.convert("L"),
        "RGBA": with_alpha,
        "LA": grey_alpha,
        "1": rgb.convert("1"),
        "P": rgb.quantize(64),
        "P with alpha": with_alpha.quantize(64),
    }


BAD_IMAGES: dict[str, Callable[[bytes], bytes]] = {
    "zero_bytes": lambda _: b"",
    "not_an_image": lambda _: b"<html>404 Not Found</html>",
    "truncated": lambda good: good[: len(good) // 2],
    "too_large": lambda _: png_bomb(),
}


@pytest.mark.parametrize("code", BAD_IMAGES)
@pytest.mark.parametrize("role", ["image", "mask"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_bad_file_has_its_code_and_is_named(code: str, role: str, suffix: str) -> None:
    good = next(path for path in PHOTOS if path.suffix == f".{suffix}").read_bytes()
    data = BAD_IMAGES[code](good)
    decode = decode_photo if role == "image" else decode_mask
    with pytest.raises(RowError, match=f"The {role} shop/1.{suffix}") as caught:
        decode(data, 100, f"shop/1.{suffix}")
    assert caught.value.code == f"{role}.{code}"


def animated_webp() -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    return encoded(frames[0], format="WEBP", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (encoded(Image.new("RGB", (8, 8)), format="BMP"), "BMP"),
        (animated_webp(), "animated"),
    ],
    ids=["bmp", "animated"],
)
def test_what_cannot_be_kept_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(RowError, match=why) as caught:
        decode_photo(data, 100, "x")
    assert caught.value.code == "image.unsupported"


@settings(max_examples=5 * settings().max_examples)
@given(
    which=st.integers(0, len(PHOTOS) - 1),
    keep=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=8),
)
def test_damaged_files_end_in_a_row_error_or_a_picture(
    which: int, keep: float, flips: list[tuple[float, int]]
) -> None:
    data = bytearray(PHOTOS[which].read_bytes())
    for position, change in flips:
        data[int(position * len(data))] ^= change
    with contextlib.suppress(RowError):
        decoded = decode_photo(bytes(data[: int(keep * len(data))]), 100, "x")
        assert decoded.pixels.dtype == np.uint8


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "1", "P", "P with alpha"])
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_lossless_formats_keep_every_sample(coffee: Pixels, mode: str, suffix: str) -> None:
    picture = as_modes(coffee)[mode]
    if suffix == "webp":
        picture = picture.convert("RGBA" if "A" in mode or "alpha" in mode else "RGB")
        source = encoded(picture, format="WEBP", lossless=True, exact=True)
    else:
        source = encoded(picture)
    decoded = decode_photo(source, 100, "x")
    pixels = decoded.pixels.copy()
    pixels[10:20, 10:30, 0] ^= 0xFF
    again = decode_photo(reencoded(source, pixels), 100, "x")
    assert np.array_equal(again.pixels, pixels)
    shown = np.asarray(Image.open(io.BytesIO(source)).convert("RGBA"))
    expected = shown[..., : 3 if decoded.pixels.shape[2] >= 3 else 1]
    assert np.array_equal(decoded.pixels[..., : expected.shape[2]], expected)


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_format_size_and_metadata_stay(path: Path) -> None:
    source = path.read_bytes()
    decoded = decode_photo(source, 100, str(path))
    result = reencoded(source, decoded.pixels)
    with Image.open(io.BytesIO(source)) as before, Image.open(io.BytesIO(result)) as after:
        assert (after.format, after.size, after.mode) == (before.format, before.size, before.mode)
        for key in ("exif", "icc_profile", "dpi", "progressive"):
            assert after.info.get(key) == before.info.get(key)
        if isinstance(before, JpegImagePlugin.JpegImageFile):
            assert isinstance(after, JpegImagePlugin.JpegImageFile)
            assert after.quantization == before.quantization
            assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)
        difference = np.abs(
            np.asarray(before.convert("RGB"), int) - np.asarray(after.convert("RGB"), int)
        )
    assert difference.mean() < 1.5
    assert len(result) < 1.2 * len(source)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_stored_frame_and_the_tag_stay_for_each_orientation(
    coffee: Pixels, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = encoded(Image.fromarray(coffee), exif=exif)
    decoded = decode_photo(source, 100, "x")
    assert decoded.orientation == orientation
    assert (decoded.pixels.shape == coffee.shape) == (orientation < 5)
    result = reencoded(source, decoded.pixels)
    with Image.open(io.BytesIO(result)) as stored:
        assert np.array_equal(np.asarray(stored), coffee)
        assert stored.getexif()[0x0112] == orientation


def chunks_of(data: bytes) -> dict[bytes, bytes]:
    found, position = {}, 8
    while position < len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        found[data[position + 4 : position + 8]] = data[position:end]
        position = end
    return found


def test_png_metadata_stays_to_the_byte(coffee: Pixels) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Article", "4711")
    texts.add_itxt("Titel", "Kaffee für zwei", "de", "Titel")
    for name, content in {
        b"gAMA": struct.pack(">I", 50_000),
        b"cHRM": struct.pack(">8I", *range(1, 9)),
        b"tIME": bytes([7, 234, 11, 23, 1, 2, 3]),
    }.items():
        texts.add(name, content)
    source = encoded(Image.fromarray(coffee), pnginfo=texts, dpi=(300, 300), icc_profile=b"x" * 200)
    exif = Image.Exif()
    exif[0x0112] = 3
    late = b"eXIf" + exif.tobytes()[6:]  # behind the pixels
    ending = png(late, b"IEND")[8:]
    source = source[:-12] + ending
    decoded = decode_photo(source, 100, "x")
    assert decoded.orientation == 1, "as browsers have it"
    before, after = chunks_of(source), chunks_of(reencoded(source, decoded.pixels))
    kept = {b"gAMA", b"cHRM", b"tIME", b"tEXt", b"iTXt", b"pHYs", b"iCCP", b"eXIf"}
    assert kept <= before.keys()
    assert {name: before[name] for name in kept} == {name: after[name] for name in kept}


def test_a_transparent_colour_becomes_alpha_and_paint_no_hole(coffee: Pixels) -> None:
    source = encoded(Image.fromarray(coffee), transparency=tuple(int(v) for v in coffee[0, 0]))
    decoded = decode_photo(source, 100, "x")
    assert decoded.pixels.shape[2] == 4
    painted = decoded.pixels.copy()
    painted[200, 300, :3] = coffee[0, 0]
    with Image.open(io.BytesIO(reencoded(source, painted))) as result:
        assert result.mode == "RGBA"
        assert result.getpixel((0, 0))[3] == 0  # type: ignore[index]
        assert result.getpixel((300, 200))[3] == 255  # type: ignore[index]


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_a_photo_that_is_passed_on_has_its_displayed_size(path: Path) -> None:
    data = path.read_bytes()
    decoded = decode_photo(data, 100, "x")
    assert check_photo(data, 100, "x") == (decoded.width, decoded.height)


def test_a_jpeg_whose_damage_shows_in_its_coefficients_is_corrupt() -> None:
    data = (DEMO / "photos" / "fig-bowl-sticker-date.jpg").read_bytes()
    middle = len(data) // 2
    data = data[:middle] + b"\0" * 100 + data[middle:]
    decoded = decode_photo(data, 100, "x")  # Pillow shows what it can
    with pytest.raises(RowError, match="Corrupt JPEG data") as caught:
        reencoded(data, decoded.pixels)
    assert caught.value.code == "image.corrupt"


def test_what_is_coded_again_keeps_its_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    source = (DEMO / "photos" / "fig-bowl-sticker-date.jpg").read_bytes()
    iptc = b"\xff\xed" + struct.pack(">H", 20) + b"Photoshop 3.0\0data"
    source = source[:2] + iptc + source[2:]
    monkeypatch.setattr("stages.codecs.jpeg.libjpeg.library", lambda: None)
    result = reencoded(source, decode_photo(source, 100, "x").pixels)
    assert split_metadata(result)[::2] == split_metadata(source)[::2]


def test_lossy_webp_stays_lossy_and_lossless_stays_lossless(coffee: Pixels) -> None:
    for lossless in (True, False):
        source = encoded(Image.fromarray(coffee), format="WEBP", lossless=lossless, quality=80)
        result = reencoded(source, coffee)
        assert (b"VP8L" in result[:64]) == lossless


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_the_suffix_is_the_formats(path: Path) -> None:
    assert "." + suffix_of(path.read_bytes(), "x", "source") == path.suffix
