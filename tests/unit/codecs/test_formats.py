"""Each format in and out: what of a file an edit keeps, judged by other readers than ours."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
from PIL import Image, ImageOps

from manifests.errors import RowError
from stages.arrays import BoolMask, Samples
from stages.codecs.decode import decode_photo
from stages.codecs.formats import detect_format
from stages.codecs.picture import to_displayed, to_stored
from stages.recipe import Recipe
from tests.support import encoded
from tests.support.files.corpus import SRGB, deep
from tests.support.files.editing import edited, with_alpha, written

Pixels = npt.NDArray[np.uint8]


def read_png_with_opencv(data: bytes) -> Samples:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return np.asarray(pixels)


PNGS: dict[str, Callable[[Samples], Samples]] = {
    "16-bit grey": lambda photo: deep(photo[..., 0]),
    "16-bit RGB": deep,
    "16-bit RGB with alpha": lambda photo: with_alpha(deep(photo)),
}


@pytest.mark.parametrize("kind", PNGS)
def test_deep_pngs_keep_every_sample(photo: Pixels, spot: BoolMask, kind: str) -> None:
    pixels = PNGS[kind](photo)
    source = bytes(imagecodecs.png_encode(pixels))
    _, made = edited(source, spot)
    assert made.fidelity == "lossless"
    before, after = read_png_with_opencv(source), read_png_with_opencv(made.data)
    assert after.dtype == np.uint16
    assert after.shape == before.shape
    assert np.array_equal(after[~spot], before[~spot])
    assert np.array_equal(after[spot][..., :3], 65535 - before[spot][..., :3])
    if "alpha" in kind:
        assert np.array_equal(after[..., 3], before[..., 3])


def test_deep_grey_with_alpha_stays_so(photo: Pixels, spot: BoolMask) -> None:
    pixels = with_alpha(deep(photo[..., :1]))  # OpenCV would widen it to RGB
    source = bytes(imagecodecs.png_encode(pixels))
    _, made = edited(source, spot)
    assert made.data[24:26] == bytes([16, 4])
    after = np.asarray(imagecodecs.png_decode(made.data))
    assert np.array_equal(after[~spot], pixels[~spot])
    assert np.array_equal(after[..., 1], pixels[..., 1])


def test_a_cmyk_jpeg_keeps_its_coefficients(photo: Pixels, spot: BoolMask) -> None:
    source = encoded(Image.fromarray(photo).convert("CMYK"), format="JPEG", quality=92)
    decoded, made = edited(source, spot)
    assert decoded.space.model == "cmyk"
    assert (made.fidelity, made.note) == ("coefficients", "")
    with Image.open(io.BytesIO(made.data)) as after:
        assert after.mode == "CMYK"
        difference = np.abs(np.asarray(after).astype(int) - decoded.pixels)
    assert difference[spot].mean() > 40
    far = np.ones_like(spot)
    far[44:146, 74:186] = False
    assert not difference[far].any()


def test_what_is_coded_again_keeps_its_colours(
    photo: Pixels, spot: BoolMask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.codecs.jpeg.libjpeg.library", lambda: None)
    for mode in ("RGB", "L", "CMYK"):
        picture = Image.fromarray(photo).convert(mode)
        source = encoded(picture, format="JPEG", quality=92, keep_rgb=mode == "RGB")
        decoded, made = edited(source, spot)
        assert made.fidelity == "reencoded"
        assert "no libjpeg" in made.note
        again = decode_photo(made.data, 100, "x").pixels.astype(int)
        assert np.abs(again - decoded.pixels)[~spot].mean() < 3


@pytest.mark.parametrize("quality", [40, 75, 90])
def test_a_lossy_webp_is_coded_at_one_high_quality(
    photo: Pixels, spot: BoolMask, quality: int
) -> None:
    """Whatever its own was, which no field of the file states."""
    source = encoded(Image.fromarray(photo), format="WEBP", quality=quality)
    decoded, made = edited(source, spot)
    assert (made.fidelity, made.note) == ("reencoded", "lossy WebP, quality 90")
    again = decode_photo(made.data, 100, "x").pixels.astype(int)
    assert np.abs(again - decoded.pixels)[~spot].mean() < 2
    _, told = edited(source, spot, "output.quality=33")
    assert "quality 33" in told.note


@pytest.mark.parametrize("alpha", [False, True])
def test_avif_keeps_its_kind_frame_and_metadata(photo: Pixels, spot: BoolMask, alpha: bool) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A maker"
    picture = Image.fromarray(with_alpha(photo) if alpha else photo)
    source = encoded(picture, format="AVIF", quality=90, exif=exif, icc_profile=SRGB, xmp=b"<x/>")
    decoded, made = edited(source, spot)
    assert decoded.orientation == 6
    assert made.fidelity == "reencoded"
    with Image.open(io.BytesIO(source)) as before, Image.open(io.BytesIO(made.data)) as after:
        assert (after.format, after.mode, after.size) == ("AVIF", before.mode, before.size)
        assert after.getexif() == before.getexif()
        assert after.info["icc_profile"] == SRGB
        assert after.info["xmp"] == before.info["xmp"]
        difference = np.abs(np.asarray(after).astype(int) - np.asarray(before))
    assert difference[~spot].mean() < 4
    assert difference[spot][:, :3].mean() > 40


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:0:0"])
def test_avif_keeps_its_chroma_resolution(spot: BoolMask, subsampling: str, *, alpha: bool) -> None:
    stripes = np.zeros((*spot.shape, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 220
    picture = Image.fromarray(with_alpha(stripes) if alpha else stripes)
    source = encoded(picture, format="AVIF", quality=95, subsampling=subsampling)
    _, made = edited(source, spot)
    bits = {each[each.index(b"av1C") + 6] & 0x1C for each in (source, made.data)}
    assert len(bits) == 1
    before, after = (
        imagecodecs.avif_decode(each).reshape(*spot.shape, -1) for each in (source, made.data)
    )
    difference = np.abs(after.astype(int) - before)
    assert difference[~spot].mean() < 6


def nclx_of(data: bytes) -> tuple[int, int]:
    primaries, transfer = struct.unpack_from(">HH", data, data.index(b"colrnclx") + 8)
    return primaries, transfer


DISPLAY_P3 = (12, 13)


def display_p3(kind: str, photo: Pixels) -> bytes:
    """A photo whose colours only the nclx box states."""
    if kind == "avif":
        options: dict[str, Any] = {"primaries": 12, "transfer": 13, "matrix": 6}
        return bytes(imagecodecs.avif_encode(photo, level=90, speed=8, pixelformat=1, **options))
    buffer = io.BytesIO()
    numbers = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 1}
    pillow_heif.from_pillow(Image.fromarray(photo)).save(
        buffer, quality=90, full_range_flag=0, **numbers
    )
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["avif", "heic"])
def test_colours_that_only_an_nclx_box_states_are_kept_or_refused(
    photo: Pixels, spot: BoolMask, kind: str
) -> None:
    source = display_p3(kind, photo)
    assert nclx_of(source) == DISPLAY_P3
    decoded, made = edited(source, spot)
    assert nclx_of(made.data) == DISPLAY_P3
    difference = np.abs(decode_photo(made.data, 1, "x").pixels.astype(int) - decoded.pixels)
    assert difference[~spot].mean() < 4
    with pytest.raises(RowError, match="colours are stated by nclx") as caught:
        edited(source, spot, "output.format=jpeg")
    assert caught.value.code == "image.unsupported"


def test_a_deep_avif_is_refused_rather_than_halved(photo: Pixels) -> None:
    source = bytes(imagecodecs.avif_encode(deep(photo) >> 6, bitspersample=10, level=90, speed=10))
    with pytest.raises(RowError, match="more than 8 bits") as caught:
        decode_photo(source, 100, "x")
    assert caught.value.code == "image.unsupported"


def test_a_deep_heic_is_refused_rather_than_halved(photo: Pixels) -> None:
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (303, 241), deep(photo).tobytes()).save(buffer)
    with pytest.raises(RowError, match="more than 8 bits") as caught:
        decode_photo(buffer.getvalue(), 100, "x")
    assert caught.value.code == "image.unsupported"


def test_without_its_plugin_a_heic_is_refused_with_the_way_to_get_it(
    photo: Pixels, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(photo)).save(buffer)
    path = tmp_path / "photo.heic"
    path.write_bytes(buffer.getvalue())
    code = """
