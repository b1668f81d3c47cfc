"""Blocks of metadata after an edit: what showed the old picture shows the new one, the rest stays.

Inputs are made by Pillow or by hand, and results read by Pillow, never by the code under test.
Against real cameras it was tried with the sample files of Pillow, ExifTool and ianare/exif-samples:
thumbnails of 60 cameras (uncompressed ones of Kodak and Sony among them, one whose offset is two
bytes off), previews in maker notes of Casio and Samsung, a FlashPix preview of Fujifilm, XMP in
UTF-16.
"""

from __future__ import annotations

import base64
import io
import struct
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from manifests.errors import RowError
from tests.support.metadata_files import (
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
    Tags,
    assert_shows,
    distance,
    jpeg,
    photoshop_thumbnail,
    resource,
    settle_exif,
    settle_photoshop,
    settle_xmp,
    thumbnail_of,
    thumbnails,
    tiff,
    with_thumbnail,
    xmp,
)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [(160, 107), (96, 64), (320, 213)])
def test_an_exif_thumbnail_is_drawn_anew_in_its_place(order: Order, size: tuple[int, int]) -> None:
    thumbnail = jpeg(OLD, size)
    block = with_thumbnail(order, thumbnail, behind=b"what follows")
    settled, notes = settle_exif(block, EDITED, REBUILD)
    assert notes == ["EXIF thumbnail rebuilt"]
    made = thumbnail_of(settled)
    assert made is not None
    assert made.size == size
    assert_shows(made, EDITED, OLD)
    assert len(settled) == len(block)
    assert settled.endswith(b"what follows")
    changed = [i for i in range(1000) if settled[i] != block[i]]
    (length_tag,) = {block.find(struct.pack(order + "I", len(thumbnail)))}
    assert set(changed) <= set(range(length_tag, length_tag + 4))


@pytest.mark.parametrize("order", ORDERS)
def test_a_dropped_exif_thumbnail_leaves_zeros(order: Order) -> None:
    block = with_thumbnail(order, jpeg(OLD, (160, 107)), behind=b"tail")
    settled, notes = settle_exif(block, EDITED, DROP)
    assert notes == ["EXIF thumbnail dropped"]
    assert thumbnail_of(settled) is None
    assert len(settled) == len(block)
    assert not any(settled[1000:-4])
    assert settled[600:1000] == block[600:1000]
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + settled)
    assert exif[0x10F] == "Camera"
    assert exif.get_ifd(0x8769)[0x927C] == bytes(range(256))


def test_a_thumbnail_that_does_not_fit_goes_to_the_end() -> None:
    plain = jpeg(Image.new("RGB", (160, 107)), quality=5)
    noise = Image.effect_noise(EDITED.size, 100).convert("RGB")
    block = with_thumbnail("<", plain, behind=b"x")
    settled, notes = settle_exif(block, noise, REBUILD)
    assert notes == ["EXIF thumbnail rebuilt"]
    assert settled[1000 : 1000 + len(plain)] == bytes(len(plain))
    made = thumbnail_of(settled)
    assert made is not None
    assert distance(made, noise) < 20
    full = with_thumbnail("<", plain, behind=b"x" * (64_400 - len(plain)))
    settled, notes = settle_exif(full, noise, REBUILD)
    assert notes == ["EXIF thumbnail dropped"]
    assert thumbnail_of(settled) is None


@pytest.mark.parametrize("how", ["black bars", "cut"])
def test_a_thumbnail_of_another_shape_keeps_its_bars_or_cut(how: str) -> None:
    def shaped(picture: Image.Image) -> Image.Image:
        if how == "cut":
            return picture.resize((160, 120), box=(33, 0, 567, 400))
        barred = Image.new("RGB", (160, 120))
        barred.paste(picture.resize((160, 107)), (0, 6))
        return barred

    settled, _ = settle_exif(with_thumbnail("<", jpeg(shaped(OLD))), EDITED, REBUILD)
    made = thumbnail_of(settled)
    assert made is not None
    assert_shows(made, shaped(EDITED), shaped(OLD))


