"""Whole files after an edit: further pictures, gain maps, videos, signatures; and comparing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, MpoImagePlugin, PngImagePlugin

from manifests.errors import RowError
from stages.codecs.jpeg_header import read_header
from stages.codecs.metadata.compare import comparable
from stages.codecs.metadata.exif import settle_exif
from stages.codecs.metadata.jpeg import Settled, settle_jpeg
from stages.codecs.metadata.previews import previews
from stages.recipe import MetadataOptions
from tests.support import DEMO, encoded, upright_rgb
from tests.test_metadata import (
    DIRECTORY,
    DROP,
    MARK,
    NAMESPACES,
    ORDERS,
    REBUILD,
    REFUSE,
    Order,
    assert_shows,
    distance,
    jpeg,
    photoshop_thumbnail,
    resource,
    thumbnail_of,
    thumbnails,
    with_thumbnail,
    xmp,
)

OLD = Image.fromarray(upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg"))
EDITED = OLD.copy()
EDITED.paste((20, 230, 40), (0, 0, OLD.width // 3, OLD.height))


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def app1_xmp(packet: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)


def photo(*segments: bytes, trailer: bytes = b"", picture: Image.Image = OLD) -> bytes:
    """A JPEG with these segments behind Pillow's JFIF segment."""
    coded = jpeg(picture)
    return coded[:20] + b"".join(segments) + coded[20:] + trailer


def settled(
    data: bytes, options: MetadataOptions = REBUILD, edited: Image.Image = EDITED
) -> tuple[bytes, Settled]:
    """The edited file, as a codec would write it."""
    header = read_header(data)
    result = settle_jpeg(
        header.segments,
        data[header.body_end :],
        edited,
        options,
        trailer_start=header.body_end,
    )
    coded = jpeg(edited)
    return result.assemble(coded[read_header(coded).body_start :]), result


def multi_picture(
    order: Order, pictures: list[tuple[int, bytes]], trailer: bytes = b"", gap: bytes = b""
) -> bytes:
    """A file whose index, made by hand, lists pictures of these types behind the photo."""
    count = len(pictures) + 1
    index_size = 8 + 2 + 4 * 12 + 4 + (16 + 33) * count
    photo_size = len(photo(segment(0xE2, b"MPF\0" + bytes(index_size))))
    origin = 20 + 8
    rows, identifiers, position = b"", b"", photo_size + len(gap)
    for number, (kind, data) in enumerate([(0x20030000, b""), *pictures]):
        size, offset = (len(data), position - origin) if number else (photo_size, 0)
        linked = (2, count) if not number else (0, 0)
        rows += struct.pack(order + "IIIHH", kind, size, offset, *linked)
        identifiers += b"%032d\0" % number
        position += len(data)
    at = 8 + 2 + 4 * 12 + 4
    tags = [(0xB000, 7, 4, b"0100"), (0xB001, 4, 1, struct.pack(order + "I", count))]
    tags += [(0xB002, 7, len(rows), struct.pack(order + "I", at))]
    tags += [(0xB003, 7, len(identifiers), struct.pack(order + "I", at + len(rows)))]
    index = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    index += struct.pack(order + "H", len(tags))
    index += b"".join(struct.pack(order + "HHI", *tag[:3]) + tag[3] for tag in tags)
    index += bytes(4) + rows + identifiers
    primary = photo(segment(0xE2, b"MPF\0" + index))
    return primary + gap + b"".join(data for _, data in pictures) + trailer


