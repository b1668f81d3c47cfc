"""Blocks of metadata after an edit: what showed the old picture shows the new one, the rest stays.

Inputs are made by Pillow or by hand, and results read by Pillow, never by the code under test.
Against real cameras it was tried with the sample files of Pillow, ExifTool and ianare/exif-samples:
thumbnails of 60 cameras (uncompressed ones of Kodak and Sony among them, one whose offset is two
bytes off), previews in maker notes of Samsung and Pentax, FlashPix previews of Fujifilm, XMP in
UTF-16.
"""

from __future__ import annotations

import base64
import io
import struct
import xml.etree.ElementTree as ET
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image

from manifests.errors import RowError
from stages.codecs.metadata.exif import settle_exif
from stages.codecs.metadata.photoshop import settle_photoshop
from stages.codecs.metadata.xmp import settle_xmp
from stages.recipe import MetadataOptions
from tests.support import encoded

REBUILD, DROP = MetadataOptions(), MetadataOptions(stale_preview="drop")
REFUSE = MetadataOptions(stale_preview="refuse")
MARK = MetadataOptions(mark_edit=True)
Order = Literal["<", ">"]
ORDERS: list[Order] = ["<", ">"]


@pytest.fixture(scope="module")
def old(coffee: npt.NDArray[np.uint8]) -> Image.Image:
    """3:2."""
    return Image.fromarray(coffee)


