"""Files that state their orientation in every place there is, also in several at once."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.hostile.formats import chunk, riff
from tests.support import encoded

#: A quadrant each of red, green, blue and white; ``(48, 64, 3)`` uint8.
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)], np.uint8)
PICTURE = COLOURS.reshape(2, 2, 3).repeat(24, axis=0).repeat(32, axis=1)

_NAME, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
#: The orientation, and a tag that is written like it (ResolutionUnit).
_TAG, _OTHER = 274, 296


def exif(*values: int, order: str = "<", kind: int = 3, tags: Sequence[int] = (274, 274)) -> bytes:
    """A bare EXIF block with a tag for each value; SHORT unless ``kind`` says LONG (4)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    layout = order + {3: "HHIHxx", 4: "HHII"}[kind]
    entries = [
        struct.pack(layout, tag, kind, 1, each) for tag, each in zip(tags, values, strict=False)
    ]
    return head + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def xmp(orientation: int) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


def segment(content: bytes, marker: int = 0xE1) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpegs() -> Iterator[tuple[str, bytes]]:
    plain = encoded(PICTURE, format="JPEG", quality=95, subsampling=0)
    scan = plain.index(b"\xff\xda")

    def with_segments(*contents: bytes) -> bytes:
        return plain[:20] + b"".join(map(segment, contents)) + plain[20:]

    for value in range(1, 9):
        yield f"exif-{value}", with_segments(_NAME + exif(value))
    none, junk = exif(2, tags=[_OTHER]), b"junkjunkjunkjunk"
    for name, contents in {
        "big-endian": [_NAME + exif(6, order=">")],
        "long": [_NAME + exif(6, kind=4)],
        "of-0": [_NAME + exif(0)],
        "of-9": [_NAME + exif(9)],
        "tag-twice": [_NAME + exif(6, 3)],
        "entries-cut-off": [_NAME + exif(6).replace(b"\1\0\x12\1", b"\x09\0\x12\1")],
        "named-oddly": [b"Exif\0\1" + exif(6)],
        "named-twice": [_NAME + _NAME + exif(6)],
        "xmp": [_XMP + xmp(6)],
        "exif-without-and-xmp": [_NAME + none, _XMP + xmp(6)],
        "exif-1-and-xmp": [_NAME + exif(1), _XMP + xmp(6)],
        "exif-8-and-xmp": [_NAME + exif(8), _XMP + xmp(6)],
        "xmp-before-exif-8": [_XMP + xmp(6), _NAME + exif(8)],
        "two-exif": [_NAME + exif(6), _NAME + exif(3)],
        "exif-without-and-exif": [_NAME + none, _NAME + exif(3)],
        "junk-and-exif": [_NAME + junk, _NAME + exif(3)],
    }.items():
        yield name, with_segments(*contents)
    late = segment(_NAME + exif(6))
    yield "exif-before-scan", plain[:scan] + late + plain[scan:]
    yield "exif-behind-scan", plain[:-2] + late + plain[-2:]
    yield "exif-behind-end", plain + late
    resource = b"8BIM" + struct.pack(">HHI", 1058, 0, len(exif(6))) + exif(6)
    photoshop = segment(b"Photoshop 3.0\0" + resource, 0xED)
    yield "photoshop", plain[:20] + photoshop + plain[20:]
    buffer, small = io.BytesIO(), Image.fromarray(PICTURE).resize((32, 24))
    Image.fromarray(PICTURE).save(
        buffer, "MPO", save_all=True, append_images=[small], exif=_NAME + exif(6), quality=95
    )
    yield "mpo", buffer.getvalue()


def profile(name: bytes, kind: str, block: bytes) -> bytes:
    """A text chunk in which ImageMagick keeps a block of metadata."""
    text = f"\n{kind}\n{len(block):8}\n{block.hex()}\n".encode()
    packed = {b"tEXt": b"\0" + text, b"iTXt": bytes(5) + text}
    keyword = b"Raw profile type " + kind.encode()
    return chunk(name, keyword + packed.get(name, b"\0\0" + zlib.compress(text)))