@pytest.mark.parametrize("order", ORDERS)
def test_listed_previews_are_drawn_anew_and_the_rest_goes(order: Order) -> None:
    tables = [[3] * 64, [5] * 64]
    preview = jpeg(
        OLD, (480, 320), qtables=tables, exif=b"Exif\0\0" + with_thumbnail("<", jpeg(OLD, (96, 64)))
    )
    disparity = jpeg(OLD, (600, 400))
    large = jpeg(OLD.convert("L"), (600, 400))
    data = multi_picture(
        order, [(0x20002, disparity), (0x10001, preview), (0x10002, large)], b"unknown", b"\0" * 7
    )
    with Image.open(io.BytesIO(data)) as before:
        assert isinstance(before, MpoImagePlugin.MpoImageFile)
        assert before.n_frames == 4
    result, state = settled(data)
    assert state.notes == [
        "disparity picture dropped",
        "EXIF thumbnail rebuilt",
        "MPF preview rebuilt",
    ]
    with Image.open(io.BytesIO(result)) as after:
        assert isinstance(after, MpoImagePlugin.MpoImageFile)
        assert after.n_frames == 3
        entries = after._getmp()[0xB002]  # type: ignore[index]
        assert [entry["Attribute"]["MPType"] for entry in entries] == [
            "Baseline MP Primary Image",
            "Large Thumbnail (VGA Equivalent)",
            "Large Thumbnail (Full HD Equivalent)",
        ]
        assert [entry["EntryNo1"] for entry in entries] == [0, 0, 0]
        assert [entry["EntryNo2"] for entry in entries] == [3, 0, 0]
        assert entries[0]["Size"] == read_header(result).body_end
        for frame, size, mode in ((1, (480, 320), "RGB"), (2, (600, 400), "L")):
            after.seek(frame)
            assert (after.size, after.mode) == (size, mode)
            assert_shows(after.copy(), EDITED.convert(mode), OLD.convert(mode))
        after.seek(1)
        assert [list(table) for table in after.quantization.values()] == tables
        inner = thumbnail_of(after.info["exif"][6:])
        assert inner is not None
        assert_shows(inner, EDITED, OLD)
    assert result.endswith(b"unknown")
    assert {name for name, picture in previews(result) if picture} == {"MPF preview"}


def test_what_pillow_writes_as_mpo_is_left_as_one_picture() -> None:
    second = OLD.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    data = encoded(OLD, format="MPO", save_all=True, append_images=[second])
    result, state = settled(data)
    assert state.notes == ["further picture dropped"]
    assert b"MPF\0" not in result
    assert not state.trailer
    assert settled(data, DROP)[1].notes == state.notes
    with pytest.raises(RowError, match="further picture"):
        settled(data, REFUSE)


@pytest.mark.parametrize("options", [REBUILD, DROP])
def test_thumbnails_of_jfif_and_its_extension(options: MetadataOptions) -> None:
    small = OLD.resize((48, 32))
    few = small.quantize(256)
    colours = bytes(few.getpalette() or []).ljust(768, b"\0")
    head = b"JFIF\0\1\2\1\0\x48\0\x48" + bytes([48, 32])
    data = photo(
        segment(0xE0, b"JFXX\0\x10" + jpeg(small)),
        segment(0xE0, b"JFXX\0\x11" + bytes([48, 32]) + colours + few.tobytes()),
        segment(0xE0, b"JFXX\0\x13" + bytes([48, 32]) + small.tobytes()),
    )
    data = data[:2] + segment(0xE0, head + small.tobytes()) + data[20:]
    assert [name for name, _ in previews(data)] == ["JFIF thumbnail"] * 4
    result, state = settled(data, options)
    if options is DROP:
        assert state.notes == ["JFIF thumbnail dropped"]
        assert state.segments == [segment(0xE0, head[:-2] + b"\0\0")]
        return
    assert state.notes == ["JFIF thumbnail rebuilt"]
    assert len(state.segments) == 4
    made = [picture for _, picture in previews(result)]
    made[0] = Image.frombytes("RGB", (48, 32), state.segments[0][18:])
    for picture in made:
        assert picture is not None
        assert_shows(picture, EDITED, OLD)


def jumbf(kind: bytes, number: int, parts: int, size: int = 3000) -> list[bytes]:
    described = kind + bytes.fromhex("00110010800000AA00389B71") + b"\3label\0"
    content = struct.pack(">I", 8 + len(described)) + b"jumd" + described + bytes(size)
    head = struct.pack(">I", 8 + len(content)) + b"jumb"
    step = -(-len(content) // parts)
    return [
        segment(0xEB, b"JP" + struct.pack(">HI", number, 1 + i) + head + content[i * step :][:step])
        for i in range(parts)
    ]


def test_c2pa_goes_and_other_jumbf_stays() -> None:
    other = jumbf(b"json", 2, 2)
    packet = xmp("dcterms:provenance='self#jumbf=/c2pa/x'")
    data = photo(*jumbf(b"c2pa", 1, 3), *other, app1_xmp(packet))
    result, state = settled(data)
    assert state.notes == ["C2PA manifest dropped"]
    assert state.segments[1:] == [*other, app1_xmp(xmp(""))]
    assert [name for name, _ in previews(data)] == ["C2PA manifest"]
    assert previews(result) == []


def ultra_hdr(order: Order = ">") -> bytes:
    packet = app1_xmp(xmp(' hdrgm:Version="1.0"', DIRECTORY % "GainMap"))
    iso = segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0")
    own = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp('hdrgm:GainMapMax="2"'))
    gain_map = photo(own, picture=OLD.convert("L").resize((150, 100)))
    data = multi_picture(order, [(0, gain_map)])
    # What lies before the index moves it and all that it lists alike.
    return data[:20] + packet + iso + data[20:]


