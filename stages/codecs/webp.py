"""WebP: lossless stays lossless; lossy is coded again at the quality it was coded at."""

from __future__ import annotations

from collections.abc import Iterator

from stages.codecs.blocks import C2PA_DROPPED, Blocks
from stages.codecs.picture import DEFAULT_QUALITY, Edit, Encoded, as_pillow
from stages.codecs.pillow_io import opened, saved
from stages.codecs.vp8_quality import quality_of

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
        blocks.notes.append(C2PA_DROPPED)
    for name in sorted(parts.keys() - _KNOWN):
        blocks.notes.append(f"chunk {name.decode('latin-1')} dropped")
    if len(edit.source) > 8 + int.from_bytes(edit.source[4:8], "little") + 1:
        blocks.notes.append("bytes behind the picture dropped")
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


def riff_chunks(source: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk's name and content (RIFF)."""
    position = 12
    while position + 8 <= len(source):
        size = int.from_bytes(source[position + 4 : position + 8], "little")
        yield source[position : position + 4], source[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