def samples(picture: Image.Image, photometric: int) -> bytes:
    """Samples as DCF writes them, YCbCr with a chroma pair for two by one pixels."""
    if photometric == 2:
        return picture.convert("RGB").tobytes()
    planes = np.asarray(picture.convert("YCbCr"))
    rows = []
    for row in planes:
        for left in range(0, len(row), 2):
            rows += [row[left, 0], row[left + 1, 0], *row[left : left + 2, 1:].mean(axis=0)]
    return bytes(np.array(rows, np.uint8))


@pytest.mark.parametrize("photometric", [2, 6])
@pytest.mark.parametrize("order", ORDERS)
def test_an_uncompressed_thumbnail_is_written_anew(order: Order, photometric: int) -> None:
    before = samples(OLD.resize((96, 64)), photometric)
    half = len(before) // 2
    second: Tags = {
        0x100: (3, [96]),
        0x101: (3, [64]),
        0x102: (3, [8, 8, 8]),
        0x103: (3, [1]),
        0x106: (3, [photometric]),
        0x111: (4, [1000, 1000 + half]),
        0x115: (3, [3]),
        0x117: (4, [half, len(before) - half]),
        0x212: (3, [2, 1]),
    }
    block = tiff(order, [{0x10F: (2, b"Camera\0")}, second], before + b"tail")
    settled, notes = settle_exif(block, EDITED, REBUILD)
    assert notes == ["EXIF thumbnail rebuilt"]
    assert settled[:1000] == block[:1000]
    assert settled.endswith(b"tail")
    wanted = np.frombuffer(samples(EDITED.resize((96, 64)), photometric), np.uint8).astype(int)
    made = np.frombuffer(settled[1000:-4], np.uint8)
    assert np.abs(made - wanted).mean() < 6
    settled, notes = settle_exif(block, EDITED, DROP)
    assert notes == ["EXIF thumbnail dropped"]
    assert settled[1000:] == bytes(len(before)) + b"tail"


def test_previews_in_maker_notes_are_zeroed_where_they_are() -> None:
    preview = jpeg(OLD, (320, 213))
    note = b"Maker\0" + preview + b"more"
    block = tiff("<", [{0x10F: (2, b"C\0"), 0x927C: (7, note)}], b"", data_at=20_000)
    start = block.find(preview)
    settled, notes = settle_exif(block, EDITED, REBUILD)
    assert notes == ["preview inside the EXIF dropped"]
    assert settled == block[:start] + bytes(len(preview)) + block[start + len(preview) :]


def test_what_is_not_stale_comes_back_as_it_is() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photo"
    block = exif.tobytes()[6:]
    for options in (REBUILD, DROP, REFUSE):
        for settle, data in (
            (settle_exif, block),
            (settle_exif, b""),
            (settle_photoshop, resource(1028, b"iptc!") + resource(1061, b"x" * 16)),
            (settle_photoshop, b"nonsense"),
            (settle_xmp, xmp('dc:title="x"')),
            (settle_xmp, b"<not xml"),
            (settle_xmp, b""),
        ):
            settled, notes = settle(data, EDITED, options)
            assert settled is data
            assert notes == []


@pytest.mark.parametrize("number", [1036, 1033])
def test_a_photoshop_thumbnail_is_drawn_anew_among_the_others(number: int) -> None:
    def drawn(picture: Image.Image) -> Image.Image:
        small = picture.resize((160, 107))
        return small if number == 1036 else Image.merge("RGB", small.split()[::-1])

    before = resource(1005, b"resolution info!") + resource(1028, b"iptc!", b"name")
    after = resource(1061, b"digest" * 3)
    data = before + resource(number, photoshop_thumbnail(drawn(OLD))) + after
    settled, notes = settle_photoshop(data, EDITED, REBUILD)
    assert notes == ["Photoshop thumbnail rebuilt"]
    assert settled.startswith(before)
    assert settled.endswith(after)
    content = settled[len(before) + 12 : -len(after)]
    assert struct.unpack(">6I", content[:24])[:5] == (1, 160, 107, 480, 51_360)
    with Image.open(io.BytesIO(content[28:])) as made:
        assert_shows(made, drawn(EDITED), drawn(OLD))
    assert settle_photoshop(data, EDITED, DROP) == (before + after, ["Photoshop thumbnail dropped"])


