"""Fills work in 8-bit sRGB; the photo keeps its own space and depth, and no seam shows."""

from __future__ import annotations

import io
import tracemalloc

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image, ImageCms

from stages.arrays import Samples
from stages.codecs.decode import decode_photo
from stages.codecs.picture import Decoded
from stages.codecs.png.chunks import chunks, with_chunks
from stages.pipeline import Pipeline
from stages.pixels import colour
from stages.pixels.samples import ColourSpace
from stages.recipe import Recipe
from stages.steps.detect import on_white
from tests.support import DEMO, encoded, photo_of, upright_rgb

Pixels = npt.NDArray[np.uint8]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_D65 = [0.3127, 0.3290, 1.0]
PROFILES = {
    "Display P3": imagecodecs.cms_profile(
        "rgb", whitepoint=_D65, primaries=[0.68, 0.32, 0.265, 0.69, 0.15, 0.06], gamma=2.2
    ),
    "Rec. 2020": imagecodecs.cms_profile(
        "rgb", whitepoint=_D65, primaries=[0.708, 0.292, 0.17, 0.797, 0.131, 0.046], gamma=2.4
    ),
}


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return upright_rgb(DEMO / "photos" / "fig-bowl-sticker-date.jpg")[300:541, 200:503]


def cleaned(source: bytes, spot: npt.NDArray[np.bool_] | None, *options: str) -> Samples:
    """The photo as the steps between fetch and publish leave it, filled by a recipe that is exact
    on an even background."""
    recipe = Recipe.load("navier-stokes", options)
    mask = source if spot is None else encoded(spot.astype(np.uint8) * 255)
    photo = photo_of(source, mask)
    Pipeline.of(recipe).after("fetch").run(photo)
    assert photo.ok, photo.lineage.error
    return decode_photo(photo.result, 100, "x").pixels


def spot_in(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    spot = np.zeros(pixels.shape[:2], np.bool_)
    spot[60:110, 90:150] = True
    return spot


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("depth", [8, 16])
def test_a_colour_outside_srgb_is_continued_as_it_is(profile: str, depth: int) -> None:
    """A saturated wall, which sRGB cannot show, with a grey mark on it."""
    wall = np.full((160, 240, 3), (250, 20, 10), np.uint8)
    spot = spot_in(wall)
    wall[spot] = 128
    if depth == 16:
        source = bytes(imagecodecs.png_encode(wall.astype(np.uint16) * 257))
        source = with_profile(source, PROFILES[profile])
    else:
        source = encoded(wall, icc_profile=PROFILES[profile])
    seen = colour.to_srgb8(
        decode_photo(source, 100, "x").pixels, ColourSpace("rgb", PROFILES[profile])
    )
    assert np.abs(seen[0, 0].astype(int) - (250, 20, 10)).max() > 4, "sRGB shows it otherwise"
    result = cleaned(source, spot).astype(int) / (257 if depth == 16 else 1)
    assert np.abs(result - (250, 20, 10)).max() <= 1.5


def with_profile(png: bytes, icc: bytes) -> bytes:
    """A deep PNG with a profile, which Pillow writes into a picture of one pixel."""
    tagged = encoded(Image.new("RGB", (1, 1)), icc_profile=icc)
    return with_chunks(png, [c for c in chunks(tagged) if c[0] == b"iCCP"], [])


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_a_known_pixel_comes_back_as_it_was(photo: Pixels, mode: str) -> None:
    """What the fill left as it saw it is laid on without a trace, whatever the space."""
    pixels = np.asarray(Image.fromarray(photo).convert(mode)).reshape(*photo.shape[:2], -1)
    space = {
        "RGB": ColourSpace("rgb", PROFILES["Display P3"]),
        "CMYK": ColourSpace("cmyk"),
        "L": ColourSpace("grey"),
    }[mode]
    hole = spot_in(photo)
    painted = colour.to_photo_space(colour.to_srgb8(pixels, space), pixels, hole, space)
    assert np.abs(painted.astype(int) - pixels)[~hole].max() <= 1
    assert painted.shape == pixels.shape


@pytest.mark.parametrize(
    ("space", "depth"),
    [
        (ColourSpace("rgb"), np.uint8),
        (ColourSpace("rgb"), np.uint16),
        (ColourSpace("rgb", premultiplied=True), np.uint16),
        (ColourSpace("cmyk"), np.uint8),
    ],
)
def test_a_photo_on_white_takes_little_more_memory_than_itself(
    space: ColourSpace, depth: type[np.uint8 | np.uint16]
) -> None:
    """And shows each channel laid on white, to the nearest level."""
    top = np.iinfo(depth).max
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, top + 1, (1500, 2000, space.channels + 1), depth)
    if space.premultiplied:
        pixels[..., :3] = np.minimum(pixels[..., :3], pixels[..., 3:])
    decoded = Decoded(pixels, 1, space)
    tracemalloc.start()
    seen = on_white(decoded)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * seen.nbytes
    if space.model == "rgb" and not space.premultiplied:
        opacity = np.rint(pixels[:9, :, 3:] / (top / 255)) / 255
        colours = np.rint(pixels[:9, :, :3] / (top / 255))
        assert np.array_equal(seen[:9], np.rint(colours * opacity + 255 * (1 - opacity)))


