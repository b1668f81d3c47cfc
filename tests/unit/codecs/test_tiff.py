"""TIFF in and out: strips, tiles, pages and tags, judged by tifffile and Pillow."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from manifests.errors import RowError
from stages.arrays import BoolMask, Samples
from stages.codecs.decode import decode_photo
from stages.codecs.picture import Decoded
from stages.recipe import Recipe
from tests.support import encoded
from tests.support.files.corpus import SRGB, XMP, deep
from tests.support.files.editing import edited, read_tiff, tiff, with_alpha, written

Pixels = npt.NDArray[np.uint8]


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
    "lzma": (lambda photo: photo, {"photometric": "rgb", "compression": "lzma"}),
    "a spot colour": (
        lambda photo: np.concatenate([photo, photo[..., ::-1]], axis=2)[..., :4],
        {"photometric": "rgb", "extrasamples": ["unspecified"], "compression": "lzw"},
    ),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_tiffs_keep_every_sample_and_every_tag(photo: Pixels, spot: BoolMask, kind: str) -> None:
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
    photo: Pixels, spot: BoolMask
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


def test_nothing_of_an_old_strip_is_left(spot: BoolMask) -> None:
    flat = np.full((*spot.shape, 3), 200, np.uint8)  # compresses to less than what replaces it
    source = tiff(flat, photometric="rgb", compression="zlib", rowsperstrip=16)
    decoded = decode_photo(source, 100, "x")
    pixels = decoded.pixels.copy()
    pixels[spot] = np.random.default_rng(2).integers(0, 255, (int(spot.sum()), 3))
    new = Decoded(pixels, 1, decoded.space)
    made = written(source, new, spot, Recipe.load("telea")).data
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


@pytest.mark.parametrize("kind", ["flat", "photo", "16 bit"])
def test_runs_of_packbits_end_with_their_row(photo: Pixels, spot: BoolMask, kind: str) -> None:
    """As TIFF 6.0 requires: decoders of rows lose the rest of a run, though Pillow does not."""
    pixels: Samples = np.full_like(photo, 200) if kind == "flat" else photo
    pixels = deep(pixels) if kind == "16 bit" else pixels
    _, made = edited(tiff(pixels, photometric="rgb", compression="packbits", rowsperstrip=16), spot)
    with tifffile.TiffFile(io.BytesIO(made.data)) as reader:
        page = reader.pages[0].aspage()
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        strips = [made.data[start : start + size] for start, size in places]
    row_bytes = pixels[0].nbytes
    for strip in strips:
        position = decoded = 0
        while position < len(strip):
            header = strip[position]
            count = header + 1 if header < 128 else 257 - header
            position += 1 + count if header < 128 else 2
            assert header == 128 or decoded % row_bytes + count <= row_bytes
            decoded += count * (header != 128)
    assert np.array_equal(read_tiff(made.data)[~spot], pixels[~spot])


def with_type(source: bytes, tag: int, kind: int, *, packed: str = "") -> bytes:
    """A little-endian TIFF whose tag has another type; ``packed``: its format in struct."""
    data = bytearray(source)
    with tifffile.TiffFile(io.BytesIO(source)) as reader:
        found = reader.pages[0].aspage().tags[tag]
    struct.pack_into("<H", data, found.offset + 2, kind)
    if packed:
        values = found.value
        struct.pack_into(f"<{len(values)}{packed}", data, found.valueoffset, *values)
    return bytes(data)


@pytest.mark.parametrize("kind", [1, 2, 7], ids=["BYTE", "ASCII", "UNDEFINED"])
def test_xmp_of_any_type_of_bytes_is_carried_over(photo: Pixels, spot: BoolMask, kind: int) -> None:
    source = tiff(photo, photometric="rgb", extratags=[(700, 1, len(XMP), XMP, True)])
    _, made = edited(with_type(source, 700, kind), spot, "output.format=png")
    with Image.open(io.BytesIO(made.data)) as after:
        assert b"dc/elements" in after.info["xmp"]


@pytest.mark.parametrize("tag", [273, 279], ids=["offsets", "sizes"])
def test_lists_of_strips_that_are_too_narrow_for_the_new_ones_are_refused(tag: int) -> None:
    noise = np.random.default_rng(3).integers(0, 255, (256, 300, 3), np.uint8)
    flat = np.full_like(noise, 9)
    source = tiff(flat, photometric="rgb", compression="zlib", rowsperstrip=90)
    source = with_type(source, tag, 3, packed="H")
    decoded = decode_photo(source, 1, "x")
    everywhere = np.ones((256, 300), np.bool_)
    with pytest.raises(RowError, match=f"tag {tag} has 16 bits") as caught:
        written(source, Decoded(noise, 1, decoded.space), everywhere, Recipe.load("telea"))
    assert caught.value.code == "image.unsupported"


def test_further_pages_of_a_tiff_stay_and_smaller_copies_do_not(
    photo: Pixels, spot: BoolMask
) -> None:
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
            assert len(pages) == 2
            assert not pages[0].pages
        assert made.metadata_notes == ["smaller copies dropped"]
        assert small[20].tobytes() not in made.data
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
    photo: Pixels, spot: BoolMask, options: dict[str, Any], why: str
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


def test_a_tiff_whose_white_is_zero_is_refused(photo: Pixels) -> None:
    with pytest.raises(RowError, match="MINISWHITE") as caught:
        decode_photo(tiff(photo[..., 0], photometric="miniswhite"), 100, "x")
    assert caught.value.code == "image.unsupported"


def test_a_page_that_lacks_strips_is_damaged(photo: Pixels) -> None:
    """Its one strip is said to be one plane of three."""
    data = bytearray(tiff(photo, photometric="rgb"))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as reader:
        place = reader.pages[0].aspage().tags[284].valueoffset
    data[place : place + 2] = struct.pack("<H", 2)
    with pytest.raises(RowError, match="do not cover the page") as caught:
        decode_photo(bytes(data), 100, "x")
    assert caught.value.code == "image.corrupt"


def test_a_big_tiff_is_refused(photo: Pixels) -> None:
    with pytest.raises(RowError, match="it is a BigTIFF") as caught:
        decode_photo(tiff(photo, photometric="rgb", bigtiff=True), 100, "x")
    assert caught.value.code == "image.unsupported"


def test_pages_that_share_their_strips_are_refused(photo: Pixels, spot: BoolMask) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(photo, photometric="rgb", metadata=None, rowsperstrip=50)
        writer.write(photo, photometric="rgb", metadata=None, rowsperstrip=50)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as reader:
        first, second = (page.aspage() for page in reader.pages)
        at, other = first.tags[273].valueoffset, second.tags[273].valueoffset
    data[other : other + 20] = data[at : at + 20]
    with pytest.raises(RowError, match="overlap in the file"):
        edited(bytes(data), spot)


def test_iptc_with_a_preview_is_dropped_from_a_tiff(photo: Pixels, spot: BoolMask) -> None:
    small = encoded(Image.fromarray(photo).resize((64, 48)), format="JPEG")
    iptc = b"\x1c\x02\x05\0\5Bowls" + b"\x1c\x02\xca" + struct.pack(">H", len(small)) + small
    extra = [(33723, 7, len(iptc), iptc, True)]
    _, made = edited(tiff(photo, photometric="rgb", extratags=extra), spot)
    assert made.metadata_notes == ["tag 33723 with a picture dropped"]
    assert small[:200] not in made.data


@pytest.mark.parametrize("name", ["lzw", "zstd tiles", "16 bit, deflate, big-endian"])
def test_a_tag_of_another_type_or_count_is_an_error_of_the_file(
    name: str, photo: Pixels, spot: BoolMask
) -> None:
    """Each tag of the page in turn: as text, a fraction or a float, without or with many values."""
    prepare, options = TIFFS[name]
    source = tiff(prepare(photo), **options)
    order = ">" if source[:2] == b"MM" else "<"
    (first,) = struct.unpack_from(f"{order}I", source, 4)
    (count,) = struct.unpack_from(f"{order}H", source, first)
    for entry in range(first + 2, first + 2 + 12 * count, 12):
        for kind in (2, 3, 4, 5, 12):
            for values in (0, 1, 2, 9):
                damaged = bytearray(source)
                struct.pack_into(f"{order}HI", damaged, entry + 2, kind, values)
                with contextlib.suppress(RowError):
                    decoded = decode_photo(bytes(damaged), 1, "x")
                    changed = np.zeros(decoded.pixels.shape[:2], np.bool_)
                    changed[: len(changed) // 2] = True
                    written(bytes(damaged), decoded, changed, Recipe.load("telea"))
