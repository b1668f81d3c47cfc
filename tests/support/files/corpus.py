"""A corpus of real photos in every kind of file that is edited, and the table of what is kept.

    python -m tests.support.files.corpus [FOLDER_OF_MORE_FILES]

cleans the corpus as a user would and prints ``catalog-cleanup verify``'s table of it.
"""

from __future__ import annotations

import csv
import io
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import pillow_heif
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from jobs.cli import main
from manifests.errors import RowError
from stages.codecs.decode import decode_photo
from stages.codecs.formats import CODECS, detect_format
from tests.support import DEMO, encoded, upright_rgb

Pixels = npt.NDArray[np.uint8]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3 = imagecodecs.cms_profile(
    "rgb",
    whitepoint=[0.3127, 0.3290, 1.0],
    primaries=[0.68, 0.32, 0.265, 0.69, 0.15, 0.06],
    gamma=2.2,
)
XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta '
    b'xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="4711"/>'
    b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def photos() -> list[Pixels]:
    """The demo's photos, no side longer than 900 px, of odd sizes."""
    found = []
    for path in sorted((DEMO / "photos").iterdir()):
        picture = Image.fromarray(upright_rgb(path))
        picture.thumbnail((901, 901))
        found.append(np.asarray(picture))
    return found


def deep(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """16 bits that use their lower half, too."""
    noise = np.random.default_rng(1).integers(0, 257, pixels.shape)
    return np.asarray(np.minimum(pixels.astype(np.uint32) * 257 + noise, 65535), np.uint16)


def with_alpha(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A cut-out: wholly transparent at the left, a soft edge, opaque from there on."""
    top = np.iinfo(pixels.dtype).max
    ramp = np.clip((np.arange(pixels.shape[1]) - 40) / 30, 0, 1) * top
    alpha = np.broadcast_to(ramp.astype(pixels.dtype)[:, None], (*pixels.shape[:2], 1))
    return np.concatenate([pixels, alpha], axis=2)


def exif_with_thumbnail(pixels: Pixels, orientation: int = 1, order: str = "<") -> bytes:
    """An EXIF block as a camera writes it, assembled by hand."""
    small = Image.fromarray(pixels)
    small.thumbnail((160, 120))
    jpeg = encoded(small, format="JPEG", quality=80)
    maker = b"A Maker\0"
    first, second = 8, 8 + 2 + 2 * 12 + 4
    texts = second + 2 + 3 * 12 + 4
    entry = struct.Struct(order + "HHII")
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", first)
    tiff += struct.pack(order + "H", 2)
    tiff += entry.pack(0x010F, 2, len(maker), texts)
    tiff += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff += struct.pack(order + "I", second)
    tiff += struct.pack(order + "H", 3)
    tiff += struct.pack(order + "HHIHH", 0x0103, 3, 1, 6, 0)
    tiff += entry.pack(0x0201, 4, 1, texts + len(maker))
    tiff += entry.pack(0x0202, 4, 1, len(jpeg))
    tiff += struct.pack(order + "I", 0)
    return b"Exif\0\0" + tiff + maker + jpeg


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def photoshop(pixels: Pixels) -> bytes:
    """Image resources: IPTC, an unknown one, and a thumbnail."""
    small = Image.fromarray(pixels)
    small.thumbnail((128, 128))
    jpeg = encoded(small, format="JPEG", quality=75)
    width, height = small.size
    row = (width * 24 + 31) // 32 * 4
    head = struct.pack(">6I2H", 1, width, height, row, row * height, len(jpeg), 24, 1)
    iptc = b"\x1c\x02\x78\x00\x05Bowls"
    resources = b""
    for number, content in ((0x0404, iptc), (0x03ED, bytes(16)), (0x040C, head + jpeg)):
        resources += b"8BIM" + struct.pack(">HHI", number, 0, len(content))
        resources += content + bytes(len(content) % 2)
    return resources


def c2pa() -> bytes:
    """An APP11 segment with the beginnings of a C2PA manifest store (JUMBF)."""
    label = b"c2pa\0"
    kind = b"c2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"
    described = struct.pack(">I", 8 + 17 + len(label)) + b"jumd" + kind + b"\3" + label
    box = struct.pack(">I", 8 + len(described)) + b"jumb" + described
    return segment(0xEB, b"JP" + struct.pack(">HI", 1, 1) + box)


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def jpegs(shots: list[Pixels]) -> Iterator[tuple[str, bytes]]:
    for i, (quality, sampling) in enumerate(
        (q, s) for q in (55, 80, 95) for s in ("4:4:4", "4:2:2", "4:2:0")
    ):
        shot = Image.fromarray(shots[i % len(shots)])
        options = {"quality": quality, "subsampling": sampling, "progressive": i % 2 == 1}
        name = f"{sampling.replace(':', '')}-q{quality}{'-progressive' * (i % 2)}"
        yield name, encoded(shot, format="JPEG", icc_profile=SRGB, dpi=(300, 300), **options)
    bgr = np.ascontiguousarray(shots[0][..., ::-1])
    for sampling in ("440", "411"):
        flag = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
        yield sampling, _opencv(bgr, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, flag])
    yield "restart-markers", _opencv(bgr, [cv2.IMWRITE_JPEG_RST_INTERVAL, 5])
    yield "grey", encoded(Image.fromarray(shots[1]).convert("L"), format="JPEG", quality=85)
    cmyk = Image.fromarray(shots[2]).convert("CMYK")
    yield "cmyk", encoded(cmyk, format="JPEG", quality=90, subsampling="4:4:4")
    yield "rgb", encoded(Image.fromarray(shots[2]), format="JPEG", quality=90, keep_rgb=True)
    yield "wide-gamut", encoded(Image.fromarray(shots[3]), format="JPEG", icc_profile=P3)
    plain = encoded(Image.fromarray(shots[4]), format="JPEG", quality=88)
    for order, name in (("<", "little"), (">", "big")):
        block = exif_with_thumbnail(shots[4], order=order)
        yield f"exif-thumbnail-{name}-endian", with_segments(plain, segment(0xE1, block))
    turned = exif_with_thumbnail(shots[4], orientation=6)
    yield "exif-thumbnail-turned", with_segments(plain, segment(0xE1, turned))
    yield (
        "photoshop",
        with_segments(
            plain,
            segment(0xED, b"Photoshop 3.0\0" + photoshop(shots[4])),
            segment(0xFE, b"Article"),
        ),
    )
    small = Image.fromarray(shots[4]).resize((96, 72))
    inner = encoded(small, format="JPEG", quality=70)
    yield (
        "jfxx-thumbnail",
        with_segments(plain[:2] + plain[20:], plain[2:20]).replace(
            plain[2:20], plain[2:20] + segment(0xE0, b"JFXX\0\x10" + inner), 1
        ),
    )
    yield "c2pa", with_segments(plain, c2pa())
    yield (
        "xmp-and-trailer",
        encoded(Image.fromarray(shots[5]), format="JPEG", xmp=XMP, comment=b"bowl")
        + b"MAKER'S OWN BYTES",
    )
    first, second = (Image.fromarray(shots[i]) for i in (6, 6))
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[second.resize((320, 240))])
    yield "further-picture", buffer.getvalue()


def _opencv(bgr: Pixels, options: list[int]) -> bytes:
    done, coded = cv2.imencode(".jpg", bgr, options)
    assert done
    return coded.tobytes()


def pngs(shots: list[Pixels]) -> Iterator[tuple[str, bytes]]:
    rgb = Image.fromarray(shots[0])
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Article", "4711")
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    yield "rgb", encoded(rgb, pnginfo=texts, dpi=(240, 240), icc_profile=SRGB)
    yield "rgba", encoded(Image.fromarray(with_alpha(shots[0])))
    yield "grey", encoded(rgb.convert("L"))
    yield "grey-alpha", encoded(Image.fromarray(with_alpha(shots[0])).convert("LA"))
    yield "palette", encoded(rgb.quantize(128))
    yield "palette-alpha", encoded(Image.fromarray(with_alpha(shots[0])).quantize(128))
    yield "1-bit", encoded(rgb.convert("1"))
    yield "wide-gamut", encoded(rgb, icc_profile=P3)
    yield "exif-thumbnail", encoded(rgb, exif=exif_with_thumbnail(shots[0])[6:])
    yield "interlaced", interlaced(shots[1])
    yield "16-bit-grey", bytes(imagecodecs.png_encode(deep(shots[1][..., 0])))
    yield "16-bit-rgb", bytes(imagecodecs.png_encode(deep(shots[1])))
    yield "16-bit-rgba", bytes(imagecodecs.png_encode(with_alpha(deep(shots[1]))))
    yield "16-bit-grey-alpha", bytes(imagecodecs.png_encode(with_alpha(deep(shots[1][..., :1]))))


def interlaced(pixels: Pixels) -> bytes:
    """Adam7, which no writer at hand makes: seven smaller pictures, one behind the other."""
    height, width = pixels.shape[:2]
    rows = b""
    for y, x, dy, dx in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        rows += b"".join(b"\0" + row.tobytes() for row in pixels[y::dy, x::dx])
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks
    )


def webps(shots: list[Pixels]) -> Iterator[tuple[str, bytes]]:
    for i, quality in enumerate((50, 80, 95)):
        shot = Image.fromarray(shots[i])
        yield f"q{quality}", encoded(shot, format="WEBP", quality=quality, icc_profile=SRGB)
    shot, exif = Image.fromarray(shots[3]), exif_with_thumbnail(shots[3])
    yield "lossless", encoded(shot, format="WEBP", lossless=True, exif=exif, xmp=XMP)
    cut_out = Image.fromarray(with_alpha(shots[4]))
    yield "lossless-alpha", encoded(cut_out, format="WEBP", lossless=True, exact=True)
    yield "lossy-alpha", encoded(cut_out, format="WEBP", quality=80)


def tiff(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    told = {"metadata": None, "description": "A bowl", "resolution": (300, 300)}
    tifffile.imwrite(buffer, pixels, **(told | options))
    return buffer.getvalue()


def tiffs(shots: list[Pixels]) -> Iterator[tuple[str, bytes]]:
    rgb, strips = {"photometric": "rgb"}, {"photometric": "rgb", "rowsperstrip": 17}
    cmyk = np.asarray(Image.fromarray(shots[1]).convert("CMYK"))
    alpha = {"photometric": "rgb", "compression": "zlib"}
    yield "plain", tiff(shots[0], **strips, iccprofile=P3)
    yield "lzw", tiff(shots[1], **strips, compression="lzw", predictor=True)
    yield "deflate", tiff(shots[2], **strips, compression="zlib", predictor=True)
    yield "packbits", tiff(shots[3], **strips, compression="packbits")
    yield "zstd-tiles", tiff(shots[4], **rgb, compression="zstd", tile=(64, 96))
    yield "16-bit", tiff(deep(shots[5]), **strips, compression="lzw", predictor=True)
    yield "16-bit-big-endian", tiff(deep(shots[6]), **strips, byteorder=">")
    yield "16-bit-grey", tiff(deep(shots[6][..., 0]), photometric="minisblack")
    yield "cmyk", tiff(cmyk, photometric="separated", compression="lzw")
    yield "16-bit-cmyk", tiff(deep(cmyk), photometric="separated", tile=(128, 128))
    yield "alpha", tiff(with_alpha(shots[7]), **alpha, extrasamples=["unassalpha"])
    yield (
        "planes",
        tiff(np.ascontiguousarray(shots[7].transpose(2, 0, 1)), **rgb, planarconfig="separate"),
    )
    yield "lzma", tiff(shots[0], **strips, compression="lzma")
    yield "pages-and-copies", pages(shots[1], shots[2])
    extra = [
        (700, 1, len(XMP), XMP, True),
        (34377, 7, len(photoshop(shots[3])), photoshop(shots[3]), True),
    ]
    yield "photoshop-and-xmp", tiff(shots[3], **strips, extratags=extra)


def pages(first: Pixels, second: Pixels) -> bytes:
    buffer = io.BytesIO()
    small = cv2.resize(first, (120, 90), interpolation=cv2.INTER_AREA)
    rgb: dict[str, Any] = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(first, **rgb, compression="lzw", subifds=1)
        writer.write(small, **rgb, compression="lzw", subfiletype=1)
        writer.write(second, **rgb)
        writer.write(small, **rgb, subfiletype=1)
    return buffer.getvalue()


def avifs(shots: list[Pixels]) -> Iterator[tuple[str, bytes]]:
    exif = exif_with_thumbnail(shots[0])
    yield "rgb", encoded(Image.fromarray(shots[0]), format="AVIF", quality=85, exif=exif)
    yield "alpha", encoded(Image.fromarray(with_alpha(shots[1])), format="AVIF", quality=85)


def heics(shots: list[Pixels]) -> Iterator[tuple[str, bytes]]:
    for name, pixels, mode in (
        ("8-bit", shots[0], "RGB"),
        ("alpha", with_alpha(shots[2]), "RGBA"),
    ):
        height, width = pixels.shape[:2]
        data = np.ascontiguousarray(pixels).tobytes()
        buffer = io.BytesIO()
        picture = pillow_heif.from_bytes(mode, (width, height), data)
        picture.save(buffer, quality=85, icc_profile=SRGB, xmp=XMP)
        yield name, buffer.getvalue()


MAKERS: dict[str, Callable[[list[Pixels]], Iterator[tuple[str, bytes]]]] = {
    "jpeg": jpegs,
    "png": pngs,
    "webp": webps,
    "tiff": tiffs,
    "avif": avifs,
    "heic": heics,
}


def files() -> dict[str, bytes]:
    """All of the corpus: name -> file."""
    shots = photos()
    made = {f"{kind}-{name}": data for kind, make in MAKERS.items() for name, data in make(shots)}
    return made | {path.stem: path.read_bytes() for path in (DEMO / "photos").iterdir()}


@cache
def small_photos() -> list[Pixels]:
    """Small enough to be decoded some thousand times."""
    return [np.asarray(Image.fromarray(photo).resize((150, 112))) for photo in photos()]


@cache
def small_files() -> dict[str, bytes]:
    """The corpus, of small photos."""
    return {
        f"{kind}-{name}": data
        for kind, make in MAKERS.items()
        for name, data in make(small_photos())
    }


def write_corpus(folder: Path, more: Path | None = None) -> Path:
    """Write files, masks and manifest; returns the manifest's path.

    Args:
        folder: where to.
        more: a folder of further photos, which get a mask in their middle, too.
    """
    found = files()
    if more:
        for path in sorted(p for p in more.rglob("*") if p.is_file()):
            data = path.read_bytes()
            if detect_format(data):
                found[f"more-{path.relative_to(more)}".replace("/", "-")] = data
    rows = []
    for name, data in found.items():
        kind = detect_format(data)
        assert kind, name
        photo = folder / f"{name}.{CODECS[kind].suffix}"
        photo.write_bytes(data)
        mask = folder / f"{name}.mask.png"
        mask.write_bytes(encoded(spot(data)))
        rows.append((name, photo.name, mask.name))
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as out:
        csv.writer(out).writerows([("id", "image", "mask"), *rows])
    return manifest


def spot(data: bytes) -> Pixels:
    """A mask for a file: an ellipse right of its middle, a seventh of its sides."""
    try:
        decoded = decode_photo(data, 1000, "x")
        width, height = decoded.width, decoded.height
    except RowError:  # one of the further files: the pipeline will tell
        width, height = 100, 100
    mask = np.zeros((height, width), np.uint8)
    centre = (round(width * 0.55), round(height * 0.5))
    axes = (max(width // 14, 1), max(height // 14, 1))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1)
    return mask


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_corpus(folder, Path(sys.argv[1]) if len(sys.argv) > 1 else None)
        for arguments in (
            ["run", str(manifest), "--output", str(folder / "out"), "--recipe", "navier-stokes"],
            ["verify", str(folder / "out")],
        ):
            sys.argv = ["catalog-cleanup", *arguments]
            with suppress(SystemExit):
                main()
