"""What is no photo at all or another thing as well, hostile masks, and hostile shapes."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tests.hostile.corpus import DAMAGE, OK, Case, sound_files
from tests.hostile.formats import bomb, chunk, png
from tests.hostile.jpeg import NO_IMAGE, UNSUPPORTED, exif_blocks, many_scans
from tests.support import encoded

NEITHER = NO_IMAGE | UNSUPPORTED


def others() -> Iterator[Case]:
    jpeg, base = sound_files()["jpeg-444-q55"], sound_files()["png-rgb"]
    page = b"<!doctype html><script>alert(1)</script><h1>404 Not Found</h1>"
    entity = b'<!DOCTYPE svg [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><text>&e;</text></svg>'
    yield Case("other/nothing", b"", frozenset({"image.zero_bytes"}))
    for name, data in (
        ("one-byte", b"\xff"),
        ("zeros", bytes(10_000)),
        ("ones", b"\xff" * 10_000),
        ("noise", np.random.default_rng(1).bytes(10_000)),
        ("html", page),
        ("svg", b'<?xml version="1.0"?>' + entity + svg),
        ("text", "Ein Bild, das keines ist: äöü €\n".encode() * 50),
        ("utf-16", "\ufeffkein Bild".encode("utf-16-le")),
        ("byte-order-mark", b"\xef\xbb\xbf\xff\xd8\xff"),
        ("pdf", b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF"),
        ("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n%%EOF"),
        ("eps-without-end", b"%!PS-Adobe-3.0 EPSF-3.0\n%%" + b"A" * 200_000),
        ("postscript", b"%!PS\n(/etc/passwd)(r)file 999 string readstring"),
        ("zip", _zip()),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + bytes(30)),
        ("program", b"\x7fELF\2\1\1" + bytes(200)),
        ("mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(400)),
    ):
        yield Case(f"other/{name}", data, NEITHER)
        yield Case(f"unmarked/{name}", data, DAMAGE | OK, cells={"boxes": "[]"})
    for name, data in (
        ("wmf", b"\xd7\xcd\xc6\x9a" + bytes(2) + b"\xff" * 40),
        ("emf", b"\1\0\0\0" + b"\xff" * 36 + b" EMF" + b"\xff" * 60),
        ("icon", b"\0\0\1\0\xff\xff" + b"\xff" * 400),
        ("apple-icon", b"icns\xff\xff\xff\xff" + b"ic10\0\0\0\x08" * 40),
        ("psd", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 2**31, 2**31, 8, 3)),
        ("jpeg-2000", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 100),
        ("jpeg-2000-stream", b"\xff\x4f\xff\x51" + b"\xff" * 100),
        ("jpeg-xl", b"\xff\x0a" + b"\xff" * 100),
        ("ppm", b"P6 65535 65535 255\n"),
        ("ppm-numbers", b"P3 " + b"9" * 5_000),
        ("xbm", b"#define a_width 99999999\n#define a_height 99999999\nstatic char a_bits[] = {"),
        ("xpm", b'/* XPM */\n"9999999 9999999 9999 9",\n'),
        ("fits", b"SIMPLE  =                    T".ljust(2_880)),
        ("dds", b"DDS \x7c\0\0\0" + b"\xff" * 120),
        ("fli", bytes(4) + b"\x11\xaf" + b"\xff" * 120),
        ("tga", b"\0\0\2" + bytes(9) + b"\xff\xff\xff\xff\x18\0"),
        ("pcx", b"\x0a\5\1\x08" + b"\0\0\0\0\xff\xff\xff\xff" + bytes(120)),
        ("sgi", b"\x01\xda\1\1\0\3\xff\xff\xff\xff\0\3" + bytes(500)),
        ("qoi", b"qoif" + b"\xff" * 20),
        ("hdf", b"\x89HDF\r\n\x1a\n" + bytes(200)),
        ("grib", b"GRIB" + bytes(4) + b"\1" * 90),
        (
            "bmp-of-2-gb",
            b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 2**31 - 1, -(2**31), 1, 24, 0),
        ),
        (
            "gif-of-65535",
            b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x0b\xff",
        ),
    ):
        yield Case(f"other/{name}", data, DAMAGE)
        yield Case(f"unmarked/{name}", data, DAMAGE | OK, cells={"boxes": "[]"})
    yield Case("polyglot/jpeg-and-zip", jpeg + _zip(), OK)
    yield Case("polyglot/png-and-html", base + page, OK)
    yield Case("polyglot/gif-and-script", b"GIF89a=1;alert(1)//" + bytes(40), NEITHER)
    yield Case(
        "polyglot/png-with-html-inside", base[:33] + chunk(b"tEXt", b"a\0" + page) + base[33:], OK
    )
    yield Case(
        "polyglot/jpeg-with-script", jpeg[:2] + b"\xff\xfe\0\x42" + page.ljust(64) + jpeg[2:], OK
    )
    yield Case("polyglot/zip-then-jpeg", _zip() + jpeg, NEITHER)
    yield Case("polyglot/two-pngs", base * 2, OK)


def _zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/passwd", bytes(100_000))
    return target.getvalue()


def masks() -> Iterator[Case]:
    photo = sound_files()["png-rgb"]
    bad = frozenset(code.replace("image.", "mask.") for code in DAMAGE)

    def case(name: str, data: bytes, *codes: str, options: tuple[str, ...] = ()) -> Case:
        return Case(f"mask/{name}", photo, frozenset(codes) or bad, data, {}, options)

    few = np.zeros((112, 150), np.uint8)
    few[40:60, 60:90] = 255
    yield case("nothing", b"", "mask.zero_bytes")
    yield case("text", b"no mask", "mask.not_an_image")
    yield case("65535-square", png(65535, 65535, bomb(1), kind=0), "mask.too_large")
    yield case("black-bomb", png(150, 112, bomb(40), kind=0), "ok", *bad)
    yield case("of-1-px", encoded(Image.new("L", (1, 1), 255)), "mask.size_mismatch")
    white = encoded(np.full((112, 150), 255, np.uint8))
    yield case("all-white", white, "mask.covers_photo")
    dark = ("mask.polarity=dark",)
    yield case("black-where-dark", encoded(few * 0), "mask.covers_photo", options=dark)
    alpha = ("mask.channel=alpha",)
    yield case("no-alpha", encoded(few), "mask.no_alpha", options=alpha)
    yield case("alpha-bomb", png(150, 112, bomb(40), depth=16, kind=6), "ok", *bad, options=alpha)
    yield case("too-many-scans", many_scans(3000), "mask.unsupported", "mask.size_mismatch")
    yield case("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "mask.not_an_image")
    yield case("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 150 112\n%%EOF")
    yield case("ppm", b"P5 150 112 255\n" + few.tobytes(), "mask.unsupported")
    values = np.where(few > 0, np.float32("nan"), np.float32("inf")).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    yield case("not-numbers", buffer.getvalue(), "mask.unsupported")
    plain = encoded(np.ascontiguousarray(few.T))
    for name, block in exif_blocks():
        turned = plain[:33] + chunk(b"eXIf", block) + plain[33:]
        yield case(f"exif-{name}", turned, "ok", "mask.size_mismatch")


def shapes() -> Iterator[Case]:
    photo = sound_files()["png-rgb"]
    bad, size = frozenset({"mask.bad_shape"}), [112, 150]
    pixels = 112 * 150

    def case(name: str, codes: frozenset[str] = bad, **cells: object) -> Case:
        texts = {column: json.dumps(cell) for column, cell in cells.items()}
        return Case(f"shape/{name}", photo, codes, cells=texts)

    def counts(name: str, told: object, codes: frozenset[str] = bad) -> Case:
        return case(f"rle-{name}", codes, rle={"size": size, "counts": told})

    yield case("boxes-huge", boxes=[[0, 0, 1e308, 1e308]])
    yield case("boxes-far", boxes=[[1e300, 0, 9, 9]])
    yield case("boxes-negative", boxes=[[0, 0, -9, -9]])
    yield case("boxes-of-text", boxes=[["0", 0, 9, 9]])
    yield case("boxes-of-null", boxes=[[None, 0, 9, 9]])
    yield case("boxes-of-truth", boxes=[[True, 0, 9, 9]])
    yield case("boxes-of-boxes", boxes=[[[0, 0, 9, 9]]])
    yield case("boxes-an-object", boxes={"x": 0})
    yield case("boxes-a-number", boxes=10**400)
    yield case("boxes-100000", boxes=[[1, 1, 2, 2]] * 100_000)
    yield case("boxes-digits", boxes=[[10**300, 0, 9, 9]])
    yield case("polygons-huge", polygons=[[0, 0, 1e308, 0, 0, 1e308]])
    yield case("polygons-negative", polygons=[[-(2**31), -(2**31), 2**31, 0, 0, 2**31]])
    yield case("polygons-odd", polygons=[[0, 0, 9, 9, 3]])
    yield case("polygons-points", polygons=[[1, 1] * 3])
    yield case("polygons-long", polygons=[[0, 0, 149, 111] * 200_000])
    yield case("polygons-100000", polygons=[[1, 1, 5, 1, 5, 5]] * 100_000)
    yield case("polygons-fine", OK, polygons=[[20, 20, 60, 20, 60, 60]])
    yield counts("too-long", [0, 2**62])
    yield counts("negative", [-1, pixels + 1])
    yield counts("fractions", [0.5, pixels - 0.5])
    yield counts("too-short", [1, 2, 3])
    yield counts("nothing", [])
    yield counts("of-32-bits", [2**32, pixels])
    yield counts("millions-of-zeros", [0] * 2_000_000 + [pixels], OK)
    yield counts("of-text", ["1", "2"])
    yield counts("an-object", {})
    yield counts("compressed-noise", "~~~~\x7f")
    yield counts("compressed-endless", "o" * 100_000)
    yield counts("compressed-long", "P" * 6 + "O")
    yield counts("compressed-unicode", "\uff10\uff11\uff12")
    yield counts("fine", [40 * 112 + 30, 20, pixels - 40 * 112 - 50], OK)
    yield case(
        "rle-of-another-size",
        frozenset({"mask.size_mismatch"}),
        rle={"size": [9, 9], "counts": [81]},
    )
    yield case(
        "rle-of-huge-size",
        bad | {"mask.size_mismatch"},
        rle={"size": [2**40, 2**40], "counts": [0]},
    )
    yield case("rle-of-no-size", rle={"size": [], "counts": [0]})
    yield case("rle-of-nested-size", rle={"size": [[112], [150]], "counts": [0]})
    yield case("rle-1001", rle=[{"size": size, "counts": [pixels]}] * 1001)


MAKERS: list[Callable[[], Iterator[Case]]] = [others, masks, shapes]
