"""WebP: lossless stays lossless; lossy is coded again at the quality it was coded at."""

from __future__ import annotations

from stages.codecs.blocks import Blocks
from stages.codecs.picture import DEFAULT_QUALITY, Edit, Encoded, as_pillow
from stages.codecs.pillow_io import opened, saved
from stages.codecs.stale.jumbf import MANIFEST
from stages.codecs.webp.riff import riff_chunks
from stages.codecs.webp.vp8_quality import quality_of

#: Chunks that are written again, or dropped with a note of their own.
_KNOWN = frozenset(b"VP8  VP8L VP8X ALPH ICCP EXIF XMP  C2PA"[i : i + 4] for i in range(0, 40, 5))


def encode(edit: Edit) -> Encoded:
    """Write an edited WebP.

    Raises:
        RowError: ``image.stale_preview``.
    """
    parts = dict(riff_chunks(edit.source))
    with opened(edit.source) as original:
        kept = {key: original.info.get(key) or b"" for key in ("icc_profile", "exif", "xmp")}
    blocks = Blocks(edit)
    kept |= {"exif": blocks.exif(kept["exif"]), "xmp": blocks.xmp(kept["xmp"])}
    if b"C2PA" in parts:
        blocks.drop(MANIFEST)
    for name in sorted(parts.keys() - _KNOWN):
        blocks.lost(parts[name], f"chunk {name.decode('latin-1')}")
    if behind := edit.source[8 + int.from_bytes(edit.source[4:8], "little") + 1 :]:
        blocks.lost(behind, "bytes behind the picture")
    quality, how = 100, ""
    if b"VP8 " in parts:
        own = quality_of(parts[b"VP8 "])
        quality = edit.output.quality or own or DEFAULT_QUALITY
        how = "as it was" if quality == own else "the recipe's"
    try:
        data = saved(
            as_pillow(edit.pixels, edit.space.model),
            format="WEBP",
            lossless=not how,
            exact=True,  # keep the colour under transparent pixels
            quality=quality,
            **kept,
        )
    except ValueError as error:
        if str(error) == "encoding error 1":  # VP8_ENC_ERROR_OUT_OF_MEMORY
            raise MemoryError from error
        raise
    if not how:
        return Encoded(data, "lossless", "", blocks.notes)
    return Encoded(data, "reencoded", f"lossy WebP, quality {quality} ({how})", blocks.notes)


def canvas(data: bytes) -> tuple[int, int] | None:
    """Width and height that the head of a WebP claims, px; None for any other file."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return width, height


def is_lossy(data: bytes) -> bool:
    """Whether the picture, or the first of an animation's, is coded with loss."""
    for name, content in riff_chunks(data):
        if name == b"ANMF":  # a frame: 16 bytes of where and how long, then its own chunks
            return is_lossy(bytes(12) + content[16:])
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
    return True
