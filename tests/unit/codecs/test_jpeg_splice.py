"""JPEG without generation loss, judged by jpeglib, which decodes with a libjpeg of its own."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import jpeglib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.arrays import BoolMask, UInt8Array
from stages.codecs.errors import DamagedError, UnsupportedError, VerificationError
from stages.codecs.jpeg import splice as splice_module
from stages.codecs.jpeg.markers import split_metadata
from stages.codecs.jpeg.splice import splice
from tests.support import DEMO, encoded, upright_rgb
from tests.support.files.coefficients import coefficients_of, header_of

Planes = list[npt.NDArray[np.int16]]
SIZES = [(301, 443), (64, 64), (17, 9), (8, 200), (1, 1)]


@pytest.fixture(scope="module")
def photo() -> UInt8Array:
    return upright_rgb(DEMO / "photos" / "fig-bowl-sticker-date.jpg")


def pixels_of(jpeg: bytes) -> UInt8Array:
    with Image.open(io.BytesIO(jpeg)) as picture:
        pixels = np.array(picture)
    return pixels.reshape(*pixels.shape[:2], -1)


def referee(jpeg: bytes, folder: Path) -> Planes:
    """The coefficients as jpeglib reads them: ``(rows, columns, 8, 8)`` each."""
    path = folder / "referee.jpg"
    path.write_bytes(jpeg)
    with jpeglib.version("turbo210"):
        read = jpeglib.read_dct(str(path))
        planes = (read.Y, read.Cb, read.Cr, read.K)
    return [np.asarray(plane) for plane in planes if plane is not None]


def masks(height: int, width: int) -> dict[str, BoolMask]:
    """Small, large, at each border, and whole."""
    ys, xs = np.mgrid[:height, :width]
    disc = (ys - height * 0.4) ** 2 + (xs - width * 0.6) ** 2
    return {
        "pixel": (ys == height // 2) & (xs == width // 2),
        "small": disc < (0.1 * min(height, width)) ** 2 + 1,
        "large": disc < (0.5 * min(height, width)) ** 2 + 1,
        "corner": (ys >= height - 3) & (xs >= width - 3),
        "top left": (ys < 5) & (xs < 9),
        "whole": np.ones((height, width), np.bool_),
    }


def touched_blocks(
    mask: BoolMask, subsampling: tuple[int, int], rows: int, columns: int
) -> BoolMask:
    """Blocks of a component in which a sample has a masked pixel."""
    grid = np.zeros((rows, columns), np.bool_)
    ys, xs = np.nonzero(mask)
    grid[ys // (8 * subsampling[1]), xs // (8 * subsampling[0])] = True
    return grid


def assert_spliced(source: bytes, mask: BoolMask, folder: Path) -> None:
    before = pixels_of(source)
    edited = before.copy()
    edited[mask] = 255 - edited[mask] // 2
    result = splice(source, edited, mask)
    old, new = referee(source, folder), referee(result, folder)
    assert len(old) == len(new)
    header, made = header_of(source), header_of(result)
    for number, (was, now) in enumerate(zip(old, new, strict=True)):
        assert was.shape == now.shape
        may_change = touched_blocks(mask, header.subsampling_of(number), *was.shape[:2])
        assert np.array_equal(was[~may_change], now[~may_change])
    assert made == header
    assert split_metadata(result)[::2] == split_metadata(source)[::2]
    if mask.sum() > 400:  # a single pixel cannot be told in a coarse table
        assert np.abs(pixels_of(result).astype(int) - edited)[mask].mean() < 25
    if mask.mean() < 0.1 and mask.size > 100_000:
        assert len(result) < 1.05 * len(source) + 200


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
@pytest.mark.parametrize("kind", ["4:4:4", "4:2:2", "4:2:0", "grey"])
@pytest.mark.parametrize("quality", [35, 75, 95])
def test_blocks_outside_the_mask_keep_their_coefficients(
    photo: UInt8Array, kind: str, quality: int, size: tuple[int, int], tmp_path: Path
) -> None:
    picture = Image.fromarray(np.ascontiguousarray(photo[400 : 400 + size[0], 300 : 300 + size[1]]))
    options = {"subsampling": kind} if ":" in kind else {}
    picture = picture if options else picture.convert("L")
    for progressive in (False, True):
        source = encoded(
            picture,
            format="JPEG",
            quality=quality,
            progressive=progressive,
            comment=b"as it was",
            **options,
        )
        for mask in masks(*size).values():
            assert_spliced(source, mask, tmp_path)


@pytest.mark.parametrize("sampling", ["440", "411"])
def test_unusual_sampling_is_exact_or_refused(
    photo: UInt8Array, sampling: str, tmp_path: Path
) -> None:
    flag = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
    _, coded = cv2.imencode(
        ".jpg", photo[400:700, 300:700], [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, flag]
    )
    for mask in masks(300, 400).values():
        assert_spliced(coded.tobytes(), mask, tmp_path)


def test_restart_markers_are_exact(photo: UInt8Array, tmp_path: Path) -> None:
    _, coded = cv2.imencode(
        ".jpg", np.ascontiguousarray(photo[:300, :400]), [cv2.IMWRITE_JPEG_RST_INTERVAL, 5]
    )
    source = coded.tobytes()
    assert header_of(source).restart_interval
    for mask in masks(300, 400).values():
        assert_spliced(source, mask, tmp_path)


@pytest.mark.parametrize("colour_space", ["cmyk", "ycck", "rgb"])
@pytest.mark.parametrize("progressive", [False, True])
def test_other_colours_are_exact(
    photo: UInt8Array, colour_space: str, progressive: bool, tmp_path: Path
) -> None:
    picture = Image.fromarray(photo[:120, :200]).convert("RGB" if colour_space == "rgb" else "CMYK")
    source = encoded(
        picture, format="JPEG", quality=90, keep_rgb=colour_space == "rgb", progressive=progressive
    )
    if colour_space == "ycck":  # the same planes, which now mean something else
        at = source.index(b"Adobe") + 11
        source = source[:at] + b"\2" + source[at + 1 :]
    assert header_of(source).colour_space == colour_space
    for mask in masks(120, 200).values():
        assert_spliced(source, mask, tmp_path)


def test_arithmetic_coding_is_refused(photo: UInt8Array, tmp_path: Path) -> None:
    path = tmp_path / "source.jpg"
    path.write_bytes(encoded(Image.fromarray(photo[:120, :200]), format="JPEG", quality=80))
    with jpeglib.version("turbo210"):
        jpeglib.read_dct(str(path)).write_dct(str(path), flags=["+ARITH_CODE"])
    with pytest.raises(UnsupportedError, match="frame type SOF9"):
        splice(path.read_bytes(), photo[:120, :200], masks(120, 200)["small"])


def test_tables_that_change_between_scans_are_refused(photo: UInt8Array) -> None:
    """libjpeg could write one of them only."""
    source = encoded(Image.fromarray(photo[:64, :64]), format="JPEG", progressive=True)
    table = source[source.index(b"\xff\xdb") :][:69]
    scans = [at for at in range(len(source)) if source[at : at + 2] == b"\xff\xda"]
    changed = source[: scans[-1]] + table[:5] + bytes([7] * 64) + source[scans[-1] :]
    with pytest.raises(UnsupportedError, match="tables change"):
        splice(changed, photo[:64, :64], masks(64, 64)["large"])


def test_wide_tables_and_odd_numbers_are_exact(photo: UInt8Array, tmp_path: Path) -> None:
    """Steps over 255; components by other names; a grey plane with sampling factors."""
    colour = encoded(
        Image.fromarray(photo[:120, :200]),
        format="JPEG",
        qtables=[[300] * 64, [5] * 64],
        subsampling="4:2:0",
    )
    assert max(header_of(colour).components[0].table) == 300
    frame, scan = colour.index(b"\xff\xc1"), colour.index(b"\xff\xda")
    renamed = bytearray(colour)
    for number, identifier in enumerate((82, 0, 255)):
        renamed[frame + 10 + 3 * number] = renamed[scan + 5 + 2 * number] = identifier
    grey = bytearray(encoded(Image.fromarray(photo[:120, :200, 0]), format="JPEG"))
    grey[grey.index(b"\xff\xc0") + 11] = 0x22
    for source in (colour, bytes(renamed), bytes(grey)):
        for mask in masks(120, 200).values():
            assert_spliced(source, mask, tmp_path)


def test_a_scan_for_each_component_is_exact(photo: UInt8Array, tmp_path: Path) -> None:
    """Not interleaved, as some cameras and scanners write."""
    planes = [np.ascontiguousarray(photo[:120, :200, i]) for i in range(3)]
    parts = [encoded(Image.fromarray(plane), format="JPEG", quality=80) for plane in planes]
    scans = [part[part.index(b"\xff\xda") : -2] for part in parts]
    frame = parts[0].index(b"\xff\xc0")
    head = b"\xff\xc0\0\x11\x08" + parts[0][frame + 5 : frame + 9] + b"\3"
    head += b"".join(bytes([i + 1, 0x11, 0]) for i in range(3))
    named = [scan[:5] + bytes([i + 1]) + scan[6:] for i, scan in enumerate(scans)]
    tables = parts[0][frame + 13 : parts[0].index(b"\xff\xda")]
    source = b"".join([parts[0][:frame], head, tables, *named, b"\xff\xd9"])
    for mask in masks(120, 200).values():
        assert_spliced(source, mask, tmp_path)


def test_a_table_with_a_zero_is_damage(photo: UInt8Array) -> None:
    source = bytearray(encoded(Image.fromarray(photo[:64, :64]), format="JPEG"))
    source[source.index(b"\xff\xdb") + 20] = 0
    with pytest.raises(DamagedError, match="zero"):
        splice(bytes(source), photo[:64, :64], masks(64, 64)["large"])


def test_real_files_keep_segments_and_what_follows_them(tmp_path: Path) -> None:
    for path in sorted((DEMO / "photos").glob("*.jpg")):
        source = path.read_bytes() + b"MAKER NOTES BEHIND THE IMAGE"
        header = header_of(source)
        mask = masks(header.height, header.width)["small"]
        assert_spliced(source, mask, tmp_path)
        assert splice(source, pixels_of(source), mask).endswith(b"MAKER NOTES BEHIND THE IMAGE")


def test_an_empty_mask_returns_the_same_bytes(photo: UInt8Array) -> None:
    source = encoded(Image.fromarray(photo), format="JPEG")
    assert splice(source, photo, np.zeros(photo.shape[:2], np.bool_)) == source


def test_an_unchanged_picture_stays_as_it_was_within_its_quantisation(photo: UInt8Array) -> None:
    source = encoded(Image.fromarray(photo), format="JPEG", quality=90, subsampling="4:4:4")
    mask = masks(*photo.shape[:2])["large"]
    result = splice(source, pixels_of(source), mask)
    difference = np.abs(pixels_of(result).astype(int) - pixels_of(source))
    assert difference.max() <= 6, "rounding to 8 bits"
    assert difference.mean() < 0.1, "and no generation loss"


def test_our_reader_and_the_referee_agree(tmp_path: Path) -> None:
    source = (DEMO / "photos" / "coffee-stray-coins.jpg").read_bytes()
    for ours, theirs in zip(coefficients_of(source), referee(source, tmp_path), strict=True):
        assert np.array_equal(ours.reshape(theirs.shape), theirs)


def test_threads_do_not_disturb_each_other(photo: UInt8Array) -> None:
    sources = [encoded(Image.fromarray(photo[i : i + 200, :300]), format="JPEG") for i in range(8)]
    mask = masks(200, 300)["large"]

    def work(source: bytes) -> bytes:
        return splice(source, 255 - pixels_of(source), mask)

    alone = [work(source) for source in sources]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, sources * 4)) == alone * 4


def _fuzzed() -> list[bytes]:
    """Progressive, with restart markers, and of four inks."""
    pixels = upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg")[:96, :144]
    picture = Image.fromarray(pixels)
    progressive = encoded(picture, format="JPEG", quality=80, progressive=True)
    return [
        progressive,
        cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_RST_INTERVAL, 5])[1].tobytes(),
        encoded(picture.convert("CMYK"), format="JPEG", quality=80),
    ]


@settings(max_examples=5 * settings().max_examples)
@given(
    source=st.sampled_from(_fuzzed()),
    keep=st.floats(0.05, 1),
    changes=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(1, 255)), min_size=1, max_size=6),
)
def test_mutants_are_refused_or_exact_and_never_repaired(
    source: bytes, keep: float, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(source)
    for position, change in changes:
        data[int(position * len(data))] ^= change
    mutant = bytes(data[: int(keep * len(data))]) if keep < 0.9 else bytes(data)
    mask = masks(96, 144)["small"]
    edited = np.zeros((96, 144, len(header_of(source).components)), np.uint8)
    try:
        result = splice(mutant, edited, mask)
    except (DamagedError, UnsupportedError, VerificationError, ValueError):
        return
    # What was accepted was read without a warning, so all of it is in the result.
    header = header_of(mutant)
    planes = zip(coefficients_of(mutant), coefficients_of(result), strict=True)
    for number, (was, now) in enumerate(planes):
        stays = ~touched_blocks(mask, header.subsampling_of(number), *was.shape[:2])
        assert np.array_equal(was[stays], now[stays])


def test_coefficients_do_not_depend_on_the_order_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which differs between processors. Even surfaces give exact halves, to be rounded alike."""
    rng = np.random.default_rng(8)
    old = rng.integers(-60, 60, (20_000, 64), np.int16)
    samples = rng.integers(0, 256, (20_000, 64)).astype(np.float32)
    old[:9_000, 1:], samples[:9_000] = 0, samples[:9_000, :1]
    weights = np.where(rng.random((20_000, 64)) < 0.5, 1, rng.random((20_000, 64)))
    weights[:9_000] = 1
    steps = tuple(int(step) for step in rng.integers(1, 30, 64))
    expected = splice_module._edited(old, samples, weights.astype(np.float32), steps)
    at, of = rng.permutation(64), np.r_[0, 1 + rng.permutation(63)]
    forward, inverse = splice_module._FORWARD, splice_module._INVERSE
    monkeypatch.setattr(splice_module, "_FORWARD", forward[at][:, of])
    monkeypatch.setattr(splice_module, "_INVERSE", inverse[of][:, at])
    shuffled = tuple(steps[number] for number in of)
    found = splice_module._edited(
        old[:, of], samples[:, at], weights[:, at].astype(np.float32), shuffled
    )
    assert np.array_equal(found, expected[:, of])
