"""The known nasties: bombs, loops, numbers out of range, things that are something else."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tests.hostile.corpus import DAMAGE, MOVED, OK, Case, sound_files
from tests.support import encoded
from tests.support.files import corpus, metadata_files
from tests.support.files.corpus import segment, with_segments

TOO_LARGE = frozenset({"image.too_large"})
UNSUPPORTED = frozenset({"image.unsupported"})
CORRUPT = frozenset({"image.corrupt", "image.truncated"})
NO_IMAGE = frozenset({"image.not_an_image"})


#: Metadata that Pillow cannot read past.
REFUSED = ("adobe-cut",)

#: Reads and writes all metadata there are.
EVERYTHING = ("metadata.mark_edit=true",)


def plain_jpeg() -> bytes:
    return sound_files()["jpeg-444-q80-progressive"]


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def jpegs() -> Iterator[Case]:
    base, grey = sound_files()["jpeg-444-q55"], sound_files()["jpeg-grey"]
    frame = base.index(b"\xff\xc0")

    def sized(width: int, height: int) -> bytes:
        return patched(base, frame + 5, struct.pack(">HH", height, width))

    yield Case("jpeg/65535-square", sized(65535, 65535), TOO_LARGE)
    yield Case("jpeg/4-megapixels-of-nothing", sized(2000, 2000), CORRUPT)
    yield Case("jpeg/no-width", sized(0, 112), CORRUPT | UNSUPPORTED)
    yield Case("jpeg/no-height", sized(150, 0), CORRUPT | UNSUPPORTED)
    for name, at, value in (
        ("sampling-0", 11, b"\0"),
        ("sampling-15", 11, b"\xff"),
        ("components-2", 9, b"\2"),
        ("components-255", 9, b"\xff"),
        ("12-bits", 4, b"\x0c"),
        ("table-3", 12, b"\3"),
        ("lossless", 1, b"\xc3"),
        ("arithmetic", 1, b"\xc9"),
        ("hierarchical", 1, b"\xc5"),
    ):
        yield Case(f"jpeg/{name}", patched(base, frame + at, value), CORRUPT | UNSUPPORTED | OK)
    yield Case("jpeg/two-frames", base[:frame] + base[frame : frame + 19] + base[frame:], CORRUPT)
    yield Case("jpeg/begins-and-ends", b"\xff\xd8\xff\xd9", DAMAGE)
    yield Case("jpeg/only-its-name", b"\xff\xd8\xff", DAMAGE)
    yield Case("jpeg/no-end", base[:-2], DAMAGE | OK)
    yield Case("jpeg/ends-in-its-head", base[:frame] + b"\xff\xd9" + base[frame:], DAMAGE)
    yield Case("jpeg/tables-of-zeros", _zeroed(base, 0xDB), CORRUPT | OK)
    yield Case("jpeg/codes-of-zeros", _zeroed(base, 0xC4), CORRUPT | OK)
    many = base[:2] + segment(0xFE, b"") * 200_000 + base[2:]
    yield Case("jpeg/200000-comments", many, UNSUPPORTED)
    yield Case("jpeg/padding", base[:2] + b"\xff" * 1_000_000 + base[2:], DAMAGE | OK)
    yield Case("jpeg/3000-scans", many_scans(3000), UNSUPPORTED)
    yield Case("jpeg/3000-scans-of-nothing", many_scans(3000, empty=True), UNSUPPORTED)
    yield Case("jpeg/restart-markers", base.replace(b"\xff\0", b"\xff\xd0"), DAMAGE)
    yield Case("jpeg/cmyk-without-adobe", _without(sound_files()["jpeg-cmyk"], 0xEE), OK)
    dnl = grey[:-2] + b"\xff\xdc\0\4\xff\xff" + grey[-2:]
    yield Case("jpeg/height-told-later", dnl, DAMAGE | OK)
    for name, pixels in (("1x60000", (1, 60_000)), ("60000x1", (60_000, 1)), ("1x1", (1, 1))):
        width, height = (min(side, 20) for side in pixels)
        cells = {"boxes": f"[[0, 0, {width}, {height}]]"}
        tiny = encoded(Image.new("RGB", pixels), format="JPEG")
        yield Case(f"jpeg/{name}", tiny, OK | MOVED, cells=cells)


def _zeroed(jpeg: bytes, marker: int) -> bytes:
    at = jpeg.index(bytes([0xFF, marker]))
    size = int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return patched(jpeg, at + 5, bytes(size - 3))


def _without(jpeg: bytes, marker: int) -> bytes:
    at = jpeg.index(bytes([0xFF, marker]))
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]


def many_scans(count: int, *, empty: bool = False) -> bytes:
    """A progressive JPEG of 4 MP whose last scan is there again and again."""
    jpeg = encoded(Image.new("L", (2000, 2000), 90), format="JPEG", progressive=True)
    at = jpeg.rindex(b"\xff\xda")
    scan = jpeg[at : at + 10] if empty else jpeg[at:-2]
    return jpeg[:-2] + scan * count + jpeg[-2:]


def jpeg_metadata() -> Iterator[Case]:
    base = plain_jpeg()

    def case(name: str, *segments: bytes, trailer: bytes = b"") -> Case:
        data = with_segments(base, *segments) + trailer
        codes = CORRUPT if name in REFUSED else OK
        return Case(f"metadata/{name}", data, codes, options=EVERYTHING)

    for name, block in exif_blocks():
        yield case(f"exif-{name}", segment(0xE1, b"Exif\0\0" + block))
    for name, packet in packets():
        if len(packet) < 65_000:
            yield case(f"xmp-{name}", metadata_files.app1_xmp(packet))
    guid = b"0" * 32
    for name, length, offset in (("4-gb", 2**32 - 1, 0), ("gap", 100, 50), ("empty", 0, 0)):
        head = b"http://ns.adobe.com/xmp/extension/\0" + guid + struct.pack(">II", length, offset)
        yield case(f"xmp-extension-{name}", segment(0xE1, head + b"<x/>"))
    for name, profile in profiles():
        parts = [profile[at : at + 65_000] for at in range(0, len(profile), 65_000)] or [b""]
        told = [b"ICC_PROFILE\0" + bytes([i + 1, len(parts)]) + p for i, p in enumerate(parts)]
        yield case(f"icc-{name}", *(segment(0xE2, part) for part in told))
    yield case("icc-numbers", segment(0xE2, b"ICC_PROFILE\0\xff\0" + corpus.SRGB))
    for name, index in _multi_picture_indices():
        yield case(f"mpf-{name}", segment(0xE2, b"MPF\0" + index), trailer=base)
    for name, box in _jumbf_boxes():
        yield case(f"jumbf-{name}", segment(0xEB, b"JP\0\1\0\0\0\1" + box))
    for name, resources in _photoshop_blocks():
        yield case(f"photoshop-{name}", segment(0xED, b"Photoshop 3.0\0" + resources))
    small = segment(0xE0, b"JFXX\0\x10" + patched(base, 20, b"\xff" * 40))
    yield case("jfxx-of-noise", small)
    yield case("jfif-thumbnail-out-of-range", segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\xff\xff"))
    yield case("adobe-cut", segment(0xEE, b"Adobe"))
    yield case("trailer-of-beginnings", trailer=b"\xff\xd8\xff\xe0" * 100_000)
    tiny = b"\xff\xd8\xff\xc0\0\2\xff\xda\0\2"
    yield case("trailer-of-pictures", trailer=tiny * 20_000)
    box = struct.pack(">I4s", 8, b"free")
    yield case("trailer-of-boxes", trailer=b"\0\0\0\x14ftypmp42" + bytes(8) + box * 100_000)
    yield case("trailer-of-films", trailer=b"\0\0\0\x0cftypmp42" * 50_000)
    yield case("trailer-of-samsung", trailer=b"SEFH" + b"\xff" * 40 + b"\x30\0\0\0SEFT")


def exif_blocks() -> Iterator[tuple[str, bytes]]:
    def ifd(*rows: tuple[int, int, int, int], following: int = 0, order: str = "<") -> bytes:
        packed = b"".join(struct.pack(order + "HHII", *row) for row in rows)
        return struct.pack(order + "H", len(rows)) + packed + struct.pack(order + "I", following)

    head = b"II*\0\x08\0\0\0"
    yield "only-its-head", head
    yield "first-outside", b"II*\0\xff\xff\xff\xff"
    yield "chain-of-itself", head + ifd((0x10F, 2, 4, 0), following=8)
    yield "chain-backwards", head + ifd((0x10F, 2, 4, 0), following=26) + ifd(following=8)
    yield "65535-tags", head + b"\xff\xff" + bytes(12) * 4000
    for tag, name in ((0x8769, "exif"), (0x8825, "gps"), (0x14A, "sub"), (0xA005, "interop")):
        yield f"{name}-is-its-own", head + ifd((0x10F, 2, 4, 0), (tag, 4, 1, 8))
        yield f"{name}-outside", head + ifd((0x10F, 2, 4, 0), (tag, 4, 1, 2**31))
        yield f"{name}-many", head + ifd((0x10F, 2, 4, 0), (tag, 4, 2**30, 8))
    inner = head + ifd((0x8769, 4, 1, 26))
    yield "maker-note-outside", inner + ifd((0x927C, 7, 60_000, 2**32 - 8))
    yield "maker-note-everything", inner + ifd((0x927C, 7, 44, 0))
    yield (
        "maker-note-apple",
        inner + ifd((0x927C, 7, 30, 44)) + b"Apple iOS\0\0\1MM\xff\xff" + bytes(9),
    )
    yield (
        "maker-note-nikon",
        inner + ifd((0x927C, 7, 60, 44)) + b"Nikon\0\2\x10\0\0MM\0*\xff\xff\xff\xff",
    )
    yield "huge-count", head + ifd((0x10F, 2, 2**32 - 1, 8))
    yield "unknown-type", head + ifd((0x10F, 99, 1, 8))
    for kind in (2, 5, 7, 10, 12):
        yield f"orientation-of-type-{kind}", head + ifd((0x112, kind, 1, 8)) + bytes(8)
    yield "orientation-65535", head + ifd((0x112, 3, 1, 65535))
    yield "orientation-many", head + ifd((0x112, 3, 2**30, 8))
    yield "turned-with-noise", head + ifd((0x112, 3, 1, 6), (0x8769, 4, 1, 3), (0x8298, 2, 9, 1))
    yield "zero-denominator", head + ifd((0x112, 3, 1, 6), (0x11A, 5, 1, 38)) + bytes(8)
    first = head + ifd((0x10F, 2, 4, 0), following=26)
    yield "thumbnail-outside", first + ifd((0x201, 4, 1, 2**31), (0x202, 4, 1, 2**31))
    yield "thumbnail-on-itself", first + ifd((0x201, 4, 1, 0), (0x202, 4, 1, 60))
    strips = [(0x100, 4, 1, 2**31), (0x101, 4, 1, 2**31), (0x103, 3, 1, 1), (0x106, 3, 1, 2)]
    yield "thumbnail-of-strips", first + ifd(*strips, (0x111, 4, 1, 8), (0x117, 4, 1, 40))
    yield "thumbnail-of-nothing", first + ifd(*strips, (0x111, 4, 0, 8), (0x117, 4, 0, 0))
    yield "streams", head + ifd((0x10F, 2, 4, 0)) + b"\xff\xd8\xff\xc0\0\2\xff\xda\0\2" * 6000


def packets() -> Iterator[tuple[str, bytes]]:
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(12))
    told = f'<?xml version="1.0"?><!DOCTYPE x [{laughs}]>'
    yield "billion-laughs", f"{told}<x>&l11;</x>".encode()
    outside = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'
    yield "external-entity", outside.encode()
    yield "deep", b"<a>" * 20_000 + b"</a>" * 3
    yield "deep-and-closed", b"<a>" * 8_000 + b"</a>" * 8_000
    yield "spaces-in-a-tag", b"<a" + b" " * 60_000 + b">"
    yield "spaces-after-tags", b"<a>" + b" " * 60_000 + b"<b/></a>"
    attributes = b" ".join(b'a%d="1"' % number for number in range(5_000))
    yield "5000-attributes", b"<a " + attributes + b"/>"
    yield "20000-elements", b"<a>" + b"<b/>" * 15_000 + b"</a>"
    yield "same-attribute", b'<a b="1" b="2"/>'
    yield "quotes", b"<a b='\"" * 5_000
    yield "not-utf-8", b"<x>\xff\xfe\xc0\x80</x>"
    yield "half-utf-16", b"\xff\xfe<\0x\0>"
    yield "lone-surrogates", "<x/>".encode("utf-16-le") + b"\x00\xd8"
    yield "numbers-of-characters", b"<x>&#x110000;&#0;&#xD800;</x>"
    yield "noise", np.random.default_rng(3).bytes(5_000)
    yield "nothing", b" " * 100
    base64 = b"/9j/" * 12_000
    picture = metadata_files.xmp("", metadata_files.thumbnails(b"\xff\xd8\xff" + bytes(500)))
    yield "thumbnail-of-noise", picture
    yield "pictures-in-what-is-no-xml", b"<x>" + base64
    yield "namespaces", b"<a " + b" ".join(b'xmlns:p%d="u"' % i for i in range(3_000)) + b"/>"


def profiles() -> Iterator[tuple[str, bytes]]:
    good = corpus.P3
    yield "empty", b""
    yield "cut", good[:200]
    yield "size-4-gb", b"\xff\xff\xff\xff" + good[4:]
    yield "tags-4-billion", patched(good, 128, b"\xff\xff\xff\xff")
    yield "tags-outside", patched(good, 136, b"\xff\xff\xff\xf0" * 20)
    yield "tags-all-alike", patched(good, 132, good[132:144] * 6)
    yield "of-another-space", patched(good, 16, b"CMYK")
    yield "of-no-space", patched(good, 16, b"\0\0\0\0")
    yield "noise-behind-its-head", good[:128] + np.random.default_rng(4).bytes(len(good) - 128)
    yield "curves", good.replace(b"para", b"curv")
    yield "named-colours", patched(good, 12, b"nmcl")
    yield "device-link", patched(good, 12, b"link")
    yield "giant", good + bytes(3_000_000)
    for number in range(8):
        rng = np.random.default_rng(number)
        noisy = bytearray(good)
        for at in rng.integers(128, len(good), 12):
            noisy[at] = int(rng.integers(256))
        yield f"damaged-{number}", bytes(noisy)


def _multi_picture_indices() -> Iterator[tuple[str, bytes]]:
    head = b"II*\0\x08\0\0\0"

    def index(count: int, size: int, at: int, entries: bytes = b"") -> bytes:
        rows = [(0xB000, 7, 4, 0x30303130), (0xB001, 4, 1, count), (0xB002, 7, size, at)]
        packed = b"".join(struct.pack("<HHII", *row) for row in rows)
        return head + struct.pack("<H", 3) + packed + bytes(4) + entries

    row = struct.pack("<IIIHH", 0x10001, 2**32 - 1, 2**32 - 1, 65535, 65535)
    yield "4-billion-pictures", index(2**32 - 1, 2**32 - 1, 50)
    yield "outside", index(2, 32, 2**31)
    yield "places-outside", index(2, 32, 50, row * 2)
    yield "places-in-itself", index(2, 32, 50, struct.pack("<IIIHH", 0x10001, 100, 4, 1, 1) * 2)
    yield "many", index(3_000, 48_000, 50, struct.pack("<IIIHH", 0x10001, 99, 60_000, 0, 0) * 3_000)
    yield "is-its-own-entries", index(2, 32, 8)
    yield "cut", index(2, 32, 50)[:30]
    yield "nothing", b""
    yield "noise", np.random.default_rng(5).bytes(400)
    yield "no-count", head + struct.pack("<HHHII", 1, 0xB002, 7, 32, 0) + bytes(4)


def _jumbf_boxes() -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "size-0", b"\0\0\0\0jumb" + bytes(8)
    yield "size-4-gb", b"\xff\xff\xff\xffjumb" + b"\xff\xff\xff\xffjumd" + bytes(30)
    yield "size-2-64", b"\0\0\0\1jumb" + b"\xff" * 8 + b"\0\0\0\1jumd" + b"\xff" * 20
    yield "nested", b"\0\0\0\x10jumb" * 4_000
    yield "noise", np.random.default_rng(6).bytes(500)


def _photoshop_blocks() -> Iterator[tuple[str, bytes]]:
    yield "size-4-gb", b"8BIM\x04\x0c\0\0\xff\xff\xff\xff"
    yield "name-too-long", b"8BIM\x04\x0c\xff"
    yield "thumbnail-of-noise", metadata_files.resource(0x40C, b"\xff" * 400)
    yield "thumbnail-of-nothing", metadata_files.resource(0x40C, b"")
    yield "many", metadata_files.resource(0x3ED, b"") * 5_000
    yield "iptc-size", metadata_files.resource(0x404, b"\x1c\2\xc8\xff\xff" + b"\xff" * 30)
    yield "iptc-preview", metadata_files.resource(0x404, b"\x1c\2\xca\0\4abcd" * 1_000)
    yield "exif-of-itself", metadata_files.resource(0x422, dict(exif_blocks())["chain-of-itself"])
    yield "xmp-laughs", metadata_files.resource(0x424, dict(packets())["billion-laughs"])
    yield "cut", metadata_files.resource(0x404, b"x" * 30)[:-20]


MAKERS: list[Callable[[], Iterator[Case]]] = [jpegs, jpeg_metadata]
