"""Hostile files by the hundred: real photos damaged by rule, and the known nasties.

    python -m tests.hostile.corpus FOLDER [WORD ...]

takes them through a run's steps and prints how each ended; with words, only those whose name holds
one of them.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from stages.codecs.formats import detect_format
from tests.support import encoded
from tests.support.files import corpus

#: What a file may end as that is damaged somewhere: its picture may be intact all the same.
DAMAGE = frozenset(
    f"image.{kind}" for kind in ("not_an_image", "unsupported", "truncated", "corrupt", "too_large")
)

OK = frozenset({"ok"})

#: Damage may also change a photo's size, so that the box lies outside or covers it, or hardly any.
MOVED = frozenset({"mask.bad_shape", "mask.covers_photo", "mask.too_small"})

#: Marks a photo of any format, without a mask file.
BOX = "[[60, 40, 30, 24]]"


@dataclass(frozen=True)
class Case:
    """One row of a manifest.

    Attributes:
        name: its family, a slash, and what is wrong with it.
        image: the photo's file.
        codes: what it may end as: ``ok``, or a code.
        mask: the mask's file; None: it has none.
        cells: the columns of shapes, as JSON.
        options: of the recipe.
    """

    name: str
    image: bytes
    codes: frozenset[str]
    mask: bytes | None = None
    cells: dict[str, str] = field(default_factory=lambda: {"boxes": BOX})
    options: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        return self.name.partition("/")[0]


#: One or two files of each kind of reader and writer.
KINDS = (
    *("jpeg-444-q55", "jpeg-444-q80-progressive", "jpeg-cmyk", "jpeg-grey", "jpeg-411"),
    *("jpeg-photoshop", "jpeg-exif-thumbnail-big-endian", "jpeg-further-picture"),
    *("png-rgb", "png-16-bit-rgba", "png-palette-alpha", "png-interlaced", "png-exif-thumbnail"),
    *("webp-q80", "webp-lossless", "webp-lossy-alpha", "webp-animated"),
    *("tiff-plain", "tiff-lzw", "tiff-deflate", "tiff-zstd-tiles", "tiff-16-bit-big-endian"),
    *("tiff-lzma", "tiff-pages-and-copies", "tiff-photoshop-and-xmp"),
    *("avif-rgb", "avif-alpha", "heic-8-bit", "gif", "bmp"),
)


@cache
def sound_files() -> dict[str, bytes]:
    """Real photos of 150 x 112 px in all formats, also those that are only read as masks."""
    frames = [Image.fromarray(each) for each in corpus.small_photos()[:3]]
    further = {"save_all": True, "append_images": frames[1:]}
    return corpus.small_files() | {
        "webp-animated": encoded(frames[0], format="WEBP", **further),
        "gif": encoded(frames[0], format="GIF", **further),
        "bmp": encoded(frames[0], format="BMP"),
    }


def damaged(kinds: tuple[str, ...] = KINDS) -> Iterator[tuple[str, bytes]]:
    """Every kind, cut off, changed, and stuffed in many places; always the same."""
    for kind in kinds:
        for name, data in _damaged(sound_files()[kind], np.random.default_rng(list(kind.encode()))):
            yield f"{name}-{kind}", data


def _damaged(data: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    size = len(data)
    for share in (0.01, 0.3, 0.8):
        yield f"cut/{share:.0%}", data[: int(share * size)]
    yield "cut/last-byte", data[:-1]
    for number in range(2):
        yield f"head/{number}", _flipped(data, rng, 4, min(size, 400))
        yield f"data/{number}", _flipped(data, rng, 6, size)
    fields = list(_length_fields(data))
    for number, value in enumerate((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xf0")):
        at, width = fields[int(rng.integers(len(fields)))]
        yield f"length/{number}", data[:at] + value[:width] + data[at + width :]
    at = int(rng.integers(size // 3, size // 2))
    yield "part/zeroed", data[:at] + bytes(200) + data[at + 200 :]
    yield "part/missing", data[:at] + data[at + 200 :]
    yield "part/twice", data[: at + 200] + data[at:]
    yield "appended/noise", data + rng.bytes(3000)
    yield "appended/picture", data + sound_files()["jpeg-photoshop"]


def _flipped(data: bytes, rng: np.random.Generator, count: int, reach: int) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(2, reach, count):
        changed[at] ^= int(rng.integers(1, 256))
    return bytes(changed)


def _length_fields(data: bytes) -> Iterator[tuple[int, int]]:
    """Where a file says how long something is: position and width."""
    match detect_format(data):
        case "jpeg":
            at = 2
            while data[at] == 0xFF and data[at + 1] != 0xDA:
                yield at + 2, 2
                at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        case "png":
            at = 8
            while at < len(data):
                yield at, 4
                at += 12 + int.from_bytes(data[at : at + 4], "big")
        case "tiff" if data[2] == 42 or data[3] == 42:
            order = "<" if data[:2] == b"II" else ">"
            (at,) = struct.unpack_from(order + "I", data, 4)
            for entry in range(struct.unpack_from(order + "H", data, at)[0]):
                yield at + 2 + 12 * entry + 4, 4
                yield at + 2 + 12 * entry + 8, 4
        case "avif" | "heic":
            for name in (b"ftyp", b"meta", b"iloc", b"iinf", b"iprp", b"ipco", b"ispe", b"mdat"):
                yield data.index(name) - 4, 4
                yield data.index(name) + 8, 4
        case _:
            yield from ((at, 4) for at in (4, 16, 20, 24, 40))


def damaged_photos() -> Iterator[Case]:
    """Photos, marked by a box."""
    for name, data in damaged():
        yield Case(name, data, DAMAGE | MOVED | {"ok"})


#: As masks, beside those of a photo's kinds; black, with something white in their middle.
MASK_KINDS = (
    *("png-grey", "png-1-bit", "png-16-bit-grey", "png-palette", "png-interlaced", "gif", "bmp"),
    *("jpeg-grey", "jpeg-444-q80-progressive", "webp-lossless", "webp-animated", "avif-rgb"),
    *("tiff-lzw", "tiff-zstd-tiles", "tiff-16-bit-grey", "tiff-pages-and-copies"),
)


def damaged_masks() -> Iterator[Case]:
    """The same of masks, every third: photos serve as masks, bright parts of them are marked."""
    photo = sound_files()["png-rgb"]
    codes = {code.replace("image.", "mask.") for code in DAMAGE}
    codes |= {"ok", "mask.size_mismatch", "mask.covers_photo"}
    codes |= {"mask.too_faint", "mask.ambiguous", "mask.too_small"}
    for number, (name, data) in enumerate(damaged(MASK_KINDS)):
        if number % 3 == 0:
            dark = ("mask.polarity=dark",) if number % 2 else ()
            options = ("mask.threshold=220", "mask.values=levels", *dark)
            yield Case(f"mask-{name}", photo, frozenset(codes), data, {}, options)


@cache
def all_cases() -> tuple[Case, ...]:
    """The whole corpus."""
    from tests.hostile import formats as hostile_formats  # made of what is above
    from tests.hostile import jpeg as hostile_jpeg  # made of what is above
    from tests.hostile import others as hostile_others  # made of what is above

    makers: list[Callable[[], Iterator[Case]]] = [
        damaged_photos,
        damaged_masks,
        *hostile_jpeg.MAKERS,
        *hostile_formats.MAKERS,
        *hostile_others.MAKERS,
    ]
    return tuple(case for make in makers for case in make())


if __name__ == "__main__":
    from tests.hostile.runner import main

    main(Path(sys.argv[1]), sys.argv[2:])
