"""Files with all kinds of previews in them, made by Pillow or by hand."""

from __future__ import annotations

import base64
import io
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import ExifTags, Image

from stages.codecs.jpeg.markers import split_metadata
from stages.codecs.picture import Edit
from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.jpeg import refresh_jpeg
from stages.codecs.stale.photoshop import refresh_resources
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp
from stages.pixels.samples import ColourModel, ColourSpace
from stages.recipe.options import MetadataOptions
from stages.verify.containers import list_metadata
from stages.verify.embedded import embedded_pictures
from tests.support import DEMO, encoded, upright_rgb

REBUILD, DROP = MetadataOptions(), MetadataOptions(stale_preview="drop")
REFUSE = MetadataOptions(stale_preview="refuse")
MARK = MetadataOptions(mark_edit=True)

Order = Literal["<", ">"]
ORDERS: list[Order] = ["<", ">"]
Tags = dict[int, tuple[int, list[int] | bytes]]

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

DIRECTORY = """
    <Container:Directory><rdf:Seq>
      <rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary"/></rdf:li>
      <rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="%s" Item:Length="9"/></rdf:li>
    </rdf:Seq></Container:Directory>"""

OLD = Image.fromarray(upright_rgb(DEMO / "photos" / "coffee-stray-coins.jpg"))
EDITED = OLD.copy()
EDITED.paste((20, 230, 40), (0, 0, OLD.width // 3, OLD.height))


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean difference at the first one's size, 0 to 255."""
    same_size = other.convert("RGB").resize(one.size, Image.Resampling.LANCZOS)
    return float(np.abs(np.asarray(one.convert("RGB"), int) - np.asarray(same_size, int)).mean())


def assert_shows(preview: Image.Image, edited: Image.Image, old: Image.Image) -> None:
    assert distance(preview, edited) < 9
    assert distance(preview, old) > 20


def previews(data: bytes) -> list[tuple[str, Image.Image | None]]:
    """As the checker finds them, which shares no code with what is tested here."""
    return list(embedded_pictures(list_metadata(data)))


def jpeg(picture: Image.Image, size: tuple[int, int] | None = None, **how: object) -> bytes:
    return encoded(picture.resize(size or picture.size), format="JPEG", **how)


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


def resource(number: int, content: bytes, name: bytes = b"") -> bytes:
    pascal = bytes([len(name)]) + name + b"\0" * (1 - len(name) % 2)
    head = b"8BIM" + struct.pack(">H", number) + pascal + struct.pack(">I", len(content))
    return head + content + b"\0" * (len(content) % 2)


def photoshop_thumbnail(picture: Image.Image) -> bytes:
    coded = jpeg(picture)
    row = (picture.width * 24 + 31) // 32 * 4
    sizes = (1, picture.width, picture.height, row, row * picture.height, len(coded), 24, 1)
    return struct.pack(">6I2H", *sizes) + coded


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


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def app1_xmp(packet: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)


def photo(*segments: bytes, trailer: bytes = b"", picture: Image.Image = OLD) -> bytes:
    """A JPEG with these segments behind Pillow's JFIF segment."""
    coded = jpeg(picture)
    return coded[:20] + b"".join(segments) + coded[20:] + trailer


def policy_for(
    edited: Image.Image, options: MetadataOptions, *, generative: bool = False
) -> StaleDataPolicy:
    """The policy for a file whose edited picture is this one: grey, RGB or CMYK."""
    pixels = np.asarray(edited)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    models: dict[int, ColourModel] = {1: "grey", 3: "rgb", 4: "cmyk"}
    changed, space = np.ones(pixels.shape[:2], np.bool_), ColourSpace(models[pixels.shape[2]])
    return StaleDataPolicy(Edit(b"", pixels, changed, space, 0, options, generative))


@dataclass
class Refreshed:
    """What became of a JPEG's metadata."""

    segments: list[bytes]
    trailer: bytes
    notes: list[str]


def refreshed(
    data: bytes, options: MetadataOptions = REBUILD, edited: Image.Image = EDITED
) -> tuple[bytes, Refreshed]:
    """The edited file, as a codec would write it."""
    policy = policy_for(edited, options)
    found, _, behind = split_metadata(data)
    segments, trailer = refresh_jpeg(found, behind, policy)
    body = split_metadata(jpeg(edited))[1]
    result = b"".join([b"\xff\xd8", *segments, body, trailer])
    return result, Refreshed(segments, trailer, policy.notes)


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


def jumbf(kind: bytes, number: int, parts: int, size: int = 3000) -> list[bytes]:
    described = kind + bytes.fromhex("00110010800000AA00389B71") + b"\3label\0"
    content = struct.pack(">I", 8 + len(described)) + b"jumd" + described + bytes(size)
    head = struct.pack(">I", 8 + len(content)) + b"jumb"
    step = -(-len(content) // parts)
    return [
        segment(0xEB, b"JP" + struct.pack(">HI", number, 1 + i) + head + content[i * step :][:step])
        for i in range(parts)
    ]


def ultra_hdr(order: Order = ">") -> bytes:
    packet = app1_xmp(xmp(' hdrgm:Version="1.0"', DIRECTORY % "GainMap"))
    iso = segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0")
    own = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp('hdrgm:GainMapMax="2"'))
    gain_map = photo(own, picture=OLD.convert("L").resize((150, 100)))
    data = multi_picture(order, [(0, gain_map)])
    # What lies before the index moves it and all that it lists alike.
    return data[:20] + packet + iso + data[20:]


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


def refreshed_exif(
    data: bytes, edited: Image.Image, options: MetadataOptions, *, generative: bool = False
) -> tuple[bytes, list[str]]:
    policy = policy_for(edited, options, generative=generative)
    return refresh_exif(data, policy), policy.notes


def refreshed_resources(
    data: bytes, edited: Image.Image, options: MetadataOptions, *, generative: bool = False
) -> tuple[bytes, list[str]]:
    policy = policy_for(edited, options, generative=generative)
    return refresh_resources(data, policy), policy.notes


def refreshed_xmp(
    data: bytes, edited: Image.Image, options: MetadataOptions, *, generative: bool = False
) -> tuple[bytes, list[str]]:
    policy = policy_for(edited, options, generative=generative)
    return refresh_xmp(data, policy), policy.notes