def test_srgb_and_untagged_photos_are_not_converted(photo: Pixels) -> None:
    for space in (
        ColourSpace("rgb"),
        ColourSpace("rgb", SRGB),
        ColourSpace("rgb", b"no profile at all"),
    ):
        assert np.array_equal(colour.to_srgb8(photo, space), photo)
        assert np.array_equal(colour.to_photo_space(photo, photo, spot_in(photo), space), photo)


def test_a_wide_gamut_photo_is_seen_as_a_viewer_shows_it(photo: Pixels) -> None:
    tagged = Image.open(io.BytesIO(encoded(photo, icc_profile=PROFILES["Rec. 2020"])))
    shown = ImageCms.profileToProfile(
        tagged,
        ImageCms.getOpenProfile(io.BytesIO(PROFILES["Rec. 2020"])),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert shown is not None
    seen = colour.to_srgb8(photo, ColourSpace("rgb", PROFILES["Rec. 2020"]))
    assert np.abs(seen.astype(int) - np.asarray(shown)).max() <= 1


def test_a_cmyk_surface_is_filled_with_its_own_ink() -> None:
    """The same grey can be black ink alone or three inks; the fill takes what surrounds it."""
    for ink in ((0, 0, 0, 120), (120, 110, 110, 0)):
        sheet = np.full((160, 240, 4), ink, np.uint8)
        spot = spot_in(sheet)
        sheet[spot] = (0, 255, 255, 0)
        picture = Image.frombytes("CMYK", (240, 160), sheet.tobytes())
        source = encoded(picture, format="TIFF", compression="tiff_lzw")
        assert np.abs(cleaned(source, spot).astype(int) - ink).max() <= 2


def test_sixteen_bits_blend_in_sixteen_bits() -> None:
    ramp = np.linspace(10_000, 50_000, 240).astype(np.uint16)
    source = bytes(imagecodecs.png_encode(np.ascontiguousarray(np.broadcast_to(ramp, (160, 240)))))
    plain = decode_photo(source, 100, "x").pixels
    spot = spot_in(plain)
    result = cleaned(source, spot, "mask.feather_px=12")
    near = np.zeros_like(spot)
    near[40:130, 70:170] = True
    assert np.array_equal(result[~near], plain[~near])
    assert np.abs(result.astype(int) - plain).max() < 3000
    assert (result[spot | near] % 257 != 0).any(), "the feather is not rounded to 8 bits"


@pytest.mark.parametrize("premultiplied", [False, True])
def test_transparent_parts_stay_and_nothing_is_copied_from_them(premultiplied: bool) -> None:
    """A cut-out product: what lies under the transparent part is green, and must not be seen."""
    pixels = np.zeros((160, 240, 4), np.uint8)
    pixels[..., 1] = 0 if premultiplied else 255
    pixels[:, 60:] = (180, 40, 30, 255)
    spot = np.zeros((160, 240), np.bool_)
    spot[50:100, 40:90] = True  # half on the product, half on nothing
    pixels[spot & (pixels[..., 3] > 0)] = (255, 255, 255, 255)
    if premultiplied:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, photometric="rgb", extrasamples=["assocalpha"])
        source = buffer.getvalue()
    else:
        source = encoded(pixels)
    result = cleaned(source, spot)
    assert np.array_equal(result[..., 3], pixels[..., 3])
    assert np.array_equal(result[:, :60], pixels[:, :60])
    assert np.abs(result[:, 60:].astype(int) - (180, 40, 30, 255)).max() <= 2


def test_half_transparent_paint_is_multiplied_where_the_file_is() -> None:
    pixels = np.full((160, 240, 4), (90, 20, 15, 128), np.uint8)  # (180, 40, 30) at one half
    spot = spot_in(pixels)
    pixels[spot] = (128, 128, 128, 128)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb", extrasamples=["assocalpha"])
    result = cleaned(buffer.getvalue(), spot)
    assert np.abs(result.astype(int) - (90, 20, 15, 128)).max() <= 2


def test_what_was_erased_from_a_photo_is_painted_and_shows() -> None:
    """The photo's own alpha as mask: someone rubbed the object out in an editor."""
    wall = np.full((160, 240, 4), (180, 40, 30, 255), np.uint8)
    spot = spot_in(wall)
    wall[spot] = (9, 200, 9, 0)
    result = cleaned(encoded(wall), None, "mask.channel=alpha", "mask.polarity=dark")
    assert np.array_equal(result, np.full_like(wall, (180, 40, 30, 255)))


def test_a_profile_that_works_in_one_direction_only_is_ignored(photo: Pixels) -> None:
    """As those of many scanners, which have no way back; here, because all is black."""
    profile, spot = bytearray(SRGB), spot_in(photo)
    for tag in (b"rXYZ", b"gXYZ", b"bXYZ"):
        entry = profile.index(tag)  # name, position and size; the numbers follow 8 bytes
        start = int.from_bytes(profile[entry + 4 : entry + 8], "big") + 8
        profile[start : start + 12] = bytes(12)
    result = cleaned(encoded(Image.fromarray(photo), icc_profile=bytes(profile)), spot)
    assert np.array_equal(result, cleaned(encoded(Image.fromarray(photo)), spot))