def test_a_gain_map_goes_with_all_that_points_to_it() -> None:
    data = ultra_hdr()
    assert [name for name, _ in previews(data)] == ["gain map"]
    result, state = settled(data)
    assert state.notes == ["gain map dropped"]
    assert state.trailer == b""
    assert state.segments[1:] == [app1_xmp(xmp(""))]
    assert previews(result) == []


def mp4() -> bytes:
    boxes = [(b"ftyp", b"mp42\0\0\0\0mp42isom"), (b"mdat", bytes(5000)), (b"moov", bytes(200))]
    return b"".join(struct.pack(">I", 8 + len(body)) + name + body for name, body in boxes)


def samsung(*blocks: tuple[int, bytes, bytes]) -> bytes:
    """Blocks of type, name and data, and the directory that counts backwards from itself."""
    contents = [
        struct.pack("<HHI", 0, kind, len(name)) + name + data for kind, name, data in blocks
    ]
    rows, back = b"", sum(map(len, contents))
    for (kind, _, _), content in zip(blocks, contents, strict=True):
        rows += struct.pack("<HHII", 0, kind, back, len(content))
        back -= len(content)
    head = b"SEFH" + struct.pack("<II", 107, len(blocks)) + rows
    return b"".join(contents) + head + struct.pack("<I", len(head)) + b"SEFT"


def test_motion_photo_videos_go_and_other_trailers_stay() -> None:
    packet = app1_xmp(xmp(' GCamera:MotionPhoto="1"', DIRECTORY % "MotionPhoto"))
    time_block = (0x0A01, b"Image_UTC_Data", b"1600000000000")
    video_block = (0x0A30, b"MotionPhoto_Data", mp4())
    scene_block = (0x0A41, b"Camera_Scene", b"9")
    for trailer, left in (
        (mp4(), b""),
        (b"left by somebody" + mp4(), b"left by somebody"),
        (samsung(time_block, video_block, scene_block), samsung(time_block, scene_block)),
        (jpeg(OLD, (300, 200)) + b"tail", b"tail"),
    ):
        result, state = settled(photo(packet, trailer=trailer))
        assert state.trailer == left
        assert state.segments[1:] == [app1_xmp(xmp(""))]
        assert result.endswith(b"\xff\xd9" + left)
        assert "motion photo video dropped" in state.notes


def extended_xmp(packet: bytes, step: int = 60_000) -> tuple[str, list[bytes]]:
    name = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper()
    name_and_size = name.encode() + struct.pack(">I", len(packet))
    return name, [
        segment(
            0xE1,
            b"http://ns.adobe.com/xmp/extension/\0"
            + name_and_size
            + struct.pack(">I", at)
            + packet[at : at + step],
        )
        for at in range(0, len(packet), step)
    ]


@pytest.mark.parametrize("keeps_more", [True, False])
def test_extended_xmp_loses_its_pictures_and_gets_a_new_name(keeps_more: bool) -> None:
    rdf = f'<rdf:RDF xmlns:rdf="{NAMESPACES["rdf"]}"><rdf:Description xmlns:GImage='
    rdf = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{rdf}"{NAMESPACES["GImage"]}"'
    more = ' xmlns:n="urn:n" n:notes="long"' if keeps_more else ""
    end = "/></rdf:RDF></x:xmpmeta>"
    big = "/9j/" + "A" * 150_000
    old_name, parts = extended_xmp(f'{rdf}{more} GImage:Data="{big}"{end}'.encode())
    new_name, new_parts = extended_xmp(f"{rdf}{more}{end}".encode())
    assert len(parts) == 3
    data = photo(app1_xmp(xmp(f'xmpNote:HasExtendedXMP="{old_name}"')), *reversed(parts))
    _, state = settled(data)
    assert state.notes == ["picture inside the XMP dropped"]
    if keeps_more:
        main = app1_xmp(xmp(f'xmpNote:HasExtendedXMP="{new_name}"'))
        assert state.segments[1:] == [main, *new_parts]
    else:
        assert state.segments[1:] == [app1_xmp(xmp(""))]
    plain = extended_xmp(f"{rdf}{more}{end}".encode())[1]
    untouched = photo(app1_xmp(xmp(f'xmpNote:HasExtendedXMP="{new_name}"')), *plain)
    assert settled(untouched)[1].segments == read_header(untouched).segments