def pngs() -> Iterator[tuple[str, bytes]]:
    plain = encoded(PICTURE)

    def around(before: bytes = b"", after: bytes = b"") -> bytes:
        return plain[:33] + before + plain[33:-12] + after + plain[-12:]

    six, three = chunk(b"eXIf", exif(6)), chunk(b"eXIf", exif(3))
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6))
    yield "exif-before", around(six)
    yield "exif-named", around(chunk(b"eXIf", _NAME + exif(6)))
    yield "exif-behind", around(b"", six)
    yield "exif-before-and-behind", around(six, three)
    yield "two-exif", around(six + three)
    yield "junk-and-exif", around(chunk(b"eXIf", b"junkjunkjunk") + three)
    for name in (b"tEXt", b"zTXt", b"iTXt"):
        yield f"raw-exif-in-{name.decode()}", around(profile(name, "exif", _NAME + exif(6)))
    yield "raw-app1", around(profile(b"zTXt", "APP1", _NAME + exif(6)))
    yield (
        "raw-and-exif-1",
        around(profile(b"zTXt", "exif", _NAME + exif(6)) + chunk(b"eXIf", exif(1))),
    )
    yield "xmp", around(text)
    yield "xmp-and-exif-8", around(text + chunk(b"eXIf", exif(8)))


def webps() -> Iterator[tuple[str, bytes]]:
    plain = encoded(PICTURE, format="WEBP", lossless=True)
    samples = (b"VP8L", plain[20:])
    six, text = (b"EXIF", exif(6)), (b"XMP ", xmp(6))
    for name, flags, parts in (
        ("exif", 8, [samples, six]),
        ("exif-named", 8, [samples, (b"EXIF", _NAME + exif(6))]),
        ("exif-first", 8, [six, samples]),
        ("exif-without-flag", 0, [samples, six]),
        ("xmp", 4, [samples, text]),
        ("exif-and-xmp", 12, [samples, (b"EXIF", exif(8)), text]),
    ):
        head = bytes([flags, 0, 0, 0]) + bytes([63, 0, 0, 47, 0, 0])
        yield name, riff((b"VP8X", head), *parts)


def avifs() -> Iterator[tuple[str, bytes]]:
    """Pillow writes irot and imir for the tag; another tag of it is made the orientation."""
    for value in range(1, 9):
        yield f"irot-{value}", _avif(exif=exif(value))
    for value, other in ((1, 6), (6, 3), (6, 1)):
        made = _avif(exif=exif(value, other, tags=(_TAG, _OTHER)))
        old, new = (struct.pack("<HHI", tag, 3, 1) for tag in (_OTHER, _TAG))
        yield f"irot-{value}-and-exif-{other}", made.replace(old, new)
    yield "xmp", _avif(xmp=xmp(6))
    yield "irot-8-and-xmp", _avif(exif=exif(8), xmp=xmp(6))


def _avif(**metadata: bytes) -> bytes:
    return encoded(PICTURE, format="AVIF", quality=95, **metadata)


def files() -> dict[str, bytes]:
    """All of them: ``format/what`` -> file."""
    makers = {"jpeg": jpegs, "png": pngs, "webp": webps, "avif": avifs}
    return {f"{kind}/{name}": data for kind, make in makers.items() for name, data in make()}


def quadrants(pixels: npt.NDArray[np.uint8]) -> tuple[int, ...]:
    """Which of the colours lies at the middle of each quadrant of ``(h, w, 3 or more)``."""
    height, width = pixels.shape[:2]
    spots = [
        pixels[y, x, :3].astype(int)
        for y in (height // 4, 3 * height // 4)
        for x in (width // 4, 3 * width // 4)
    ]
    return tuple(int(np.abs(COLOURS.astype(int) - spot).sum(axis=1).argmin()) for spot in spots)
