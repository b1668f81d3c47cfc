"""The nasties of PNG, WebP, TIFF, AVIF and HEIC."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np

from tests.hostile.corpus import DAMAGE, MOVED, OK, Case, sound_files
from tests.hostile.jpeg import (
    CORRUPT,
    EVERYTHING,
    TOO_LARGE,
    UNSUPPORTED,
    exif_blocks,
    packets,
    patched,
    profiles,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(
    width: int, height: int, rows: bytes, *before: bytes, depth: int = 8, kind: int = 2
) -> bytes:
    """A PNG from its rows, compressed; further chunks before them."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return SIGNATURE + head + b"".join(before) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@cache
def bomb(mebibytes: int) -> bytes:
    """So many zeros, a thousandth as long."""
    packer, zeros = zlib.compressobj(9), bytes(1 << 20)
    return b"".join([*(packer.compress(zeros) for _ in range(mebibytes)), packer.flush()])


def pngs() -> Iterator[Case]:
    base, deep = sound_files()["png-rgb"], sound_files()["png-16-bit-rgba"]
    few = zlib.compress(bytes(500))
    for name, width, height in (
        ("65535-square", 65535, 65535),
        ("2-gb-square", 2**31 - 1, 2**31 - 1),
        ("4-gb-wide", 2**32 - 1, 1),
    ):
        yield Case(f"png/{name}", png(width, height, few), TOO_LARGE | CORRUPT)
        yield Case(f"png/{name}-deep", png(width, height, few, depth=16), TOO_LARGE | CORRUPT)
    yield Case("png/no-size", png(0, 0, few), CORRUPT)
    yield Case("png/too-few-rows", png(4000, 4000, few), CORRUPT)
    yield Case("png/too-few-rows-deep", png(4000, 4000, few, depth=16), CORRUPT)
    rows = bytes((150 * 3 + 1) * 112)
    yield Case("png/rows-for-200-mib", png(150, 112, bomb(200)), OK | CORRUPT)
    yield Case("png/rows-for-200-mib-deep", png(150, 112, bomb(200), depth=16), OK | CORRUPT)
    yield Case("png/4-megapixels-of-black", png(2000, 2000, bomb(12)), CORRUPT | OK)
    for filter_ in (5, 255):
        noisy = zlib.compress(bytes([filter_]) * ((150 * 3 + 1) * 112))
        yield Case(f"png/filter-{filter_}", png(150, 112, noisy), CORRUPT | OK)
    plain = zlib.compress(rows)
    for depth, kind in ((3, 2), (32, 0), (1, 6), (16, 3), (8, 7), (0, 0)):
        odd = png(150, 112, plain, depth=depth, kind=kind)
        yield Case(f"png/depth-{depth}-of-kind-{kind}", odd, CORRUPT | UNSUPPORTED)
    yield Case("png/palette-missing", png(150, 112, plain, kind=3), CORRUPT | OK)
    palette = chunk(b"PLTE", b"\1\2\3")
    yield Case(
        "png/palette-of-one",
        png(150, 112, zlib.compress(b"\0" + b"\xff" * 150), palette, kind=3),
        CORRUPT | OK,
    )
    yield Case(
        "png/palette-too-long",
        png(150, 112, plain, chunk(b"PLTE", bytes(9_000)), kind=3),
        CORRUPT | OK,
    )
    yield Case(
        "png/transparency-too-long",
        png(150, 112, plain, chunk(b"tRNS", bytes(9_000))),
        CORRUPT | OK,
    )
    yield Case(
        "png/transparency-too-short", png(150, 112, plain, chunk(b"tRNS", b"\0")), CORRUPT | OK
    )
    yield Case("png/head-twice", base[:33] + base[8:33] + base[33:], CORRUPT | OK | UNSUPPORTED)
    yield Case("png/head-missing", SIGNATURE + base[33:], CORRUPT)
    yield Case("png/no-end", base[: base.rindex(b"IEND") - 4], DAMAGE | OK)
    yield Case("png/wrong-checksum", base[:-20] + b"1234" + base[-16:], DAMAGE | OK)
    yield Case("png/interlace-9", patched(base, 28, b"\x09"), CORRUPT | OK | UNSUPPORTED)
    yield Case("png/apple", SIGNATURE + chunk(b"CgBI", bytes(4)) + base[8:], DAMAGE | OK)
    animated = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    yield Case("png/animated", png(150, 112, plain, animated), UNSUPPORTED | OK | CORRUPT)
    empty = chunk(b"tEXt", b"a\0")
    yield Case("png/300000-texts", base[:33] + empty * 300_000 + base[33:], UNSUPPORTED)
    pieces = chunk(b"IDAT", b"") * 300_000
    yield Case("png/300000-pieces", base[:33] + pieces + base[33:], UNSUPPORTED | CORRUPT)
    for ending, source in (("", base), ("-deep", deep)):
        for name, added in _png_chunks():
            data = source[:33] + added + source[33:]
            yield Case(
                f"png-chunk/{name}{ending}", data, OK | UNSUPPORTED | CORRUPT, options=EVERYTHING
            )