def test_photoshop_resources_over_several_segments() -> None:
    name = b"Photoshop 3.0\0"
    large = resource(4000, random.Random(1).randbytes(90_000))
    small = resource(1036, photoshop_thumbnail(OLD.resize((160, 107))))
    data = large + small + resource(1028, b"x")
    parts = [segment(0xED, name + data[at : at + 65_000]) for at in range(0, len(data), 65_000)]
    _, state = settled(photo(parts[0], segment(0xFE, b"between"), parts[1]))
    assert state.notes == ["Photoshop thumbnail rebuilt"]
    made = b"".join(s[18:] for s in state.segments if s.startswith(name, 4))
    assert made.startswith(large)
    assert made.endswith(resource(1028, b"x"))
    with Image.open(io.BytesIO(made[len(large) + 12 + 28 :])) as thumbnail:
        assert_shows(thumbnail, EDITED, OLD)
    _, kept = settled(photo(*parts[:1]))
    assert kept.segments[1:] == parts[:1]


def full_file() -> bytes:
    """Everything at once."""
    data = multi_picture("<", [(0x10001, jpeg(OLD, (480, 320))), (0x20003, jpeg(OLD, (90, 60)))])
    small = resource(1036, photoshop_thumbnail(OLD.resize((60, 40))))
    before = [
        segment(0xE0, b"JFXX\0\x10" + jpeg(OLD, (48, 32))),
        segment(0xE1, b"Exif\0\0" + with_thumbnail(">", jpeg(OLD, (160, 107)))),
        app1_xmp(xmp(' hdrgm:Version="1.0"', thumbnails(jpeg(OLD, (96, 64))))),
        segment(0xED, b"Photoshop 3.0\0" + small),
        *jumbf(b"c2pa", 1, 2, 300),
        segment(0xFE, b"a comment"),
    ]
    return data[:20] + b"".join(before) + data[20:] + mp4()


@pytest.mark.parametrize("path", sorted((DEMO / "photos").glob("*.jpg")), ids=lambda p: p.stem)
def test_demo_photos_come_back_to_the_byte(path: Path) -> None:
    data = path.read_bytes()
    header = read_header(data)
    state = settle_jpeg(header.segments, b"", EDITED, REFUSE, trailer_start=header.body_end)
    assert state.assemble(data[header.body_start :]) == data
    assert all(new is old for new, old in zip(state.segments, header.segments, strict=True))


@pytest.mark.parametrize("options", [REBUILD, DROP, MARK])
def test_comparable_sees_no_difference_but_a_real_one(options: MetadataOptions) -> None:
    data = full_file()
    result, state = settled(data, options)
    assert len(state.notes) >= 8
    marked = options.mark_edit
    assert comparable(result, marked=marked) == comparable(data, marked=marked)
    if marked:
        assert comparable(result) != comparable(data)
    for old, new in (
        (b"a comment", b"A comment"),
        (b"Camera\0", b"camera\0"),
        (b"dc:format='a", b"dc:format='b"),
        (bytes(range(40, 60)), bytes(20)),  # the maker note
        (b"JFIF\0\1\1\0\0\1", b"JFIF\0\1\1\1\0\1"),
    ):
        assert old in result
        other = result.replace(old, new, 1)
        assert comparable(other, marked=marked) != comparable(data, marked=marked)


def test_comparable_reads_png_webp_and_tiff() -> None:
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
        "TIFF": encoded(OLD, format="TIFF", tiffinfo=tags, dpi=(300, 300)),
    }
    wanted = comparable(photo(app1_xmp(packet)))["xmp"]
    for name, data in files.items():
        found = comparable(data)
        assert found["xmp"] == wanted, name
        assert found == comparable(data)
        assert comparable(data.replace(b"a cup", b"A cup")) != found
        if name != "TIFF":
            assert found["icc"] == b"profile" * 30
    assert comparable(files["PNG"])["tEXt 1"] == b"Article\x004711"
    assert "pHYs 1" in comparable(files["PNG"])