@pytest.fixture(scope="module")
def edited(old: Image.Image) -> Image.Image:
    """The same with a third painted over."""
    painted = old.copy()
    painted.paste((20, 230, 40), (0, 0, old.width // 3, old.height))
    return painted


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean difference at the first one's size, 0 to 255."""
    same_size = other.convert("RGB").resize(one.size, Image.Resampling.LANCZOS)
    return float(np.abs(np.asarray(one.convert("RGB"), int) - np.asarray(same_size, int)).mean())


def assert_shows(preview: Image.Image, edited: Image.Image, old: Image.Image) -> None:
    assert distance(preview, edited) < 9
    assert distance(preview, old) > 20


def jpeg(picture: Image.Image, size: tuple[int, int] | None = None, **how: object) -> bytes:
    return encoded(picture.resize(size or picture.size), format="JPEG", **how)


Tags = dict[int, tuple[int, list[int] | bytes]]


def tiff(order: Order, ifds: list[Tags], data: bytes, data_at: int = 1000) -> bytes:
    """A TIFF structure by hand: a chain of directories, and data at a position of its own."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    body, position = b"", 8
    for number, tags in enumerate(ifds):
        end = position + 2 + 12 * len(tags) + 4
        rows, values = b"", b""
        for tag, (kind, value) in sorted(tags.items()):
            form = {1: "B", 3: "H", 4: "I", 7: "B", 2: "B"}[kind]
            raw = struct.pack(f"{order}{len(value)}{form}", *value)
            if len(raw) > 4:
                place, values = end + len(values), values + raw
                raw = struct.pack(order + "I", place)
            rows += struct.pack(order + "HHI", tag, kind, len(value)) + raw.ljust(4, b"\0")
        position = end + len(values)
        following = position if number + 1 < len(ifds) else 0
        body += struct.pack(order + "H", len(tags)) + rows + struct.pack(order + "I", following)
        body += values
    block = head + body
    assert len(block) <= data_at
    return block.ljust(data_at, b"\0") + data


def with_thumbnail(order: Order, thumbnail: bytes, behind: bytes = b"") -> bytes:
    """EXIF with a thumbnail at 1000, and a maker note of bytes that nobody knows before it."""
    maker_note = bytes(range(256))
    first: Tags = {0x10F: (2, b"Camera\0"), 0x8769: (4, [600])}
    second: Tags = {0x103: (3, [6]), 0x201: (4, [1000]), 0x202: (4, [len(thumbnail)])}
    block = bytearray(tiff(order, [first, second], thumbnail + behind))
    inner = struct.pack(order + "HHHII", 1, 0x927C, 7, 256, 700) + bytes(4)
    block[600 : 600 + len(inner)], block[700:956] = inner, maker_note
    return bytes(block)


def thumbnail_of(block: bytes) -> Image.Image | None:
    """As Pillow finds it."""
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + block)
    tags = exif.get_ifd(ExifTags.IFD.IFD1)
    if 0x201 not in tags:
        return None
    with Image.open(io.BytesIO(block[tags[0x201] : tags[0x201] + tags[0x202]])) as picture:
        picture.load()
        return picture


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [(160, 107), (96, 64), (320, 213)])
def test_an_exif_thumbnail_is_drawn_anew_in_its_place(
    old: Image.Image, edited: Image.Image, order: Order, size: tuple[int, int]
) -> None:
    thumbnail = jpeg(old, size)
    block = with_thumbnail(order, thumbnail, behind=b"what follows")
    settled, notes = settle_exif(block, edited, REBUILD)
    assert notes == ["EXIF thumbnail rebuilt"]
    made = thumbnail_of(settled)
    assert made is not None
    assert made.size == size
    assert_shows(made, edited, old)
    assert len(settled) == len(block)
    assert settled.endswith(b"what follows")
    changed = [i for i in range(1000) if settled[i] != block[i]]
    (length_tag,) = {block.find(struct.pack(order + "I", len(thumbnail)))}
    assert set(changed) <= set(range(length_tag, length_tag + 4))


@pytest.mark.parametrize("order", ORDERS)
def test_a_dropped_exif_thumbnail_leaves_zeros(
    old: Image.Image, edited: Image.Image, order: Order
) -> None:
    block = with_thumbnail(order, jpeg(old, (160, 107)), behind=b"tail")
    settled, notes = settle_exif(block, edited, DROP)
    assert notes == ["EXIF thumbnail dropped"]
    assert thumbnail_of(settled) is None
    assert len(settled) == len(block)
    assert not any(settled[1000:-4])
    assert settled[600:1000] == block[600:1000]
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + settled)
    assert exif[0x10F] == "Camera"
    assert exif.get_ifd(0x8769)[0x927C] == bytes(range(256))


def test_a_thumbnail_that_does_not_fit_goes_to_the_end(
    old: Image.Image, edited: Image.Image
) -> None:
    plain = jpeg(Image.new("RGB", (160, 107)), quality=5)
    noise = Image.effect_noise(edited.size, 100).convert("RGB")
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
def test_a_thumbnail_of_another_shape_keeps_its_bars_or_cut(
    old: Image.Image, edited: Image.Image, how: str
) -> None:
    def shaped(picture: Image.Image) -> Image.Image:
        if how == "cut":
            return picture.resize((160, 120), box=(33, 0, 567, 400))
        barred = Image.new("RGB", (160, 120))
        barred.paste(picture.resize((160, 107)), (0, 6))
        return barred

    settled, _ = settle_exif(with_thumbnail("<", jpeg(shaped(old))), edited, REBUILD)
    made = thumbnail_of(settled)
    assert made is not None
    assert_shows(made, shaped(edited), shaped(old))


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
def test_an_uncompressed_thumbnail_is_written_anew(
    old: Image.Image, edited: Image.Image, order: Order, photometric: int
) -> None:
    before = samples(old.resize((96, 64)), photometric)
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
    settled, notes = settle_exif(block, edited, REBUILD)
    assert notes == ["EXIF thumbnail rebuilt"]
    assert settled[:1000] == block[:1000]
    assert settled.endswith(b"tail")
    wanted = np.frombuffer(samples(edited.resize((96, 64)), photometric), np.uint8).astype(int)
    made = np.frombuffer(settled[1000:-4], np.uint8)
    assert np.abs(made - wanted).mean() < 6
    settled, notes = settle_exif(block, edited, DROP)
    assert notes == ["EXIF thumbnail dropped"]
    assert settled[1000:] == bytes(len(before)) + b"tail"


def test_previews_in_maker_notes_are_zeroed_where_they_are(
    old: Image.Image, edited: Image.Image
) -> None:
    preview = jpeg(old, (320, 213))
    note = b"Maker\0" + preview + b"more"
    block = tiff("<", [{0x10F: (2, b"C\0"), 0x927C: (7, note)}], b"", data_at=20_000)
    start = block.find(preview)
    settled, notes = settle_exif(block, edited, REBUILD)
    assert notes == ["preview inside the EXIF dropped"]
    assert settled == block[:start] + bytes(len(preview)) + block[start + len(preview) :]


def test_what_is_not_stale_comes_back_as_it_is(edited: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photo"
    block = exif.tobytes()[6:]
    for options in (REBUILD, DROP, REFUSE):
        for settle, data in (
            (settle_exif, block),
            (settle_exif, b"\xff\xff\xff\xffnonsense"),
            (settle_exif, b""),
            (settle_photoshop, resource(1028, b"iptc!") + resource(1061, b"x" * 16)),
            (settle_photoshop, b"nonsense"),
            (settle_xmp, xmp('dc:title="x"')),
            (settle_xmp, b"<not xml"),
            (settle_xmp, b""),
        ):
            settled, notes = settle(data, edited, options)
            assert settled is data
            assert notes == []


def resource(number: int, content: bytes, name: bytes = b"") -> bytes:
    pascal = bytes([len(name)]) + name + b"\0" * (1 - len(name) % 2)
    head = b"8BIM" + struct.pack(">H", number) + pascal + struct.pack(">I", len(content))
    return head + content + b"\0" * (len(content) % 2)


def photoshop_thumbnail(picture: Image.Image) -> bytes:
    coded = jpeg(picture)
    row = (picture.width * 24 + 31) // 32 * 4
    sizes = (1, picture.width, picture.height, row, row * picture.height, len(coded), 24, 1)
    return struct.pack(">6I2H", *sizes) + coded


@pytest.mark.parametrize("number", [1036, 1033])
def test_a_photoshop_thumbnail_is_drawn_anew_among_the_others(
    old: Image.Image, edited: Image.Image, number: int
) -> None:
    def drawn(picture: Image.Image) -> Image.Image:
        small = picture.resize((160, 107))
        return small if number == 1036 else Image.merge("RGB", small.split()[::-1])

    before = resource(1005, b"resolution info!") + resource(1028, b"iptc!", b"name")
    after = resource(1061, b"digest" * 3)
    data = before + resource(number, photoshop_thumbnail(drawn(old))) + after
    settled, notes = settle_photoshop(data, edited, REBUILD)
    assert notes == ["Photoshop thumbnail rebuilt"]
    assert settled.startswith(before)
    assert settled.endswith(after)
    content = settled[len(before) + 12 : -len(after)]
    assert struct.unpack(">6I", content[:24])[:5] == (1, 160, 107, 480, 51_360)
    with Image.open(io.BytesIO(content[28:])) as made:
        assert_shows(made, drawn(edited), drawn(old))
    assert settle_photoshop(data, edited, DROP) == (before + after, ["Photoshop thumbnail dropped"])


def test_stale_data_are_refused_by_name(old: Image.Image, edited: Image.Image) -> None:
    thumbnail = jpeg(old, (160, 107))
    for settle, data, what in (
        (settle_exif, with_thumbnail("<", thumbnail), "EXIF thumbnail"),
        (settle_exif, b"junk" + thumbnail, "preview inside the EXIF"),
        (settle_photoshop, resource(1036, photoshop_thumbnail(old)), "Photoshop thumbnail"),
        (settle_xmp, xmp('hdrgm:Version="1.0"'), "gain map"),
        (settle_xmp, xmp("", thumbnails(thumbnail)), "XMP thumbnail"),
        (settle_xmp, xmp('dcterms:provenance="self#jumbf=c2pa/x"'), "C2PA manifest"),
    ):
        with pytest.raises(RowError, match=what) as caught:
            settle(data, edited, REFUSE)
        assert caught.value.code == "image.stale_preview"
        assert "metadata.stale_preview" in caught.value.remedy


NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpGImg": "http://ns.adobe.com/xap/1.0/g/img/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "GImage": "http://ns.google.com/photos/1.0/image/",
    "dcterms": "http://purl.org/dc/terms/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
}


def xmp(attributes: str, elements: str = "") -> bytes:
    """A packet as Adobe writes it."""
    attributes = f" {attributes.strip()}" if attributes else ""
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {declared}>\n'
        f"  <rdf:Description rdf:about=''{attributes} dc:format='a &gt; b&#10;c'>{elements}\n"
        "    <dc:creator><rdf:Seq><rdf:li>Ä &amp; Ö</rdf:li></rdf:Seq></dc:creator>\n"
        "  </rdf:Description></rdf:RDF></x:xmpmeta>\n" + " " * 200 + '\n<?xpacket end="w"?>'
    ).encode()


def thumbnails(*coded: bytes) -> str:
    items = "".join(
        f'<rdf:li rdf:parseType="Resource"><xmpGImg:format>JPEG</xmpGImg:format><xmpGImg:image>'
        f"{base64.encodebytes(each).decode().replace(chr(10), '&#xA;')}</xmpGImg:image></rdf:li>"
        for each in coded
    )
    return f"\n    <xmp:Thumbnails><rdf:Alt>{items}</rdf:Alt></xmp:Thumbnails>"


def properties(packet: bytes) -> ET.Element:
    """The first description, read by another reader."""
    text = packet.decode().strip()
    found = ET.fromstring(text[text.index("<x:") : text.rindex("<?")])[0][0]  # noqa: S314
    assert found.tag == f"{{{NAMESPACES['rdf']}}}Description"
    return found


def test_xmp_thumbnails_are_drawn_anew(old: Image.Image, edited: Image.Image) -> None:
    packet = xmp("", thumbnails(jpeg(old, (256, 171)), jpeg(old, (96, 64))))
    settled, notes = settle_xmp(packet, edited, REBUILD)
    assert notes == ["XMP thumbnail rebuilt"]
    images = properties(settled).findall(".//xmpGImg:image", NAMESPACES)
    for image, size in zip(images, [(256, 171), (96, 64)], strict=True):
        with Image.open(io.BytesIO(base64.b64decode(image.text or ""))) as made:
            assert made.size == size
            assert_shows(made, edited, old)
    dropped, notes = settle_xmp(packet, edited, DROP)
    assert notes == ["XMP thumbnail dropped"]
    assert dropped == xmp("")


DIRECTORY = """
    <Container:Directory><rdf:Seq>
      <rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary"/></rdf:li>
      <rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="%s" Item:Length="9"/></rdf:li>
    </rdf:Seq></Container:Directory>"""


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
    edited: Image.Image, attributes: str, elements: str, note: str, encoding: str
) -> None:
    packet = xmp("dc:rights='x'" + attributes, elements).decode().encode(encoding)
    settled, notes = settle_xmp(packet, edited, REBUILD)
    assert settled.decode(encoding).encode() == xmp("dc:rights='x'")
    assert notes == [note]


def test_a_photo_without_motion_and_a_plain_provenance_stay(edited: Image.Image) -> None:
    packet = xmp('GCamera:MotionPhoto="0" dcterms:provenance="the archive of the museum"')
    assert settle_xmp(packet, edited, REBUILD) == (packet, [])


def test_a_packet_with_a_dtd_or_without_end_stays(old: Image.Image, edited: Image.Image) -> None:
    lol = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{lol}]><x:xmpmeta hdrgm="&l9;"/>'.encode()
    deep = b"<a>" * 100_000
    for packet in (bomb, deep, xmp("hdrgm:Version='1'")[:-300]):
        assert settle_xmp(packet, edited, REBUILD) == (packet, [])
    damaged = xmp("", thumbnails(jpeg(old, (96, 64)))).replace(b"</rdf:RDF>", b"")
    settled, notes = settle_xmp(damaged, edited, REBUILD)
    assert notes == ["picture inside the XMP dropped"]
    assert b"/9j/" not in settled
    assert len(settled) == len(damaged)


@pytest.mark.parametrize("generative", [False, True])
def test_an_edit_is_marked_in_xmp(edited: Image.Image, generative: bool) -> None:
    kind = "compositeWithTrainedAlgorithmicMedia" if generative else "algorithmicallyEnhanced"
    there = (
        "Iptc4xmpExt:DigitalSourceType='http://x/digitalCapture' xmp:CreatorTool='Camera 1.0' "
        "tiff:Software='Camera 1.0'"
    )
    for packet in (xmp("dc:rights='x'"), xmp(there), b""):
        settled, notes = settle_xmp(packet, edited, MARK, generative=generative)
        assert notes == []
        found = properties(settled).attrib
        source_type = found[f"{{{NAMESPACES['Iptc4xmpExt']}}}DigitalSourceType"]
        assert source_type == f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"
        assert found[f"{{{NAMESPACES['xmp']}}}CreatorTool"] == "catalog-cleanup"
        software = found.get(f"{{{NAMESPACES['tiff']}}}Software")
        assert software == ("catalog-cleanup" if there.encode() in packet else None)
        if packet:
            assert properties(settled)[0][0][0].text == "Ä & Ö"


def test_a_mark_does_not_hide_that_a_picture_is_generated(edited: Image.Image) -> None:
    generated = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    packet = xmp(f"Iptc4xmpExt:DigitalSourceType='{generated}'")
    assert generated.encode() in settle_xmp(packet, edited, MARK)[0]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("software", [None, b"A camera's firmware 1.0\0", b"v1\0"])
def test_an_edit_is_marked_in_exif_and_nothing_moves(
    old: Image.Image, edited: Image.Image, order: Order, software: bytes | None
) -> None:
    first: Tags = {0x10F: (2, b"Camera\0"), 0x9003: (2, b"2020:01:01 00:00:00\0")}
    if software:
        first[0x131] = (2, software)
    block = tiff(order, [first, {0x201: (4, [1000]), 0x202: (4, [9_000])}], jpeg(old, (160, 107)))
    settled, notes = settle_exif(block, edited, MARK)
    assert notes == ["EXIF thumbnail rebuilt"]
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + settled)
    assert exif[0x131].rstrip("\0") == "catalog-cleanup"
    assert exif[0x10F] == "Camera"
    assert exif[0x9003] == "2020:01:01 00:00:00"
    made = thumbnail_of(settled)
    assert made is not None
    assert_shows(made, edited, old)