import sys
from pathlib import Path
sys.modules["pillow_heif"] = None
from manifests.errors import RowError
from stages.codecs.decode import check_photo, decode_photo
for read in (decode_photo, check_photo):
    try:
        read(Path(sys.argv[1]).read_bytes(), 100, "x")
    except RowError as error:
        print(error.code, error.message)
"""
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(each.startswith("image.unsupported") for each in lines)
    assert all("pip install pillow-heif" in each for each in lines)


def test_heic_keeps_its_metadata(photo: Pixels, spot: BoolMask) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    picture = pillow_heif.from_bytes("RGB", (303, 241), np.ascontiguousarray(photo).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, quality=90, chroma="444", exif=exif.tobytes(), icc_profile=SRGB)
    source = buffer.getvalue()
    assert detect_format(source) == "heic"
    decoded, made = edited(source, spot)
    after = pillow_heif.open_heif(made.data, convert_hdr_to_8bit=False)
    assert after.info["icc_profile"] == SRGB
    tags = Image.Exif()
    tags.load(after.info["exif"])
    assert tags[0x010F] == "A maker"
    difference = np.abs(np.asarray(after).astype(int) - decoded.pixels)
    assert difference[~spot].mean() < 4
    assert difference[spot].mean() > 40


@pytest.mark.parametrize("orientation", range(1, 9))
def test_frames_are_turned_as_pillow_turns_them(orientation: int) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(io.BytesIO(encoded(pixels, exif=exif))) as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture))
    assert np.array_equal(to_displayed(pixels, orientation), shown)
    assert np.array_equal(to_stored(shown, orientation), pixels)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_heic_is_turned_once(photo: Pixels, spot: BoolMask, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = pillow_heif.from_bytes("RGB", (303, 241), np.ascontiguousarray(photo).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, quality=95, chroma="444", exif=exif.tobytes())
    shown = np.asarray(pillow_heif.open_heif(buffer.getvalue()))
    for options in ((), ("output.format=jpeg", "output.quality=97")):
        decoded, made = edited(buffer.getvalue(), to_displayed(spot, orientation), *options)
        assert np.array_equal(decoded.pixels, shown)
        if options:
            with Image.open(io.BytesIO(made.data)) as after:
                result = np.asarray(ImageOps.exif_transpose(after))
        else:
            result = np.asarray(pillow_heif.open_heif(made.data))
        assert result.shape == shown.shape
        outside = ~to_displayed(spot, orientation)
        assert np.abs(result.astype(int) - shown)[outside].mean() < 3


def test_a_grey_heic_stays_grey(photo: Pixels, spot: BoolMask) -> None:
    grey = np.ascontiguousarray(photo[..., 0])
    buffer = io.BytesIO()
    pillow_heif.from_bytes("L", (303, 241), grey.tobytes()).save(buffer, quality=90)
    decoded, made = edited(buffer.getvalue(), spot)
    assert decoded.space.model in ("grey", "rgb")
    after = np.asarray(pillow_heif.open_heif(made.data)).astype(int)
    assert np.abs(after.reshape(decoded.pixels.shape) - decoded.pixels)[~spot].mean() < 4


def test_a_transparent_grey_of_few_bits_stays_transparent(spot: BoolMask) -> None:
    rows = b"".join(b"\0" + bytes([0x01, 0x23, 0x45, 0x67]) for _ in range(8))
    source = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c))
        for n, c in (
            (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 4, 0, 0, 0, 0)),
            (b"tRNS", b"\0\3"),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
    )
    alpha = decode_photo(source, 1, "x").alpha
    assert alpha is not None
    assert (alpha == 0).sum() == 8


def test_the_edit_is_marked_on_request(photo: Pixels, spot: BoolMask) -> None:
    source = encoded(Image.fromarray(photo), format="JPEG")
    for name, kind in (("telea", "algorithmicallyEnhanced"), ("lama", "TrainedAlgorithmicMedia")):
        recipe = Recipe.load(name, ["metadata.mark_edit=true"])
        decoded = decode_photo(source, 100, "x")
        with Image.open(io.BytesIO(written(source, decoded, spot, recipe).data)) as after:
            assert kind.encode() in after.info["xmp"]
            assert b"catalog-cleanup" in after.info["xmp"]