def _png_chunks() -> Iterator[tuple[str, bytes]]:
    large = bomb(100)
    yield "text-bomb", chunk(b"zTXt", b"Comment\0\0" + large)
    yield "profile-bomb", chunk(b"iCCP", b"icc\0\0" + large)
    yield "international-bomb", chunk(b"iTXt", b"Comment\0\1\0\0\0" + large)
    yield "xmp-bomb", chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + large)
    yield "exif-bomb", chunk(b"zTXt", b"Raw profile type exif\0\0" + large)
    yield "text-bombs", chunk(b"zTXt", b"Comment\0\0" + bomb(40)) * 4
    yield "damaged-text", chunk(b"zTXt", b"Comment\0\0noise")
    yield "damaged-profile", chunk(b"iCCP", b"icc\0\0noise")
    yield "damaged-xmp", chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0noise")
    yield "damaged-exif", chunk(b"zTXt", b"Raw profile type exif\0\0noise")
    yield "damaged-digits", chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 9\nxyz\n")
    yield "method-9", chunk(b"iCCP", b"icc\0\x09noise") + chunk(b"zTXt", b"Comment\0\x09noise")
    for name in ("tEXt", "zTXt", "iTXt", "iCCP", "eXIf", "pHYs", "gAMA", "cHRM", "tIME"):
        yield f"empty-{name}", chunk(name.encode(), b"")
    elements = b"<a>" + b"<b/>" * 2_000_000 + b"</a>"
    xmp = b"XML:com.adobe.xmp\0\1\0\0\0"
    yield "xmp-of-2000000-elements", chunk(b"iTXt", xmp + zlib.compress(elements))
    spaces = b"<a" + b" " * 5_000_000 + b">"
    yield "xmp-of-spaces", chunk(b"iTXt", xmp + zlib.compress(spaces))
    for name, block in exif_blocks():
        yield f"exif-{name}", chunk(b"eXIf", block)
    for name, packet in packets():
        yield f"xmp-{name}", chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    for name, profile in profiles():
        yield f"icc-{name}", chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile))


