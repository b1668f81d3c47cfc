"""Whole files after an edit: further pictures, gain maps, videos, signatures."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import xml.etree.ElementTree as ET

import pytest
from PIL import Image, MpoImagePlugin

from manifests.errors import RowError
from stages.codecs.jpeg.markers import split_metadata
from stages.recipe.options import MetadataOptions
from tests.support import encoded
from tests.support.files.metadata_files import (
    DIRECTORY,
    DROP,
    EDITED,
    MARK,
    NAMESPACES,
    OLD,
    ORDERS,
    REBUILD,
    REFUSE,
    Order,
    app1_xmp,
    assert_shows,
    distance,
    full_file,
    jpeg,
    jumbf,
    mp4,
    multi_picture,
    photo,
    photoshop_thumbnail,
    previews,
    refreshed,
    refreshed_exif,
    resource,
    samsung,
    segment,
    thumbnail_of,
    tiff,
    ultra_hdr,
    with_thumbnail,
    xmp,
)


@pytest.mark.parametrize("options", [REBUILD, DROP])
@pytest.mark.parametrize("order", ORDERS)
def test_listed_pictures_go_with_their_index_and_the_photo_stays(
    order: Order, options: MetadataOptions
) -> None:
    preview, disparity = jpeg(OLD, (480, 320)), jpeg(OLD, (600, 400))
    data = multi_picture(order, [(0x20002, disparity), (0x10001, preview)], b"unknown", b"\0" * 7)
    with Image.open(io.BytesIO(data)) as before:
        assert isinstance(before, MpoImagePlugin.MpoImageFile)
        assert before.n_frames == 3
    result, state = refreshed(data, options)
    assert state.notes == ["data after the end of the image with a picture dropped"]
    with Image.open(io.BytesIO(result)) as after:
        assert not isinstance(after, MpoImagePlugin.MpoImageFile)
        assert "mp" not in after.info
        assert_shows(after, EDITED, OLD)
    assert b"MPF\0" not in result
    assert state.trailer == b""
    assert previews(result) == []
    with pytest.raises(RowError, match="data after the end of the image"):
        refreshed(data, REFUSE)


def test_an_index_without_pictures_behind_the_photo_is_left_as_it_is() -> None:
    index = segment(0xE2, b"MPF\0" + tiff("<", [{0xB001: (4, [1])}], b"", 100))
    _, state = refreshed(photo(index), REFUSE)
    assert state.segments[1:] == [index]


def test_what_pillow_writes_as_mpo_is_left_as_one_picture() -> None:
    second = OLD.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    data = encoded(OLD, format="MPO", save_all=True, append_images=[second])
    result, state = refreshed(data)
    assert state.notes == ["data after the end of the image with a picture dropped"]
    assert b"MPF\0" not in result
    assert not state.trailer
    assert refreshed(data, DROP)[1].notes == state.notes
    with pytest.raises(RowError, match="data after the end of the image"):
        refreshed(data, REFUSE)


@pytest.mark.parametrize("options", [REBUILD, DROP])
def test_thumbnails_of_jfif_and_its_extension_are_dropped(options: MetadataOptions) -> None:
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
    assert [name.partition(" #")[0] for name, _ in previews(data)] == ["JFIF thumbnail"] * 4
    result, state = refreshed(data, options)
    assert state.notes == ["JFIF thumbnail dropped"]
    assert state.segments == [segment(0xE0, head[:-2] + b"\0\0")]
    assert previews(result) == []
    with pytest.raises(RowError, match="JFIF thumbnail"):
        refreshed(data, REFUSE)


@pytest.mark.parametrize("body", [b"JFIF\0\1\2", b"JFIF\0\1\2\0\0\1\0\1\0\0"])
def test_a_jfif_segment_without_a_thumbnail_stays(body: bytes) -> None:
    coded = jpeg(OLD)
    data = coded[:2] + segment(0xE0, body) + coded[20:]
    _, state = refreshed(data, REFUSE)
    assert state.segments == [segment(0xE0, body)]


def properties(segment: bytes) -> list[tuple[str, dict[str, str], str]]:
    """What the packet in a segment says, read by another reader."""
    text = segment[segment.index(b"<?xpacket") :].decode()
    root = ET.fromstring(text[text.index("<x:") : text.rindex("<?")])  # noqa: S314
    return [(each.tag, each.attrib, (each.text or "").strip()) for each in root.iter()]


def test_c2pa_and_other_jumbf_go() -> None:
    other = jumbf(b"json", 2, 2)
    packet = xmp("dcterms:provenance='self#jumbf=/c2pa/x'")
    data = photo(*jumbf(b"c2pa", 1, 3), *other, app1_xmp(packet))
    result, state = refreshed(data)
    assert state.notes == ["C2PA manifest dropped"]
    assert len(state.segments) == 2
    assert properties(state.segments[-1]) == properties(app1_xmp(xmp("")))
    assert [name for name, _ in previews(data)] == ["C2PA", *(f"C2PA #{i}" for i in range(2, 6))]
    assert previews(result) == []


def test_a_gain_map_goes_with_all_that_points_to_it() -> None:
    data = ultra_hdr()
    assert [name for name, _ in previews(data)] == ["after the end"]
    result, state = refreshed(data)
    assert state.notes == [
        "data after the end of the image with a picture dropped",
        "gain map dropped",
        "list of further pictures dropped",
    ]
    assert state.trailer == b""
    assert len(state.segments) == 2
    assert properties(state.segments[1]) == properties(app1_xmp(xmp("")))
    assert previews(result) == []


def test_what_follows_a_jpeg_goes_with_a_video_in_it() -> None:
    packet = app1_xmp(xmp(' GCamera:MotionPhoto="1"', DIRECTORY % "MotionPhoto"))
    time_block = (0x0A01, b"Image_UTC_Data", b"1600000000000")
    video_block = (0x0A30, b"MotionPhoto_Data", mp4())
    scene_block = (0x0A41, b"Camera_Scene", b"9")
    for trailer in (
        mp4(),
        b"left by somebody" + mp4(),
        samsung(time_block, video_block, scene_block),
        jpeg(OLD, (300, 200)) + b"tail",
    ):
        result, state = refreshed(photo(packet, trailer=trailer))
        assert "data after the end of the image with a picture dropped" in state.notes
        assert len(state.segments) == 2
        assert properties(state.segments[1]) == properties(app1_xmp(xmp("")))
        assert result.endswith(b"\xff\xd9")
        assert "motion photo video dropped" in state.notes
    other = samsung(time_block, scene_block)
    assert refreshed(photo(trailer=other))[1].trailer == other


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
def test_extended_xmp_goes_with_a_picture_in_it(keeps_more: bool) -> None:
    rdf = f'<rdf:RDF xmlns:rdf="{NAMESPACES["rdf"]}"><rdf:Description xmlns:GImage='
    rdf = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{rdf}"{NAMESPACES["GImage"]}"'
    more = ' xmlns:n="urn:n" n:notes="long"' if keeps_more else ""
    end = "/></rdf:RDF></x:xmpmeta>"
    big = "/9j/" + "A" * 150_000
    old_name, parts = extended_xmp(f'{rdf}{more} GImage:Data="{big}"{end}'.encode())
    new_name, plain = extended_xmp(f"{rdf}{more}{end}".encode())
    assert len(parts) == 3
    main = app1_xmp(xmp(f'xmpNote:HasExtendedXMP="{old_name}"'))
    _, state = refreshed(photo(main, *reversed(parts)))
    assert state.notes == ["extended XMP with a picture dropped"]
    assert state.segments[1:] == [main]  # readers ignore the name of a packet that is not there
    untouched = photo(app1_xmp(xmp(f'xmpNote:HasExtendedXMP="{new_name}"')), *plain)
    assert refreshed(untouched)[1].segments == split_metadata(untouched)[0]


def test_photoshop_resources_over_several_segments() -> None:
    name = b"Photoshop 3.0\0"
    large = resource(4000, random.Random(1).randbytes(90_000))
    small = resource(1036, photoshop_thumbnail(OLD.resize((160, 107))))
    data = large + small + resource(1028, b"x")
    parts = [segment(0xED, name + data[at : at + 65_000]) for at in range(0, len(data), 65_000)]
    _, state = refreshed(photo(parts[0], segment(0xFE, b"between"), parts[1]))
    assert state.notes == ["Photoshop thumbnail dropped"]
    made = b"".join(s[18:] for s in state.segments if s.startswith(name, 4))
    assert made == large + resource(1028, b"x")
    _, kept = refreshed(photo(*parts[:1]))
    assert kept.segments[1:] == parts[:1]


def test_grey_and_cmyk_photos_get_previews_that_can_be_read() -> None:
    block = with_thumbnail("<", jpeg(OLD, (160, 107)))
    for mode in ("L", "CMYK"):
        made = thumbnail_of(refreshed_exif(block, EDITED.convert(mode), REBUILD)[0])
        assert made is not None
        assert made.mode == "RGB"
        assert distance(made, EDITED.convert(mode)) < 9


def test_marks_are_written_once_in_a_file() -> None:
    exif = with_thumbnail("<", jpeg(OLD, (160, 107)))
    result, state = refreshed(full_file(), MARK)
    assert result.count(b"DigitalSourceType=") == 1
    result, state = refreshed(photo(segment(0xE1, b"Exif\0\0" + exif)), MARK)
    assert [s[4:8] for s in state.segments] == [b"JFIF", b"Exif", b"http"]
    with Image.open(io.BytesIO(result)) as after:
        assert b"algorithmicallyEnhanced" in after.info["xmp"]
    assert refreshed(photo())[1].notes == []
