"""Comparing files, listing their previews, and damaged files, by the thousand."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from manifests.errors import RowError
from stages.codecs.jpeg.markers import split_metadata
from stages.codecs.stale.jpeg import refresh_jpeg
from stages.recipe.options import MetadataOptions
from stages.verify import unexplained_differences
from stages.verify.containers import list_metadata
from tests.support import DEMO, encoded
from tests.support.files.metadata_files import (
    DROP,
    EDITED,
    MARK,
    OLD,
    ORDERS,
    REBUILD,
    REFUSE,
    app1_xmp,
    distance,
    full_file,
    jpeg,
    photo,
    policy_for,
    previews,
    refreshed,
    refreshed_exif,
    segment,
    with_thumbnail,
    xmp,
)


@pytest.mark.parametrize("path", sorted((DEMO / "photos").glob("*.jpg")), ids=lambda p: p.stem)
def test_demo_photos_come_back_to_the_byte(path: Path) -> None:
    data = path.read_bytes()
    found, body, behind = split_metadata(data)
    segments, _ = refresh_jpeg(found, b"", policy_for(EDITED, REFUSE))
    assert b"".join([b"\xff\xd8", *segments, body, behind]) == data
    assert all(new is old for new, old in zip(segments, found, strict=True))


@pytest.mark.parametrize("options", [REBUILD, DROP, MARK])
def test_no_difference_is_found_but_a_real_one(options: MetadataOptions) -> None:
    data = full_file()
    result, state = refreshed(data, options)
    assert len(state.notes) >= 7
    source, note, marks = list_metadata(data), "; ".join(state.notes), options.mark_edit
    assert unexplained_differences(source, list_metadata(result), note, labels_edit=marks) == []
    assert bool(unexplained_differences(source, list_metadata(result), note)) == marks
    for forgotten in state.notes:
        less = "; ".join(each for each in state.notes if each != forgotten)
        assert unexplained_differences(source, list_metadata(result), less, labels_edit=marks), (
            forgotten
        )
    for old, new, name in (
        (b"a comment", b"A comment", "comment"),
        (b"Camera\0", b"camera\0", "EXIF 0/271"),
        (b'dc:format="a', b'dc:format="b', "XMP {http://purl.org/dc/elements/1.1/}format"),
        (bytes(range(40, 60)), bytes(20), "EXIF 0/Exif/37500"),  # the maker note
        (b"JFIF\0\1\1\0\0\1", b"JFIF\0\1\1\1\0\1", "JFIF"),
    ):
        assert old in result
        spoiled = list_metadata(result.replace(old, new, 1))
        assert unexplained_differences(source, spoiled, note, labels_edit=marks) == [name]


def test_parts_of_png_webp_and_tiff_have_the_same_names() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a cup"
    packet = xmp("dc:rights='x'")
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=True)
    text.add_text("Article", "4711")
    common = {"exif": exif, "icc_profile": b"profile" * 30}
    tags = {700: packet, 270: "a cup"}
    files = {
        "PNG": encoded(OLD, pnginfo=text, dpi=(300, 300), **common),
        "WEBP": encoded(OLD, format="WEBP", xmp=packet, **common),
        "AVIF": encoded(OLD, format="AVIF", xmp=packet, **common),
        "TIFF": encoded(
            OLD, format="TIFF", tiffinfo=tags, dpi=(300, 300), icc_profile=b"profile" * 30
        ),
    }
    wanted = {k: v for k, v in list_metadata(photo(app1_xmp(packet))).values.items() if "XMP" in k}
    assert len(wanted) == 3
    for name, data in files.items():
        found = list_metadata(data).values
        assert {k: v for k, v in found.items() if "XMP" in k} == wanted, name
        assert found["EXIF 0/270"] == b"a cup", name
        assert found["ICC"] == b"profile" * 30, name
    found = list_metadata(files["PNG"]).values
    assert found["chunk tEXt Article"] == b"4711"
    assert "chunk pHYs" in found


def test_previews_are_found_in_every_format() -> None:
    block = b"Exif\0\0" + with_thumbnail("<", jpeg(OLD, (160, 107)))
    assert [name.partition("Thumb")[0] for name, _ in previews(full_file())] == [
        "JFIF thumbnail",
        "EXIF 1/samples",
        "XMP {http://ns.adobe.com/xap/1.0/}",
        "C2PA",
        "C2PA #2",
        "8BIM 1036",
        "after the end",
        "after the end",
        "after the end",
    ]
    for form in ("PNG", "WEBP"):
        ((name, picture),) = previews(encoded(OLD, format=form, exif=block))
        assert name == "EXIF 1/samples"
        assert picture is not None
        assert distance(picture, OLD) < 9


FULL = full_file()
FLIPS = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6)


def shows_old(picture: Image.Image | None) -> bool:
    return picture is not None and min(picture.size) >= 30 and distance(picture, OLD) < 12


def test_a_maker_note_may_go_with_its_preview_but_no_other_tag() -> None:
    note = bytes(range(1, 99)) + jpeg(OLD, (60, 40)) + b"serial"
    rows = 8 + 2 + 24 + 4
    block = b"II*\0\x08\0\0\0" + struct.pack("<HHHI4s", 2, 271, 2, 4, b"Bob\0")
    block += struct.pack("<HHII", 0x927C, 7, len(note), rows) + bytes(4)
    data = photo(segment(0xE1, b"Exif\0\0" + block + note))
    result, state = refreshed(data)
    assert state.notes == ["tag 37500 with a picture dropped"]
    source, told = list_metadata(data), "; ".join(state.notes)
    assert unexplained_differences(source, list_metadata(result), told) == []
    assert unexplained_differences(source, list_metadata(result), "") == ["EXIF 0/37500"]
    spoiled = result.replace(b"Bob", b"Rob", 1)
    assert unexplained_differences(source, list_metadata(spoiled), told) == ["EXIF 0/271"]


@settings(max_examples=5 * settings().max_examples)
@given(flips=FLIPS, keep=st.floats(0.3, 1), options=st.sampled_from([REBUILD, DROP, REFUSE, MARK]))
def test_damaged_files_show_no_old_picture_and_raise_nothing_else(
    flips: list[tuple[float, int]], keep: float, options: MetadataOptions
) -> None:
    """Damage is done to each segment and to the trailer, so that the file can still be walked."""
    found, _, behind = split_metadata(FULL)
    pieces = [*found, behind]
    lengths = [len(piece) for piece in pieces]
    for position, value in flips:
        at = int(position * (sum(lengths) - 1))
        number = next(i for i in range(len(pieces)) if at < sum(lengths[: i + 1]))
        inside = max(4, at - sum(lengths[:number]))
        piece = pieces[number]
        pieces[number] = piece[:inside] + bytes([value]) + piece[inside + 1 :]
    trailer = pieces.pop()
    trailer = trailer[: int(keep * len(trailer))]
    with contextlib.suppress(RowError):
        policy = policy_for(EDITED, options)
        segments, trailer = refresh_jpeg(pieces, trailer, policy)
        body = split_metadata(jpeg(EDITED))[1]
        result = b"".join([b"\xff\xd8", *segments, body, trailer])
        assert not [name for name, picture in previews(result) if shows_old(picture)]
        unexplained_differences(list_metadata(FULL), list_metadata(result), "")


BLOCKS = [with_thumbnail(order, jpeg(OLD, (160, 107)), b"tail") for order in ORDERS]


@settings(max_examples=5 * settings().max_examples)
@given(which=st.integers(0, 1), flips=FLIPS, keep=st.floats(0, 1), drop=st.booleans())
def test_damaged_exif_shows_no_old_picture(
    which: int, flips: list[tuple[float, int]], keep: float, drop: bool
) -> None:
    """Half of the damage is done to the tags, where it does most."""
    block = bytearray(BLOCKS[which])
    for number, (position, value) in enumerate(flips):
        block[int(position * (len(block) if number % 2 else 160))] = value
    cut = bytes(block[: int((0.5 + keep) * len(block))])
    result, _ = refreshed_exif(cut, EDITED, DROP if drop else REBUILD)
    start = result.find(b"\xff\xd8\xff")
    while start >= 0:
        with contextlib.suppress(Exception), Image.open(io.BytesIO(result[start:])) as picture:
            picture.load()
            assert not shows_old(picture)
        start = result.find(b"\xff\xd8\xff", start + 1)


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff\xd8\xff" * 300_000,
        b"\xff\xd8\xff\xe0\x00\x08" * 200_000,
        b"\0\0\0\x08ftypmp42" * 80_000,
        b"8BIM" * 200_000,
        b"\xff\xd8\xff\xc0\x00\x02\xff\xda\x00\x02" * 100_000,
    ],
    ids=["soi", "app0", "ftyp", "8bim", "scans"],
)
def test_nothing_takes_long(junk: bytes) -> None:
    """Work that grows with the square of these lengths takes hours: pytest stops the test."""
    block = junk[:65_000]
    data = photo(
        segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + block),
        segment(0xED, b"Photoshop 3.0\0" + block),
        app1_xmp(block),
        segment(0xE7, block),
    )
    segments, _, _ = split_metadata(data)
    for trailer in (junk, bytes(20) + junk):
        refresh_jpeg(segments, trailer, policy_for(EDITED, REBUILD))