def test_stale_data_are_refused_by_name() -> None:
    thumbnail = jpeg(OLD, (160, 107))
    for settle, data, what in (
        (settle_exif, with_thumbnail("<", thumbnail), "EXIF thumbnail"),
        (settle_exif, b"junk" + thumbnail, "EXIF that cannot be read"),
        (settle_photoshop, resource(1036, photoshop_thumbnail(OLD)), "Photoshop thumbnail"),
        (settle_xmp, xmp('hdrgm:Version="1.0"'), "gain map"),
        (settle_xmp, xmp("", thumbnails(thumbnail)), "XMP thumbnail"),
        (settle_xmp, xmp('dcterms:provenance="self#jumbf=c2pa/x"'), "C2PA manifest"),
    ):
        with pytest.raises(RowError, match=what) as caught:
            settle(data, EDITED, REFUSE)
        assert caught.value.code == "image.stale_preview"
        assert "metadata.stale_preview" in caught.value.remedy


def properties(packet: bytes) -> ET.Element:
    """The first description, read by another reader."""
    text = packet.decode().strip()
    found = ET.fromstring(text[text.index("<x:") : text.rindex("<?")])[0][0]  # noqa: S314
    assert found.tag == f"{{{NAMESPACES['rdf']}}}Description"
    return found


def test_xmp_thumbnails_are_drawn_anew() -> None:
    packet = xmp("", thumbnails(jpeg(OLD, (256, 171)), jpeg(OLD, (96, 64))))
    settled, notes = settle_xmp(packet, EDITED, REBUILD)
    assert notes == ["XMP thumbnail rebuilt"]
    images = properties(settled).findall(".//xmpGImg:image", NAMESPACES)
    for image, size in zip(images, [(256, 171), (96, 64)], strict=True):
        with Image.open(io.BytesIO(base64.b64decode(image.text or ""))) as made:
            assert made.size == size
            assert_shows(made, EDITED, OLD)
    dropped, notes = settle_xmp(packet, EDITED, DROP)
    assert notes == ["XMP thumbnail dropped"]
    assert dropped == xmp("")


