"""Each format in and out: what of a file an edit keeps, judged by other readers than ours."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from manifests.errors import RowError
from stages.codecs.decode import decode_photo
from stages.codecs.encode import encode, suffix_of
from stages.codecs.formats import format_of
from stages.codecs.picture import Decoded, Encoded, Samples, to_displayed, to_stored
from stages.masks import Bits
from stages.recipe import Recipe
from tests.corpus import exif_with_thumbnail
from tests.support import DEMO, encoded, upright_rgb

Pixels = npt.NDArray[np.uint8]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def photo() -> Pixels:
    """Of odd size, so that blocks, strips and tiles are cut off at its edges."""
    return upright_rgb(DEMO / "photos" / "fig-bowl-sticker-date.jpg")[300:541, 200:503]


@pytest.fixture(scope="module")
def spot(photo: Pixels) -> Bits:
    spot = np.zeros(photo.shape[:2], np.bool_)
    spot[60:130, 90:170] = True
    return spot


def deep(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint16]:
    """16 bits that use their lower half, too."""
    noise = np.random.default_rng(1).integers(0, 257, pixels.shape)
    return np.asarray(np.minimum(pixels.astype(np.uint32) * 257 + noise, 65535), np.uint16)


def edited(source: bytes, spot: Bits, *options: str) -> tuple[Decoded, Encoded]:
    """The photo as it was decoded, and the file with the spot's colours turned to their opposite;
    alpha is left alone."""
    recipe = Recipe.load("telea", options)
    decoded = decode_photo(source, 100, "x")
    pixels, colours = decoded.pixels.copy(), decoded.space.channels
    top = np.iinfo(pixels.dtype).max
    here = to_displayed(spot, decoded.orientation)
    pixels[here, :colours] = top - pixels[here, :colours]
    new = Decoded(pixels, decoded.orientation, decoded.space)
    return decoded, encode(source, new, here, recipe, "x")


def tiff(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, metadata=None, **options)
    return buffer.getvalue()


def with_alpha(pixels: Samples) -> Samples:
    ramp = np.linspace(0, np.iinfo(pixels.dtype).max, pixels.shape[1]).astype(pixels.dtype)
    alpha = np.broadcast_to(ramp[:, None], (*pixels.shape[:2], 1))
    return np.concatenate([pixels, alpha], axis=2)


def read_tiff(data: bytes) -> Samples:
    return np.asarray(tifffile.imread(io.BytesIO(data), key=0))


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
def test_deep_pngs_keep_every_sample(photo: Pixels, spot: Bits, kind: str) -> None:
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


def test_deep_grey_with_alpha_stays_so(photo: Pixels, spot: Bits) -> None:
    pixels = with_alpha(deep(photo[..., :1]))  # OpenCV would widen it to RGB
    source = bytes(imagecodecs.png_encode(pixels))
    _, made = edited(source, spot)
    assert made.data[24:26] == bytes([16, 4])
    after = np.asarray(imagecodecs.png_decode(made.data))
    assert np.array_equal(after[~spot], pixels[~spot])
    assert np.array_equal(after[..., 1], pixels[..., 1])


TIFFS: dict[str, tuple[Callable[[Samples], Samples], dict[str, Any]]] = {
    "plain": (lambda photo: photo, {"photometric": "rgb"}),
    "strips": (lambda photo: photo, {"photometric": "rgb", "rowsperstrip": 17}),
    "lzw": (
        lambda photo: photo,
        {"photometric": "rgb", "compression": "lzw", "predictor": True, "rowsperstrip": 16},
    ),
    "packbits": (
        lambda photo: photo,
        {"photometric": "rgb", "compression": "packbits", "rowsperstrip": 16},
    ),
    "zstd tiles": (
        lambda photo: photo,
        {"photometric": "rgb", "compression": "zstd", "tile": (48, 64)},
    ),
    "16 bit, deflate, big-endian": (
        deep,
        {
            "photometric": "rgb",
            "compression": "zlib",
            "predictor": True,
            "rowsperstrip": 16,
            "byteorder": ">",
        },
    ),
    "16 bit grey": (lambda photo: deep(photo[..., 0]), {"photometric": "minisblack"}),
    "white is zero": (
        lambda photo: photo[..., 0],
        {"photometric": "miniswhite", "compression": "lzw"},
    ),
    "cmyk": (
        lambda photo: np.asarray(Image.fromarray(photo).convert("CMYK")),
        {"photometric": "separated", "compression": "lzw", "rowsperstrip": 16},
    ),
    "16 bit cmyk": (
        lambda photo: deep(np.asarray(Image.fromarray(photo).convert("CMYK"))),
        {"photometric": "separated", "tile": (64, 64)},
    ),
    "alpha": (
        with_alpha,
        {"photometric": "rgb", "extrasamples": ["unassalpha"], "compression": "zlib"},
    ),
    "planes": (
        lambda photo: np.ascontiguousarray(photo.transpose(2, 0, 1)),
        {"photometric": "rgb", "planarconfig": "separate", "compression": "lzw"},
    ),
    "big": (lambda photo: photo, {"photometric": "rgb", "bigtiff": True, "compression": "lzma"}),
    "a spot colour": (
        lambda photo: np.concatenate([photo, photo[..., ::-1]], axis=2)[..., :4],
        {"photometric": "rgb", "extrasamples": ["unspecified"], "compression": "lzw"},
    ),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_tiffs_keep_every_sample_and_every_tag(photo: Pixels, spot: Bits, kind: str) -> None:
    make, options = TIFFS[kind]
    source = tiff(
        make(photo), description="A bowl", iccprofile=SRGB, resolution=(300, 300), **options
    )
    _, made = edited(source, spot)
    assert (made.fidelity, made.note) == ("lossless", "")
    before, after = read_tiff(source), read_tiff(made.data)
    if kind == "planes":
        before, after = before.transpose(1, 2, 0), after.transpose(1, 2, 0)
    top, colours = np.iinfo(before.dtype).max, 4 if "cmyk" in kind else 3
    assert np.array_equal(after[~spot], before[~spot])
    changed = after[spot]
    assert np.array_equal(changed[..., :colours], top - before[spot][..., :colours])
    if kind in ("alpha", "a spot colour"):
        assert np.array_equal(after[..., 3], before[..., 3])
    assert tags_of(made.data) == tags_of(source)
    if "16 bit" not in kind and kind not in ("planes", "zstd tiles", "a spot colour"):
        with Image.open(io.BytesIO(made.data)) as theirs, Image.open(io.BytesIO(source)) as old:
            assert theirs.mode == old.mode
            assert np.array_equal(np.asarray(theirs)[~spot], np.asarray(old)[~spot])


def tags_of(data: bytes) -> dict[int, object]:
    """All but where the strips lie and how long they are."""
    with tifffile.TiffFile(io.BytesIO(data)) as reader:
        page = reader.pages[0].aspage()
        return {t.code: t.value for t in page.tags if t.code not in (273, 279, 324, 325)}


def test_bytes_of_a_tiff_that_the_mask_does_not_touch_stay_where_they_are(
    photo: Pixels, spot: Bits
) -> None:
    source = tiff(photo, photometric="rgb", rowsperstrip=10)
    _, made = edited(source, spot)
    assert len(made.data) == len(source)
    with tifffile.TiffFile(io.BytesIO(source)) as reader:
        first = reader.pages[0].aspage().dataoffsets[0]
    row = 303 * 3
    changed = np.flatnonzero(np.frombuffer(source, "u1") != np.frombuffer(made.data, "u1"))
    assert changed.min() >= first + 60 * row + 90 * 3
    assert changed.max() < first + 129 * row + 170 * 3


def test_nothing_of_an_old_strip_is_left(spot: Bits) -> None:
    flat = np.full((*spot.shape, 3), 200, np.uint8)  # compresses to less than what replaces it
    source = tiff(flat, photometric="rgb", compression="zlib", rowsperstrip=16)
    decoded = decode_photo(source, 100, "x")
    pixels = decoded.pixels.copy()
    pixels[spot] = np.random.default_rng(2).integers(0, 255, (int(spot.sum()), 3))
    new = Decoded(pixels, 1, decoded.space)
    made = encode(source, new, spot, Recipe.load("telea"), "x").data
    assert len(made) > len(source)
    assert np.array_equal(read_tiff(made), pixels)
    with tifffile.TiffFile(io.BytesIO(source)) as old, tifffile.TiffFile(io.BytesIO(made)) as now:
        before, after = old.pages[0].aspage(), now.pages[0].aspage()
        moved = 0
        for i, (offset, size) in enumerate(
            zip(before.dataoffsets, before.databytecounts, strict=True)
        ):
            if after.dataoffsets[i] != offset:
                moved += 1
                assert made[offset : offset + size] == bytes(size)
    assert moved > 2


def test_further_pages_of_a_tiff_stay_and_smaller_copies_do_not(photo: Pixels, spot: Bits) -> None:
    small = cv2.resize(photo, (76, 60), interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(photo, photometric="rgb", compression="lzw", metadata=None, subifds=1)
        writer.write(small, photometric="rgb", compression="lzw", subfiletype=1, metadata=None)
        writer.write(255 - photo, photometric="rgb", metadata=None)
        writer.write(small, photometric="rgb", subfiletype=1, metadata=None)
    source = buffer.getvalue()
    for policy in ("rebuild", "drop"):
        _, made = edited(source, spot, f"metadata.stale_preview={policy}")
        assert made.note == "1 further page kept as they were"
        with tifffile.TiffFile(io.BytesIO(made.data)) as now:
            pages = [page.aspage() for page in now.pages]
            assert np.array_equal(pages[1].asarray(), 255 - photo)
            below = list(pages[0].pages or [])
            if policy == "drop":
                assert len(pages) == 2
                assert not below
                continue
            assert len(pages) == 3
            for copy in (pages[2], below[0].aspage()):
                wanted = cv2.resize(pages[0].asarray(), (76, 60), interpolation=cv2.INTER_AREA)
                assert np.array_equal(copy.asarray(), wanted)
    with pytest.raises(RowError, match="smaller copies") as caught:
        edited(source, spot, "metadata.stale_preview=refuse")
    assert caught.value.code == "image.stale_preview"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"compression": "jpeg", "photometric": "rgb"}, "lossy or rare"),
        ({"photometric": "rgb", "compression": "webp"}, "lossy or rare"),
    ],
    ids=["jpeg", "webp"],
)
def test_a_tiff_that_cannot_be_written_is_refused_unless_converted(
    photo: Pixels, spot: Bits, options: dict[str, Any], why: str
) -> None:
    source = tiff(photo, **options)
    with pytest.raises(RowError, match=why) as caught:
        edited(source, spot)
    assert caught.value.code == "image.unsupported"
    decoded, made = edited(source, spot, "output.format=png")
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(made.data)))[~spot], decoded.pixels[~spot]
    )


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((9, 9), np.float32), np.zeros((9, 9), np.uint32), np.zeros((9, 9), np.int16)],
    ids=lambda pixels: str(pixels.dtype),
)
def test_samples_that_are_no_photo_are_refused(pixels: npt.NDArray[np.generic]) -> None:
    with pytest.raises(RowError, match="its samples are") as caught:
        decode_photo(tiff(pixels), 100, "x")
    assert caught.value.code == "image.unsupported"


def test_a_cmyk_jpeg_keeps_its_coefficients(photo: Pixels, spot: Bits) -> None:
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
    photo: Pixels, spot: Bits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.codecs.turbojpeg.library", lambda: None)
    for mode in ("RGB", "L", "CMYK"):
        picture = Image.fromarray(photo).convert(mode)
        source = encoded(picture, format="JPEG", quality=92, keep_rgb=mode == "RGB")
        decoded, made = edited(source, spot)
        assert made.fidelity == "reencoded"
        assert "libturbojpeg" in made.note
        again = decode_photo(made.data, 100, "x").pixels.astype(int)
        assert np.abs(again - decoded.pixels)[~spot].mean() < 3


@pytest.mark.parametrize("quality", [40, 75, 90])
def test_a_lossy_webp_is_coded_as_finely_as_it_was(photo: Pixels, spot: Bits, quality: int) -> None:
    source = encoded(Image.fromarray(photo), format="WEBP", quality=quality)
    _, made = edited(source, spot)
    assert made.fidelity == "reencoded"
    used = int(made.note.split("quality ")[1].split()[0])
    assert quality <= used <= quality + 20
    assert len(made.data) < 1.5 * len(source)
    _, told = edited(source, spot, "output.quality=33")
    assert "quality 33" in told.note


@pytest.mark.parametrize("alpha", [False, True])
def test_avif_keeps_its_kind_frame_and_metadata(photo: Pixels, spot: Bits, alpha: bool) -> None:
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


def test_a_deep_avif_is_refused_rather_than_halved(photo: Pixels) -> None:
    source = bytes(imagecodecs.avif_encode(deep(photo) >> 6, bitspersample=10, level=90))
    with pytest.raises(RowError, match="more than 8 bits") as caught:
        decode_photo(source, 100, "x")
    assert caught.value.code == "image.unsupported"


@pytest.mark.parametrize("bits", [8, 10])
def test_heic_keeps_its_depth_and_metadata(photo: Pixels, spot: Bits, bits: int) -> None:
    pixels = photo if bits == 8 else deep(photo)
    mode = "RGB" if bits == 8 else "RGB;16"
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    picture = pillow_heif.from_bytes(mode, (303, 241), np.ascontiguousarray(pixels).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, quality=90, chroma="444", exif=exif.tobytes(), icc_profile=SRGB)
    source = buffer.getvalue()
    assert format_of(source) == "heic"
    decoded, made = edited(source, spot)
    after = pillow_heif.open_heif(made.data, convert_hdr_to_8bit=False)
    assert after.info["bit_depth"] == bits
    assert after.info["icc_profile"] == SRGB
    tags = Image.Exif()
    tags.load(after.info["exif"])
    assert tags[0x010F] == "A maker"
    scale = 1 if bits == 8 else 257
    difference = np.abs(np.asarray(after).astype(int) - decoded.pixels) / scale
    assert difference[~spot].mean() < 4
    assert difference[spot].mean() > 40


CONVERTED = ["jpeg", "png", "webp", "tiff", "avif"]


@pytest.mark.parametrize("wanted", CONVERTED)
@pytest.mark.parametrize("own", ["jpeg", "png", "webp", "tiff", "avif"])
def test_the_recipe_may_ask_for_another_format(
    photo: Pixels, spot: Bits, own: str, wanted: str
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 8, "A maker"
    options = {"exif": exif} | ({"dpi": (300, 300)} if own in ("jpeg", "png", "tiff") else {})
    picture = Image.fromarray(photo)
    source = encoded(picture, format=own.upper(), icc_profile=SRGB, **options)
    decoded, made = edited(source, spot, f"output.format={wanted}")
    recipe = Recipe.load("telea", [f"output.format={wanted}"])
    with Image.open(io.BytesIO(made.data)) as after:
        assert after.format == wanted.upper()
        assert after.info.get("icc_profile") == SRGB
        assert after.getexif()[0x0112] == 8
        assert after.getexif()[0x010F] == "A maker"
        shown = np.asarray(ImageOps.exif_transpose(after).convert("RGB"))
        difference = to_stored(np.abs(shown.astype(int) - decoded.pixels), 8)
    assert difference[~spot].mean() < 4
    if own != wanted:
        assert made.note.startswith(f"converted from {own} to {wanted}")
        exact = wanted in ("png", "tiff")
        assert made.fidelity == ("lossless" if exact else "reencoded")
        assert not (exact and difference[~spot].any())
        assert suffix_of(source, "x.y", recipe) == {"jpeg": "jpg", "tiff": "tif"}.get(
            wanted, wanted
        )


def test_what_a_format_cannot_hold_is_told(photo: Pixels, spot: Bits) -> None:
    source = bytes(imagecodecs.png_encode(with_alpha(deep(photo))))
    _, made = edited(source, spot, "output.format=jpeg", "output.quality=95")
    assert made.note == (
        "converted from png to jpeg, 16 bits reduced to 8, transparency laid on white, quality 95"
    )
    with Image.open(io.BytesIO(made.data)) as after:
        assert np.asarray(after)[:, 0].min() > 250, "wholly transparent there"
    _, made = edited(source, spot, "output.format=tiff")
    assert made.fidelity == "lossless"
    assert np.array_equal(read_tiff(made.data)[~spot], with_alpha(deep(photo))[~spot])


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
def test_a_turned_heic_is_turned_once(photo: Pixels, spot: Bits, orientation: int) -> None:
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


def test_a_grey_heic_stays_grey(photo: Pixels, spot: Bits) -> None:
    grey = np.ascontiguousarray(photo[..., 0])
    buffer = io.BytesIO()
    pillow_heif.from_bytes("L", (303, 241), grey.tobytes()).save(buffer, quality=90)
    decoded, made = edited(buffer.getvalue(), spot)
    assert decoded.space.model in ("grey", "rgb")
    after = np.asarray(pillow_heif.open_heif(made.data)).astype(int)
    assert np.abs(after.reshape(decoded.pixels.shape) - decoded.pixels)[~spot].mean() < 4


@pytest.mark.parametrize("wanted", ["png", "webp", "jpeg"])
def test_colours_multiplied_by_alpha_are_divided_for_other_files(wanted: str) -> None:
    half = np.full((64, 64, 4), (64, 32, 16, 128), np.uint8)
    source = tiff(half, photometric="rgb", extrasamples=["assocalpha"])
    spot = np.zeros((64, 64), np.bool_)
    spot[:8, :8] = True
    _, made = edited(source, spot, f"output.format={wanted}", "output.quality=100")
    assert "colours divided by alpha" in made.note
    with Image.open(io.BytesIO(made.data)) as after:
        here = np.asarray(after)[40, 40].astype(int)
    on_white = wanted == "jpeg"
    assert np.abs(here[:3] - ((192, 160, 143) if on_white else (128, 64, 32))).max() <= 3


def test_ink_with_alpha_keeps_its_alpha(photo: Pixels, spot: Bits) -> None:
    ink = with_alpha(np.asarray(Image.fromarray(photo).convert("CMYK")))
    source = tiff(ink, photometric="separated", extrasamples=["unassalpha"])
    _, made = edited(source, spot, "output.format=png")
    with Image.open(io.BytesIO(made.data)) as after:
        assert after.mode == "RGBA"
        assert np.array_equal(np.asarray(after)[..., 3], ink[..., 4])


def test_a_transparent_grey_of_few_bits_stays_transparent(spot: Bits) -> None:
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


def test_pages_that_share_their_strips_are_refused(photo: Pixels, spot: Bits) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(photo, photometric="rgb", metadata=None, rowsperstrip=50)
        writer.write(photo, photometric="rgb", metadata=None, rowsperstrip=50)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as reader:
        first, second = (page.aspage() for page in reader.pages)
        at, other = first.tags[273].valueoffset, second.tags[273].valueoffset
    data[other : other + 20] = data[at : at + 20]
    with pytest.raises(RowError, match="share their bytes"):
        edited(bytes(data), spot)


def test_a_preview_in_a_tiffs_maker_note_or_iptc_is_wiped(photo: Pixels, spot: Bits) -> None:
    small = encoded(Image.fromarray(photo).resize((64, 48)), format="JPEG")
    iptc = b"\x1c\x02\x05\0\5Bowls" + b"\x1c\x02\xca" + struct.pack(">H", len(small)) + small
    extra = [(33723, 7, len(iptc), iptc, True)]
    _, made = edited(tiff(photo, photometric="rgb", extratags=extra), spot)
    assert made.metadata_notes == ["IPTC preview dropped"]
    assert small[:200] not in made.data
    assert b"Bowls" in made.data


def test_exif_in_a_text_chunk_is_settled(photo: Pixels, spot: Bits) -> None:
    block = exif_with_thumbnail(photo)
    digits = block.hex()
    text = f"\nexif\n{len(block):8}\n"
    text += "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72)) + "\n"
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", text, zip=True)
    source = encoded(Image.fromarray(photo), pnginfo=info)
    _, made = edited(source, spot)
    assert made.metadata_notes == ["EXIF thumbnail rebuilt", "EXIF in a zTXt chunk settled"]
    with Image.open(io.BytesIO(made.data)) as after:
        assert after.getexif()[0x010F] == "A Maker"
        again = bytes.fromhex("".join(after.info["Raw profile type exif"].split("\n")[3:]))
    assert len(again) == len(block)
    assert again != block


def test_what_a_conversion_leaves_behind_is_told(photo: Pixels, spot: Bits) -> None:
    source = encoded(Image.fromarray(photo), format="JPEG", comment=b"bowl")
    _, made = edited(source, spot, "output.format=webp")
    assert made.metadata_notes == ["not carried over: comment 1"]
    many = tiff(np.stack([photo, photo]), photometric="rgb")
    _, made = edited(many, spot, "output.format=png")
    assert "1 further pictures left behind" in made.metadata_notes
    _, made = edited(
        tiff(photo, photometric="rgb", resolution=(300, 300)), spot, "output.format=jpeg"
    )
    with Image.open(io.BytesIO(made.data)) as after:
        assert after.info["dpi"] == (300, 300)


def test_what_no_encoder_can_hold_is_told() -> None:
    wide = np.zeros((4, 17_000, 3), np.uint8)
    spot = np.zeros((4, 17_000), np.bool_)
    spot[:, :9] = True
    with pytest.raises(RowError, match="as webp") as caught:
        edited(encoded(wide), spot, "output.format=webp")
    assert caught.value.code == "image.unsupported"
    packet = b"<x>" + b" " * 70_000 + b"</x>"
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode())
    _, made = edited(encoded(wide, pnginfo=info), spot, "output.format=jpeg")
    assert "XMP over 64 KB left out" in made.metadata_notes


def test_the_edit_is_marked_on_request(photo: Pixels, spot: Bits) -> None:
    source = encoded(Image.fromarray(photo), format="JPEG")
    for name, kind in (("telea", "algorithmicallyEnhanced"), ("lama", "TrainedAlgorithmicMedia")):
        recipe = Recipe.load(name, ["metadata.mark_edit=true"])
        decoded = decode_photo(source, 100, "x")
        with Image.open(io.BytesIO(encode(source, decoded, spot, recipe, "x").data)) as after:
            assert kind.encode() in after.info["xmp"]
            assert b"catalog-cleanup" in after.info["xmp"]