def riff(*parts: tuple[bytes, bytes]) -> bytes:
    body = b"".join(n + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for n, c in parts)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webps() -> Iterator[Case]:
    lossy, lossless = sound_files()["webp-q80"], sound_files()["webp-lossless"]
    vp8 = lossy[lossy.index(b"VP8 ") + 8 :]
    vp8l = lossless[lossless.index(b"VP8L") + 8 :]

    def head(flags: int, width: int, height: int) -> tuple[bytes, bytes]:
        size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        return b"VP8X", bytes([flags, 0, 0, 0]) + size

    yield Case("webp/canvas-of-16-million", riff(head(0, 2**24, 2**24), (b"VP8 ", vp8)), TOO_LARGE)
    yield Case("webp/canvas-of-65535", riff(head(0, 65535, 65535), (b"VP8 ", vp8)), TOO_LARGE)
    yield Case("webp/canvas-too-large", riff(head(0, 5000, 5000), (b"VP8 ", vp8)), CORRUPT)
    frame = b"\0" * 12 + b"\0\0\0\0" + b"VP8 " + struct.pack("<I", len(vp8)) + vp8
    told = (b"ANIM", bytes(6)), (b"ANMF", frame)
    film = riff(head(2, 65535, 65535), *told)
    yield Case("webp/film-of-65535", film, TOO_LARGE)
    film = riff(head(2, 1500, 1500), *told)
    yield Case("webp/film-of-2-megapixels", film, OK)
    yield Case("webp/many-frames", riff(head(2, 150, 112), told[0], *[told[1]] * 300), DAMAGE)
    largest = b"\x2f" + struct.pack("<I", 0x3FFF | 0x3FFF << 14) + vp8l[5:]
    yield Case("webp/lossless-of-16384", riff((b"VP8L", largest)), TOO_LARGE)
    largest = vp8[:6] + b"\xff\x3f\xff\x3f" + vp8[10:]
    yield Case("webp/lossy-of-16383", riff((b"VP8 ", largest)), TOO_LARGE)
    large = vp8[:6] + struct.pack("<HH", 5000, 5000) + vp8[10:]
    yield Case("webp/25-megapixels-of-nothing", riff((b"VP8 ", large)), CORRUPT)
    yield Case("webp/riff-of-0", patched(lossy, 4, bytes(4)), DAMAGE | OK)
    yield Case("webp/riff-of-4-gb", patched(lossy, 4, b"\xff" * 4), DAMAGE | OK)
    yield Case("webp/only-its-head", lossy[:12], DAMAGE)
    yield Case("webp/no-picture", riff(head(0, 150, 112)), DAMAGE)
    yield Case(
        "webp/alpha-of-noise",
        riff(head(16, 150, 112), (b"ALPH", b"\xff" * 99), (b"VP8 ", vp8)),
        DAMAGE | OK,
    )
    many = [(b"junk", b"")] * 200_000
    yield Case(
        "webp/200000-chunks", riff(head(0, 150, 112), (b"VP8 ", vp8), *many), UNSUPPORTED | OK
    )
    further = {"exif": (8, b"EXIF"), "icc": (32, b"ICCP"), "xmp": (4, b"XMP ")}
    for kind, pairs in (("exif", exif_blocks()), ("icc", profiles()), ("xmp", packets())):
        flag, name = further[kind]
        for told_as, content in pairs:
            part = (name, content)
            order = [part, (b"VP8L", vp8l)] if kind == "icc" else [(b"VP8L", vp8l), part]
            data = riff(head(flag, 150, 112), *order)
            yield Case(f"webp-chunk/{kind}-{told_as}", data, OK | CORRUPT, options=EVERYTHING)


def directory(*rows: tuple[int, int, int, int], following: int = 0) -> bytes:
    packed = b"".join(struct.pack("<HHII", *row) for row in sorted(rows))
    return struct.pack("<H", len(rows)) + packed + struct.pack("<I", following)


def tiff(
    changes: Mapping[int, tuple[int, int, int] | None], behind: bytes = b"", following: int = 0
) -> bytes:
    """A grey TIFF of one strip, some of its tags changed (None: taken out)."""
    rows: dict[int, tuple[int, int, int] | None] = {
        254: (4, 1, 0), 256: (4, 1, 150), 257: (4, 1, 112), 258: (3, 1, 8), 259: (3, 1, 1),
        262: (3, 1, 1), 273: (4, 1, 1000), 277: (3, 1, 1), 278: (4, 1, 112), 279: (4, 1, 16_800),
    }  # fmt: skip
    told = [(tag, *row) for tag, row in (rows | dict(changes)).items() if row is not None]
    made = b"II*\0\x08\0\0\0" + directory(*told, following=following)
    return made.ljust(1000, b"\0") + (behind or bytes(range(200)) * 84)


#: Tags of a TIFF that are given numbers which they cannot have.
TAGS = {
    258: "bits",
    277: "samples",
    259: "compression",
    262: "colours",
    284: "planes",
    317: "predictor",
    339: "format",
    266: "order",
    274: "orientation",
    338: "extra",
    330: "below",
    254: "kind",
    34665: "exif",
    700: "xmp",
    34675: "icc",
    32997: "depth",
    33723: "iptc",
    34377: "photoshop",
    50706: "raw",
    347: "jpeg-tables",
}