@pytest.mark.parametrize(
    ("attributes", "elements", "note"),
    [
        (' hdrgm:Version="1.0"', DIRECTORY % "GainMap", "gain map dropped"),
        (" hdrgm:Version='1.0'", "", "gain map dropped"),
        ("", DIRECTORY % "MotionPhoto", "motion photo video dropped"),
        (' GCamera:MicroVideo="1" GCamera:MicroVideoOffset="9"', "", "motion photo video dropped"),
        (' dcterms:provenance="https://x.org/m.c2pa"', "", "C2PA manifest dropped"),
        ("", "\n<GImage:Data>/9j/4AAQ</GImage:Data>", "picture inside the XMP dropped"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_xmp_loses_what_points_to_dropped_data_and_not_a_byte_more(
    attributes: str, elements: str, note: str, encoding: str
) -> None:
    packet = xmp("dc:rights='x'" + attributes, elements).decode().encode(encoding)
    settled, notes = settle_xmp(packet, EDITED, REBUILD)
    assert settled.decode(encoding).encode() == xmp("dc:rights='x'")
    assert notes == [note]


def test_a_photo_without_motion_and_a_plain_provenance_stay() -> None:
    packet = xmp('GCamera:MotionPhoto="0" dcterms:provenance="the archive of the museum"')
    assert settle_xmp(packet, EDITED, REBUILD) == (packet, [])


def test_a_packet_with_a_dtd_or_without_end_stays() -> None:
    lol = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{lol}]><x:xmpmeta hdrgm="&l9;"/>'.encode()
    deep = b"<a>" * 100_000
    for packet in (bomb, deep, xmp("hdrgm:Version='1'")[:-300]):
        assert settle_xmp(packet, EDITED, REBUILD) == (packet, [])
    damaged = xmp("", thumbnails(jpeg(OLD, (96, 64)))).replace(b"</rdf:RDF>", b"")
    settled, notes = settle_xmp(damaged, EDITED, REBUILD)
    assert notes == ["picture inside the XMP dropped"]
    assert b"/9j/" not in settled
    assert len(settled) == len(damaged)


@pytest.mark.parametrize("generative", [False, True])
def test_an_edit_is_marked_in_xmp(generative: bool) -> None:
    kind = "compositeWithTrainedAlgorithmicMedia" if generative else "algorithmicallyEnhanced"
    there = (
        "Iptc4xmpExt:DigitalSourceType='http://x/digitalCapture' xmp:CreatorTool='Camera 1.0' "
        "tiff:Software='Camera 1.0'"
    )
    for packet in (xmp("dc:rights='x'"), xmp(there), b""):
        settled, notes = settle_xmp(packet, EDITED, MARK, generative=generative)
        assert notes == []
        found = properties(settled).attrib
        source_type = found[f"{{{NAMESPACES['Iptc4xmpExt']}}}DigitalSourceType"]
        assert source_type == f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"
        assert found[f"{{{NAMESPACES['xmp']}}}CreatorTool"] == "catalog-cleanup"
        software = found.get(f"{{{NAMESPACES['tiff']}}}Software")
        assert software == ("catalog-cleanup" if there.encode() in packet else None)
        if packet:
            assert properties(settled)[0][0][0].text == "Ä & Ö"


def test_a_mark_does_not_hide_that_a_picture_is_generated() -> None:
    generated = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    packet = xmp(f"Iptc4xmpExt:DigitalSourceType='{generated}'")
    assert generated.encode() in settle_xmp(packet, EDITED, MARK)[0]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("software", [None, b"A camera's firmware 1.0\0", b"v1\0"])
def test_an_edit_is_marked_in_exif_and_nothing_moves(order: Order, software: bytes | None) -> None:
    first: Tags = {0x10F: (2, b"Camera\0"), 0x9003: (2, b"2020:01:01 00:00:00\0")}
    if software:
        first[0x131] = (2, software)
    block = tiff(order, [first, {0x201: (4, [1000]), 0x202: (4, [9_000])}], jpeg(OLD, (160, 107)))
    settled, notes = settle_exif(block, EDITED, MARK)
    assert notes == ["EXIF thumbnail rebuilt"]
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + settled)
    assert exif[0x131].rstrip("\0") == "catalog-cleanup"
    assert exif[0x10F] == "Camera"
    assert exif[0x9003] == "2020:01:01 00:00:00"
    made = thumbnail_of(settled)
    assert made is not None
    assert_shows(made, EDITED, OLD)


def test_an_iptc_preview_is_dropped_and_all_other_data_sets_stay() -> None:
    def data_set(number: int, content: bytes) -> bytes:
        return b"\x1c\x02" + bytes([number]) + struct.pack(">H", len(content)) + content

    small = jpeg(OLD, (64, 48))
    extended = b"\x1c\x02\xca\x80\x04" + struct.pack(">I", len(small)) + small
    kept = data_set(5, b"A bowl") + data_set(120, b"Figs in a bowl")
    for preview in (data_set(202, small), extended):
        iptc = kept[:11] + data_set(200, b"\0\x0b") + data_set(201, b"\0\1") + preview + kept[11:]
        settled, notes = settle_photoshop(resource(0x0404, iptc), EDITED, REBUILD)
        assert notes == ["IPTC preview dropped"]
        assert settled == resource(0x0404, kept)
    with pytest.raises(RowError, match="IPTC preview"):
        settle_photoshop(resource(0x0404, iptc), EDITED, REFUSE)
    plain = resource(0x0404, kept)
    assert settle_photoshop(plain, EDITED, REBUILD)[0] is plain
