"""Blocks of metadata after an edit: what showed the old picture shows the new one, the rest stays.

Inputs are made by Pillow or by hand, and results read by Pillow, never by the code under test.
Against real cameras it was tried with the sample files of Pillow, ExifTool and ianare/exif-samples:
thumbnails of 60 cameras (one whose offset is two bytes off), previews in maker notes of Casio and
Samsung, a FlashPix preview of Fujifilm, XMP in UTF-16.
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from manifests.errors import RowError
from stages.recipe.options import MetadataOptions
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
    Tags,
    assert_shows,
    jpeg,
    photoshop_thumbnail,
    refreshed_exif,
    refreshed_resources,
    refreshed_xmp,
    resource,
    thumbnail_of,
    thumbnails,
    tiff,
    with_thumbnail,
    xmp,
)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [(160, 107), (160, 120), (320, 213)])
def test_an_exif_thumbnail_is_drawn_again_in_its_place(order: Order, size: tuple[int, int]) -> None:
    """In the shape of the picture, and of the usual size, whatever the old one had."""
    thumbnail = jpeg(OLD, size)
    block = with_thumbnail(order, thumbnail, behind=b"what follows")
    result, notes = refreshed_exif(block, EDITED, REBUILD)
    assert notes == ["EXIF thumbnail rebuilt"]
    made = thumbnail_of(result)
    assert made is not None
    assert made.size == (160, 107)
    assert_shows(made, EDITED, OLD)
    assert len(result) == len(block)
    assert result.endswith(b"what follows")
    changed = [i for i in range(1000) if result[i] != block[i]]
    (length_tag,) = {block.find(struct.pack(order + "I", len(thumbnail)))}
    assert set(changed) <= set(range(length_tag, length_tag + 4))


@pytest.mark.parametrize("order", ORDERS)
def test_a_dropped_exif_thumbnail_leaves_zeros(order: Order) -> None:
    block = with_thumbnail(order, jpeg(OLD, (160, 107)), behind=b"tail")
    result, notes = refreshed_exif(block, EDITED, DROP)
    assert notes == ["EXIF thumbnail dropped"]
    assert thumbnail_of(result) is None
    assert len(result) == len(block)
    assert not any(result[1000:-4])
    assert result[600:1000] == block[600:1000]
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + result)
    assert exif[0x10F] == "Camera"
    assert exif.get_ifd(0x8769)[0x927C] == bytes(range(256))


def test_a_thumbnail_that_does_not_fit_is_dropped() -> None:
    plain = jpeg(Image.new("RGB", (160, 107)), quality=5)
    noise = Image.effect_noise(EDITED.size, 100).convert("RGB")
    block = with_thumbnail("<", plain, behind=b"x")
    result, notes = refreshed_exif(block, noise, REBUILD)
    assert notes == ["EXIF thumbnail dropped"]
    assert result[1000 : 1000 + len(plain)] == bytes(len(plain))
    assert thumbnail_of(result) is None


@pytest.mark.parametrize("size", [2000, 0, 2**31])
def test_a_thumbnail_ends_at_its_end_marker_whatever_length_is_stated(size: int) -> None:
    thumbnail = jpeg(OLD, (160, 107))
    block = with_thumbnail("<", thumbnail, behind=b"what follows" * 400)
    stated = struct.pack("<I", size if size in (0, 2**31) else len(thumbnail) + size)
    block = block.replace(struct.pack("<I", len(thumbnail)), stated, 1)
    result, notes = refreshed_exif(block, EDITED, REBUILD)
    if size in (0, 2**31):  # an entry whose values cannot be used
        assert jpeg(OLD, (160, 107))[100:300] not in result
    else:
        assert notes == ["EXIF thumbnail rebuilt"]
        assert result.endswith(b"what follows" * 400)
        made = thumbnail_of(result)
        assert made is not None
        assert_shows(made, EDITED, OLD)


def uncompressed(order: Order, tags: tuple[int, int], turn: int | None) -> bytes:
    """EXIF whose thumbnail are RGB samples in two strips or tiles at 1000."""
    before = OLD.resize((96, 64)).tobytes()
    half = len(before) // 2
    second: Tags = {
        0x100: (3, [96]),
        0x101: (3, [64]),
        0x103: (3, [1]),
        tags[0]: (4, [1000, 1000 + half]),
        tags[1]: (4, [half, len(before) - half]),
    }
    first: Tags = {0x10F: (2, b"Camera\0")} | ({0x112: (3, [turn])} if turn else {})
    return tiff(order, [first, second], before + b"tail")


@pytest.mark.parametrize("options", [REBUILD, DROP])
@pytest.mark.parametrize("tags", [(0x111, 0x117), (0x144, 0x145)], ids=["strips", "tiles"])
@pytest.mark.parametrize("order", ORDERS)
def test_exif_with_an_uncompressed_thumbnail_keeps_nothing_but_its_orientation(
    order: Order, tags: tuple[int, int], options: MetadataOptions
) -> None:
    for name, turn in ((b"", None), (b"Exif\0\0", 6)):
        block = name + uncompressed(order, tags, turn)
        result, notes = refreshed_exif(block, EDITED, options)
        assert notes == ["EXIF with a preview of unknown kind dropped"]
        exif = Image.Exif()
        exif.load(result)
        assert dict(exif) == ({0x112: turn} if turn else {})
        assert len(result) < 100
        assert result.startswith(name)
        with pytest.raises(RowError, match="EXIF with a preview"):
            refreshed_exif(block, EDITED, REFUSE)


def test_a_maker_note_with_a_preview_goes_and_nothing_else_moves() -> None:
    note = b"Maker\0" + jpeg(OLD, (320, 213)) + b"more"
    block = tiff("<", [{0x10F: (2, b"C\0"), 0x927C: (7, note)}], b"", data_at=20_000)
    start = block.find(note)
    result, notes = refreshed_exif(block, EDITED, REBUILD)
    assert notes == ["tag 37500 with a picture dropped"]
    assert result[start:] == bytes(len(note)) + block[start + len(note) :]
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + result)
    assert dict(exif) == {0x10F: "C"}


@pytest.mark.parametrize("start", [0, 8, 10])
def test_a_tag_that_lies_over_its_own_directory_is_damage(start: int) -> None:
    block = tiff("<", [{0x112: (3, [8]), 0x927C: (7, jpeg(OLD, (90, 60)))}], b"", data_at=20_000)
    at = block.index(struct.pack("<HH", 0x927C, 7))
    block = block[: at + 4] + struct.pack("<II", len(block) - start, start) + block[at + 12 :]
    result, notes = refreshed_exif(block, EDITED, REBUILD)
    assert notes == ["EXIF with a preview of unknown kind dropped"]
    exif = Image.Exif()
    exif.load(result)
    assert dict(exif) == {0x112: 8}


def test_exif_with_a_preview_outside_of_its_tags_keeps_nothing_but_its_orientation() -> None:
    block = tiff("<", [{0x10F: (2, b"Camera\0"), 0x112: (3, [8])}], b"Maker" + jpeg(OLD, (90, 60)))
    result, notes = refreshed_exif(block, EDITED, REBUILD)
    assert notes == ["EXIF with a preview of unknown kind dropped"]
    exif = Image.Exif()
    exif.load(result)
    assert dict(exif) == {0x112: 8}


def test_what_is_not_stale_comes_back_as_it_is() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photo"
    block = exif.tobytes()[6:]
    for options in (REBUILD, DROP, REFUSE):
        for refresh, data in (
            (refreshed_exif, block),
            (refreshed_exif, b""),
            (refreshed_exif, Image.Exif().tobytes()),  # as Pillow leaves it without an orientation
            (refreshed_exif, b"II*\0\x08" + bytes(9)),
            (refreshed_resources, resource(1028, b"iptc!") + resource(1061, b"x" * 16)),
            (refreshed_resources, b"nonsense"),
            (refreshed_xmp, xmp('dc:title="x"')),
            (refreshed_xmp, b"<not xml"),
            (refreshed_xmp, b""),
        ):
            result, notes = refresh(data, EDITED, options)
            assert result is data
            assert notes == []


@pytest.mark.parametrize("options", [REBUILD, DROP])
def test_a_photoshop_thumbnail_is_dropped_from_among_the_others(options: MetadataOptions) -> None:
    before = resource(1005, b"resolution info!") + resource(1028, b"iptc!", b"name")
    after = resource(1061, b"digest" * 3)
    data = before + resource(1036, photoshop_thumbnail(OLD.resize((160, 107)))) + after
    dropped = (before + after, ["Photoshop thumbnail dropped"])
    assert refreshed_resources(data, EDITED, options) == dropped
    of_1996 = data.replace(b"8BIM\4\x0c", b"8BIM\4\x09")
    assert refreshed_resources(of_1996, EDITED, options) == dropped


def test_stale_data_are_refused_by_name() -> None:
    thumbnail = jpeg(OLD, (160, 107))
    for refresh, data, what in (
        (refreshed_exif, with_thumbnail("<", thumbnail), "EXIF thumbnail"),
        (refreshed_exif, b"junk" + thumbnail, "EXIF that cannot be read"),
        (refreshed_resources, resource(1036, photoshop_thumbnail(OLD)), "Photoshop thumbnail"),
        (refreshed_xmp, xmp('hdrgm:Version="1.0"'), "gain map"),
        (refreshed_xmp, xmp("", thumbnails(thumbnail)), "XMP thumbnail"),
        (refreshed_xmp, xmp('dcterms:provenance="self#jumbf=c2pa/x"'), "C2PA manifest"),
    ):
        with pytest.raises(RowError, match=what) as caught:
            refresh(data, EDITED, REFUSE)
        assert caught.value.code == "image.stale_preview"
        assert "metadata.stale_preview" in caught.value.remedy


def properties(packet: bytes, index: int = 0) -> ET.Element:
    """A description, read by another reader."""
    text = packet.decode().strip()
    found = ET.fromstring(text[text.index("<x:") : text.rindex("<?")])[0][index]  # noqa: S314
    assert found.tag == f"{{{NAMESPACES['rdf']}}}Description"
    return found


def same_xml(one: bytes, other: bytes) -> bool:
    """Whether two packets say the same, but for white space between their elements."""

    def canonical(packet: bytes) -> str:
        text = packet.decode()
        text = text[text.index("<x:") : text.rindex("<?")]
        document = ET.fromstring(text)  # noqa: S314
        for element in document.iter():
            element.tail = None
            element.text = (element.text or "") if not len(element) else None
        return ET.canonicalize(ET.tostring(document, "unicode"))

    return canonical(one) == canonical(other)


@pytest.mark.parametrize("options", [REBUILD, DROP])
def test_xmp_thumbnails_are_dropped(options: MetadataOptions) -> None:
    packet = xmp("", thumbnails(jpeg(OLD, (256, 171)), jpeg(OLD, (96, 64))))
    result, notes = refreshed_xmp(packet, EDITED, options)
    assert notes == ["XMP thumbnail dropped"]
    assert same_xml(result, xmp(""))


@pytest.mark.parametrize(
    ("attributes", "elements", "note"),
    [
        ("", DIRECTORY % "GainMap", "list of further pictures dropped"),
        (" hdrgm:Version='1.0'", "", "gain map dropped"),
        (' GCamera:MicroVideo="1" GCamera:MicroVideoOffset="9"', "", "motion photo video dropped"),
        (' dcterms:provenance="https://x.org/m.c2pa"', "", "C2PA manifest dropped"),
        ("", "\n<GImage:Data>/9j/4AAQ</GImage:Data>", "picture inside the XMP dropped"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_xmp_loses_what_refers_to_dropped_data_and_nothing_else(
    attributes: str, elements: str, note: str, encoding: str
) -> None:
    packet = xmp("dc:rights='x'" + attributes, elements).decode().encode(encoding)
    result, notes = refreshed_xmp(packet, EDITED, REBUILD)
    assert notes == [note]
    assert same_xml(result.decode(encoding).encode(), xmp("dc:rights='x'"))
    assert result.decode(encoding).startswith('<?xpacket begin="\ufeff"')
    assert result.decode(encoding).endswith('<?xpacket end="w"?>')


def test_texts_with_line_breaks_and_signs_of_xml_survive_a_change_beside_them() -> None:
    texts = "dc:rights='a&#10;b&#9;c&#13;&quot;&apos;&lt;&amp;' dc:source=\"it's\" "
    element = "<dc:title>&lt;b&gt; ]]&gt; &#13;\n<![CDATA[<&>]]><!-- a & b --></dc:title>"
    result, notes = refreshed_xmp(xmp(texts + "hdrgm:Version='1'", element), EDITED, REBUILD)
    assert notes == ["gain map dropped"]
    assert same_xml(result, xmp(texts, element))
    assert b"<!-- a & b -->" in result


def test_a_photo_without_motion_and_a_plain_provenance_stay() -> None:
    packet = xmp('GCamera:MotionPhoto="0" dcterms:provenance="the archive of the museum"')
    assert refreshed_xmp(packet, EDITED, REBUILD) == (packet, [])


@pytest.mark.parametrize("junk", [b"\xff\xfe\x05", b"<?xpacket end=", b"& < what"])
def test_what_follows_the_last_element_of_a_packet_does_not_matter(junk: bytes) -> None:
    plain = xmp("hdrgm:Version='1.0' xmlns=''", DIRECTORY % "GainMap")
    end = plain.index(b"</x:xmpmeta>") + len(b"</x:xmpmeta>")
    result, notes = refreshed_xmp(plain[:end] + junk, EDITED, REBUILD)
    assert notes == ["gain map dropped", "list of further pictures dropped"]
    assert result.endswith(b"</x:xmpmeta>\n" + junk)
    assert same_xml(result[: -len(junk)] + b"<?", xmp("xmlns=''"))


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_stays(encoding: str, mark: str) -> None:
    packet = (mark + xmp("hdrgm:Version='1.0'").decode()).encode(encoding)
    result, notes = refreshed_xmp(packet, EDITED, REBUILD)
    assert notes == ["gain map dropped"]
    assert result.decode(encoding).startswith(mark + "<?xpacket begin=")


def test_a_packet_with_a_dtd_or_without_end_stays() -> None:
    lol = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{lol}]><x:xmpmeta hdrgm="&l9;"/>'.encode()
    deep = b"<a>" * 100_000
    for packet in (bomb, deep, xmp("hdrgm:Version='1'")[:-300]):
        assert refreshed_xmp(packet, EDITED, REBUILD) == (packet, [])
    damaged = xmp("", thumbnails(jpeg(OLD, (96, 64)))).replace(b"</rdf:RDF>", b"")
    result, notes = refreshed_xmp(damaged, EDITED, REBUILD)
    assert notes == ["XMP that cannot be read with a picture dropped"]
    assert result == b""


@pytest.mark.parametrize("generative", [False, True])
def test_an_edit_is_marked_in_xmp(generative: bool) -> None:
    kind = "compositeWithTrainedAlgorithmicMedia" if generative else "algorithmicallyEnhanced"
    there = "Iptc4xmpExt:DigitalSourceType='http://x/digitalCapture' xmp:CreatorTool='Camera 1.0'"
    for packet in (xmp("dc:rights='x'"), xmp(there), b""):
        result, notes = refreshed_xmp(packet, EDITED, MARK, generative=generative)
        assert notes == []
        found = properties(result, -1).attrib
        source_type = found[f"{{{NAMESPACES['Iptc4xmpExt']}}}DigitalSourceType"]
        assert source_type == f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"
        assert found[f"{{{NAMESPACES['xmp']}}}CreatorTool"] == "catalog-cleanup"
        if packet:
            assert properties(result)[0][0][0].text == "Ä & Ö"


def test_a_mark_does_not_hide_that_a_picture_is_generated() -> None:
    generated = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    packet = xmp(f"Iptc4xmpExt:DigitalSourceType='{generated}'")
    assert generated.encode() in refreshed_xmp(packet, EDITED, MARK)[0]


def test_a_photoshop_resource_with_a_picture_goes_and_all_others_stay() -> None:
    small = jpeg(OLD, (64, 48))
    preview = resource(1028, b"\x1c\x02\xca" + struct.pack(">H", len(small)) + small)
    before, after = resource(1005, b"resolution info!"), resource(1061, b"digest" * 3)
    result, notes = refreshed_resources(before + preview + after, EDITED, REBUILD)
    assert notes == ["Photoshop resource 1028 with a picture dropped"]
    assert result == before + after
    result, notes = refreshed_resources(before + b"rest" + small, EDITED, REBUILD)
    assert notes == ["rest of the Photoshop resources with a picture dropped"]
    assert result == before
    with pytest.raises(RowError, match="Photoshop resource 1028"):
        refreshed_resources(preview, EDITED, REFUSE)
