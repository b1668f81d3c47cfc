"""From one format into another: what is carried over, and what is told."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from manifests.errors import RowError
from stages.arrays import BoolMask
from stages.codecs.encode import suffix_of
from stages.codecs.picture import to_displayed, to_stored
from stages.recipe import Recipe
from stages.verify import Expected, compare
from tests.hostile.formats import chunk
from tests.support import encoded
from tests.support.files.corpus import SRGB, deep
from tests.support.files.editing import edited, read_tiff, tiff, with_alpha

Pixels = npt.NDArray[np.uint8]


CARRIED = "only EXIF, XMP, ICC profile and resolution carried over"
CONVERTED = ["jpeg", "png", "webp", "tiff", "avif"]


@pytest.mark.parametrize("wanted", CONVERTED)
@pytest.mark.parametrize("own", ["jpeg", "png", "webp", "tiff", "avif"])
def test_the_recipe_may_ask_for_another_format(
    photo: Pixels, spot: BoolMask, own: str, wanted: str
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
        assert after.getexif().get(0x0112, 1) == (8 if own == wanted else 1)
        assert after.getexif()[0x010F] == "A maker"
        is_stored = own == wanted != "tiff"  # which Pillow turns while it loads it
        turn = decoded.orientation if is_stored else 1
        shown = to_displayed(np.asarray(after.convert("RGB")), turn)
        difference = to_stored(np.abs(shown.astype(int) - decoded.pixels), decoded.orientation)
    assert difference[~spot].mean() < 4
    if own != wanted:
        assert made.note.startswith(f"converted from {own} to {wanted}")
        exact = wanted in ("png", "tiff")
        assert made.fidelity == ("lossless" if exact else "reencoded")
        assert not (exact and difference[~spot].any())
        assert suffix_of(source, "x.y", recipe.output.format) == {"jpeg": "jpg", "tiff": "tif"}.get(
            wanted, wanted
        )


def test_what_a_format_cannot_hold_is_told(photo: Pixels, spot: BoolMask) -> None:
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


GREY_10, GREY_18 = (bytes(imagecodecs.cms_profile("gray", gamma=each)) for each in (1.0, 1.8))


@pytest.mark.parametrize("wanted", ["webp", "avif", "jpeg", "png", "tiff"])
@pytest.mark.parametrize("alpha", [False, True])
def test_tones_of_a_grey_profile_look_the_same_in_other_files(wanted: str, *, alpha: bool) -> None:
    grey = np.full((64, 64, 1), 100, np.uint8)
    spot = np.zeros((64, 64), np.bool_)
    spot[:8, :8] = True
    source = encoded(
        Image.fromarray(np.dstack([grey, grey + 155]) if alpha else grey[..., 0]),
        icc_profile=GREY_18,
    )
    source = source[:33] + chunk(b"gAMA", struct.pack(">I", 55_556)) + source[33:]
    _, made = edited(source, spot, f"output.format={wanted}", "output.quality=100")
    with Image.open(io.BytesIO(made.data)) as after:
        shown: Image.Image | None = after.convert("RGB" if wanted in ("webp", "avif") else "L")
        if icc := after.info.get("icc_profile"):
            assert icc == GREY_18
            shown = ImageCms.profileToProfile(
                after.convert("L"),
                io.BytesIO(icc),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        assert shown is not None
        level = int(np.asarray(shown)[40, 40].flat[0])
    assert abs(level - 255 * (1.055 * ((100 / 255) ** 1.8) ** (1 / 2.4) - 0.055)) <= 3
    is_converted = wanted in ("webp", "avif") or (alpha and wanted == "jpeg")
    assert ("grey converted to sRGB" in made.note) == is_converted


def test_a_conversion_is_the_same_picture_to_the_checker(spot: BoolMask, photo: Pixels) -> None:
    """By other code: profiles of grey, alpha that colours are multiplied by, ink with alpha."""
    alpha = with_alpha(photo)[..., 3:]
    multiplied, ink = ((each * (alpha / 255)).astype(np.uint8) for each in (photo, 255 - photo))
    grey, no_grey = photo[..., :1], GREY_18[:140] + bytes(len(GREY_18) - 140)
    four = {"photometric": "separated", "planarconfig": "contig"}
    sources = [
        *(encoded(grey[..., 0], format=each, icc_profile=GREY_18) for each in ("JPEG", "TIFF")),
        *(encoded(grey[..., 0], icc_profile=each) for each in (GREY_18, no_grey, SRGB)),
        *(encoded(np.dstack([grey, alpha]), icc_profile=each) for each in (GREY_18, GREY_10)),
        tiff(deep(grey[..., 0]), photometric="minisblack", iccprofile=GREY_18),
        tiff(np.dstack([multiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"]),
        tiff(np.dstack([photo, alpha]), photometric="rgb", extrasamples=["unspecified"]),
        tiff(np.dstack([photo, grey, alpha]), extrasamples=["unassalpha"], **four),
        tiff(np.dstack([ink, alpha // 4, alpha]), extrasamples=["assocalpha"], **four),
    ]
    for number, source in enumerate(sources):
        is_ink = number > 9
        for wanted in ("jpeg", "tiff") if is_ink else CONVERTED:
            _, made = edited(source, spot, f"output.format={wanted}")
            note = "; ".join([*made.metadata_notes, made.note])
            assert not compare(source, made.data, Expected(made.fidelity, spot, note)).problems, (
                note
            )
            other = compare(source, made.data, Expected(made.fidelity, ~spot, note))
            assert other.problems, "what changed is seen"


SRGB_POINTS = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
P3_POINTS = (31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)


@pytest.mark.parametrize(
    ("chunks", "named"),
    [
        ({b"gAMA": struct.pack(">I", 45_455), b"cHRM": struct.pack(">8I", *SRGB_POINTS)}, ""),
        ({b"gAMA": struct.pack(">I", 100_000)}, "gAMA"),
        ({b"gAMA": struct.pack(">I", 100_000), b"sRGB": b"\0"}, ""),
        ({b"gAMA": struct.pack(">I", 45_455), b"cHRM": struct.pack(">8I", *P3_POINTS)}, "cHRM"),
        ({b"cICP": bytes([12, 13, 0, 1])}, "cICP"),
        ({b"cICP": bytes([12, 13, 0, 1]), b"sRGB": b"\0"}, "cICP"),
        ({b"cICP": bytes([1, 13, 0, 1])}, ""),
        ({b"cICP": bytes([12, 13, 0, 1]), b"iCCP": b"p\0\0" + zlib.compress(SRGB)}, ""),
    ],
)
def test_colours_that_only_chunks_of_a_png_state_are_not_dropped(
    photo: Pixels, spot: BoolMask, chunks: dict[bytes, bytes], named: str
) -> None:
    plain = encoded(Image.fromarray(photo))
    source = plain[:33] + b"".join(chunk(*each) for each in chunks.items()) + plain[33:]
    assert edited(source, spot)[1].fidelity == "lossless"
    if not named:
        edited(source, spot, "output.format=webp")
        return
    with pytest.raises(RowError, match=f"colours are stated by {named}") as caught:
        edited(source, spot, "output.format=webp")
    assert caught.value.code == "image.unsupported"


def test_ink_with_alpha_keeps_its_alpha(photo: Pixels, spot: BoolMask) -> None:
    ink = with_alpha(np.asarray(Image.fromarray(photo).convert("CMYK")))
    source = tiff(ink, photometric="separated", extrasamples=["unassalpha"])
    _, made = edited(source, spot, "output.format=png")
    with Image.open(io.BytesIO(made.data)) as after:
        assert after.mode == "RGBA"
        assert np.array_equal(np.asarray(after)[..., 3], ink[..., 4])


def test_what_a_conversion_leaves_behind_is_told(photo: Pixels, spot: BoolMask) -> None:
    source = encoded(Image.fromarray(photo), format="JPEG", comment=b"bowl")
    _, made = edited(source, spot, "output.format=webp")
    assert made.metadata_notes == [CARRIED]
    assert b"bowl" not in made.data
    many = tiff(np.stack([photo, photo]), photometric="rgb")
    _, made = edited(many, spot, "output.format=png")
    assert "1 further pictures not carried over" in made.metadata_notes
    _, made = edited(encoded(photo, format="TIFF"), spot, "output.format=png")
    assert made.metadata_notes == [CARRIED], "there is no EXIF"
    assert b"eXIf" not in made.data
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


def test_exif_that_another_format_does_not_get_is_told(photo: Pixels, spot: BoolMask) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a bowl"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 12:00:00"
    source = encoded(Image.fromarray(photo), format="JPEG", exif=exif)
    _, made = edited(source, spot, "output.format=tiff")
    left = "EXIF not carried over, but for what TIFF has tags of its own for"
    assert made.metadata_notes == [CARRIED, left]
    with Image.open(io.BytesIO(made.data)) as after:
        assert after.getexif()[0x010E] == "a bowl"


@pytest.mark.parametrize("wanted", ["png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("progressive", [False, True])
def test_samples_that_a_jpeg_lacks_are_not_made_up(
    photo: Pixels, spot: BoolMask, wanted: str, *, progressive: bool
) -> None:
    """Pillow shows grey in their place without a word."""
    whole = encoded(Image.fromarray(photo), format="JPEG", progressive=progressive)
    cut = whole[: len(whole) // 2] + b"\xff\xd9"
    with pytest.raises(RowError) as error:
        edited(cut, spot, f"output.format={wanted}")
    assert error.value.code in ("image.corrupt", "image.truncated")