def test_previews_are_found_in_every_format() -> None:
    block = b"Exif\0\0" + with_thumbnail("<", jpeg(OLD, (160, 107)))
    assert [name for name, _ in previews(full_file())] == [
        "EXIF thumbnail",
        "XMP thumbnail",
        "Photoshop thumbnail",
        "JFIF thumbnail",
        "C2PA manifest",
        "MPF preview",
        "multi-angle picture",
        "motion photo video",
    ]
    for form in ("PNG", "WEBP"):
        ((name, picture),) = previews(encoded(OLD, format=form, exif=block))
        assert name == "EXIF thumbnail"
        assert picture is not None
        assert distance(picture, OLD) < 9


FULL = full_file()
TYPES = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6)


def shows_old(picture: Image.Image | None) -> bool:
    return picture is not None and min(picture.size) >= 30 and distance(picture, OLD) < 12


@settings(max_examples=400, deadline=None)
@given(flips=TYPES, keep=st.floats(0.3, 1), options=st.sampled_from([REBUILD, DROP, REFUSE, MARK]))
def test_damaged_files_show_no_old_picture_and_raise_nothing_else(
    flips: list[tuple[float, int]], keep: float, options: MetadataOptions
) -> None:
    """Damage is done to each segment and to the trailer, so that the file can still be walked."""
    header = read_header(FULL)
    pieces = [*header.segments, FULL[header.body_end :]]
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
        state = settle_jpeg(pieces, trailer, EDITED, options, trailer_start=header.body_end)
        coded = jpeg(EDITED)
        result = state.assemble(coded[read_header(coded).body_start :])
        assert not [name for name, picture in previews(result) if shows_old(picture)]
        comparable(result)


BLOCKS = [with_thumbnail(order, jpeg(OLD, (160, 107)), b"tail") for order in ORDERS]


@settings(max_examples=2000, deadline=None)
@given(which=st.integers(0, 1), flips=TYPES, keep=st.floats(0, 1), drop=st.booleans())
def test_damaged_exif_shows_no_old_picture(
    which: int, flips: list[tuple[float, int]], keep: float, drop: bool
) -> None:
    """Half of the damage is done to the tags, where it does most."""
    block = bytearray(BLOCKS[which])
    for number, (position, value) in enumerate(flips):
        block[int(position * (len(block) if number % 2 else 160))] = value
    cut = bytes(block[: int((0.5 + keep) * len(block))])
    result, _ = settle_exif(cut, EDITED, DROP if drop else REBUILD)
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
    block = junk[:65_000]
    data = photo(
        segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + block),
        segment(0xED, b"Photoshop 3.0\0" + block),
        app1_xmp(block),
        segment(0xE7, block),
    )
    header = read_header(data)
    start = time.monotonic()
    for trailer in (junk, bytes(20) + junk):
        settle_jpeg(header.segments, trailer, EDITED, REBUILD, trailer_start=header.body_end)
    assert time.monotonic() - start < 20


def test_grey_and_cmyk_photos_get_previews_that_can_be_read() -> None:
    block = with_thumbnail("<", jpeg(OLD, (160, 107)))
    for mode in ("L", "CMYK"):
        made = thumbnail_of(settle_exif(block, EDITED.convert(mode), REBUILD)[0])
        assert made is not None
        assert made.mode == "RGB"
        assert distance(made, EDITED.convert(mode)) < 9


def test_marks_are_written_once_in_a_file() -> None:
    result, state = settled(full_file(), MARK)
    assert result.count(b"DigitalSourceType=") == 1
    result, state = settled(photo(segment(0xE1, b"Exif\0\0" + BLOCKS[0])), MARK)
    assert [s[4:8] for s in state.segments] == [b"JFIF", b"Exif", b"http"]
    with Image.open(io.BytesIO(result)) as after:
        assert after.getexif()[0x131] == "catalog-cleanup"
        assert b"algorithmicallyEnhanced" in after.info["xmp"]
    assert np.asarray(settled(photo(), REBUILD)[1].notes).size == 0