def tiffs() -> Iterator[Case]:
    most = 2**32 - 1
    odd = DAMAGE | OK
    yield Case("tiff/65535-square", tiff({256: (4, 1, 65535), 257: (4, 1, 65535)}), TOO_LARGE)
    yield Case("tiff/4-gb-square", tiff({256: (4, 1, most), 257: (4, 1, most)}), TOO_LARGE)
    yield Case("tiff/no-size", tiff({256: (4, 1, 0), 257: (4, 1, 0)}), CORRUPT)
    yield Case(
        "tiff/25-megapixels-of-nothing",
        tiff({256: (4, 1, 5000), 257: (4, 1, 5000), 278: (4, 1, 5000), 279: (4, 1, 25_000_000)}),
        CORRUPT,
    )
    yield Case(
        "tiff/50000000-strips-told",
        tiff({256: (4, 1, 1), 257: (4, 1, 50_000_000), 278: (4, 1, 1)}),
        odd | MOVED,
    )
    yield Case("tiff/4-billion-strips", tiff({273: (4, most, 1000), 279: (4, most, 1000)}), odd)
    yield Case(
        "tiff/500000000-strips", tiff({273: (4, 500_000_000, 8), 279: (4, 500_000_000, 8)}), odd
    )
    yield Case("tiff/strips-missing", tiff({273: None, 279: None}), odd)
    yield Case("tiff/sizes-missing", tiff({279: None}), odd)
    yield Case("tiff/strip-of-4-gb", tiff({279: (4, 1, most)}), odd)
    yield Case("tiff/strip-at-4-gb", tiff({273: (4, 1, most)}), odd)
    yield Case("tiff/strip-on-its-head", tiff({273: (4, 1, 0)}), odd)
    yield Case("tiff/no-rows-in-a-strip", tiff({278: (4, 1, 0)}), odd)
    yield Case("tiff/4-billion-rows-in-a-strip", tiff({278: (4, 1, most)}), odd)
    for tag, name in TAGS.items():
        yield Case(f"tiff/{name}-65535", tiff({tag: (3, 1, 65535)}), odd, options=EVERYTHING)
        yield Case(
            f"tiff/{name}-outside", tiff({tag: (4, 1000, most - 100)}), odd, options=EVERYTHING
        )
        yield Case(f"tiff/{name}-4-billion", tiff({tag: (7, most, 8)}), odd, options=EVERYTHING)
        yield Case(f"tiff/{name}-as-text", tiff({tag: (2, 4, 0x31323334)}), odd, options=EVERYTHING)
    tiles = dict.fromkeys((273, 278, 279)) | {324: (4, 1, 1000), 325: (4, 1, 16_800)}
    tiles |= {322: (4, 1, 2**31), 323: (4, 1, 2**31)}
    yield Case("tiff/tile-of-2-gb", tiff(tiles), odd)
    yield Case("tiff/tile-of-16384", tiff(tiles | {322: (4, 1, 16_384), 323: (4, 1, 16_384)}), odd)
    yield Case(
        "tiff/tile-of-1",
        tiff(tiles | {322: (4, 1, 1), 323: (4, 1, 1), 256: (4, 1, 5000), 257: (4, 1, 5000)}),
        odd,
    )
    yield Case("tiff/tile-of-0", tiff(tiles | {322: (4, 1, 0), 323: (4, 1, 0)}), odd)
    for compression, name, content in (
        (8, "deflate", bomb(200)),
        (5, "lzw", b"\x80" + b"\x01\x02\x03" * 9000),
        (32773, "packbits", b"\x81\0" * 2_000_000),
        (34925, "lzma", b"\xfd7zXZ\0" + bytes(100)),
        (50000, "zstandard", b"\x28\xb5\x2f\xfd" + b"\xff" * 30),
        (7, "jpeg", b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\1\1\x11\0" + bytes(99)),
        (6, "old-jpeg", bytes(999)),
        (2, "fax", b"\xff" * 9999),
        (3, "fax-3", b"\0" * 9999),
        (4, "fax-4", b"\xaa" * 9999),
        (33003, "jpeg-2000", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 99),
        (50002, "jpeg-xl", b"\xff\x0a" + b"\xff" * 99),
        (50001, "webp", b"RIFF\xff\xff\xff\xffWEBPVP8L" + b"\xff" * 99),
        (34887, "lerc", b"Lerc2 " + b"\xff" * 99),
        (48124, "packints", b"\xff" * 99),
    ):
        told = {259: (3, 1, compression), 279: (4, 1, len(content))}
        yield Case(f"tiff/{name}-bomb", tiff(told, content), odd)
    yield Case("tiff/pages-in-a-circle", tiff({}, following=8), odd)
    yield Case("tiff/page-outside", tiff({}, following=most), odd)
    copies = b"".join(
        directory((254, 4, 1, 1), (256, 4, 1, 1), (257, 4, 1, 1), following=17_800 + 42 * (i + 1))
        for i in range(50_000)
    )
    yield Case(
        "tiff/50000-pages", tiff({}, bytes(range(200)) * 84 + copies, following=17_800), UNSUPPORTED
    )
    below = struct.pack("<I", 8) * 3000
    yield Case("tiff/below-itself", tiff({330: (4, 1, 8)}), odd)
    yield Case(
        "tiff/3000-times-below-itself",
        tiff({330: (4, 3000, 17_800)}, bytes(range(200)) * 84 + below),
        odd,
    )
    yield Case(
        "tiff/65535-tags",
        b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 256, 4, 1, 9) * 65535,
        DAMAGE,
    )
    yield Case("tiff/no-tags", b"II*\0\x08\0\0\0\0\0" + bytes(4), DAMAGE)
    yield Case("tiff/only-its-name", b"II*\0", DAMAGE)
    yield Case("tiff/first-outside", b"MM\0*\xff\xff\xff\xff", DAMAGE)
    big = b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0"
    yield Case("tiff/big-with-2-to-63-tags", big + b"\xff" * 8, DAMAGE)
    row = struct.pack("<HHQQ", 256, 16, 2**63, 2**63)
    yield Case("tiff/big-counts", big + struct.pack("<Q", 20) + row * 20 + bytes(8), DAMAGE)
    yield Case(
        "tiff/big-in-a-circle", big + struct.pack("<Q", 1) + row + struct.pack("<Q", 16), DAMAGE
    )
    for name, profile in profiles():
        size = len(profile)
        icc = {34675: (7, max(size, 1), 17_800)}
        yield Case(f"tiff/icc-{name}", tiff(icc, bytes(range(200)) * 84 + profile), odd)
    for name, packet in packets():
        xmp = {700: (1, len(packet), 17_800)}
        data = tiff(xmp, bytes(range(200)) * 84 + packet)
        yield Case(f"tiff/xmp-{name}", data, odd, options=EVERYTHING)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def heifs() -> Iterator[Case]:
    odd = DAMAGE | OK
    for kind in ("avif-rgb", "heic-8-bit"):
        base = sound_files()[kind]
        size, place = base.index(b"ispe") + 8, base.index(b"iloc")
        for width, height in ((65535, 65535), (2**31, 2**31), (2**32 - 1, 1), (0, 0), (1200, 1200)):
            told = patched(base, size, struct.pack(">II", width, height))
            yield Case(f"{kind}/told-{width}x{height}", told, odd)
        for name in (b"meta", b"iprp", b"ipco", b"iinf", b"iloc", b"mdat", b"pitm"):
            at = base.index(name) - 4
            for length in (0, 1, 7, 2**31, 2**32 - 1):
                data = patched(base, at, struct.pack(">I", length))
                yield Case(f"{kind}/{name.decode()}-of-{length}", data, odd)
        for number in range(4, 28, 2):
            data = patched(base, place + number, b"\xff\xff\xff\xff")
            yield Case(f"{kind}/places-{number}", data, odd)
        head = base[: int.from_bytes(base[:4], "big")]
        yield Case(f"{kind}/only-its-head", head, odd)
        yield Case(f"{kind}/nested", head + b"\0\0\x40\0meta" * 2000, odd)
        deep = b""
        for _ in range(2000):
            deep = box(b"ipco", deep)
        yield Case(f"{kind}/nested-deep", head + box(b"meta", bytes(4) + box(b"iprp", deep)), odd)
        yield Case(f"{kind}/boxes-of-nothing", head + box(b"free", b"") * 200_000, odd)
        yield Case(f"{kind}/noise", head + np.random.default_rng(8).bytes(4000), odd)
        film = box(b"moov", box(b"mvhd", bytes(100)) + box(b"trak", b"\xff" * 300))
        yield Case(f"{kind}/film", head + film + box(b"mdat", bytes(3000)), odd)
        yield Case(f"{kind}/grid", _grid(base), odd)
    names = struct.pack(">I", 16 + 4 * 5000) + b"ftypmif1\0\0\0\0" + b"heic" * 5000
    yield Case("heic-8-bit/5000-brands", names + sound_files()["heic-8-bit"][24:], odd)


def _grid(base: bytes) -> bytes:
    """The first item is told to be a grid of 256 by 256 pictures, of which none is there."""
    at = base.index(b"infe")
    kind = at + 4 + 4 + 4
    grid = b"\0\1\xff\xff" + struct.pack(">II", 65535, 65535)
    data = patched(base, kind, b"grid")
    return patched(data, data.index(b"mdat") + 4, grid)


MAKERS: list[Callable[[], Iterator[Case]]] = [pngs, webps, tiffs, heifs]
