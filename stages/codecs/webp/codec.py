"""WebP: lossless files stay lossless; lossy ones are re-encoded, by default at high quality.

A lossy file does not record its quality.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from stages.codecs import pillow_io
from stages.codecs.base import Codec, Writer
from stages.codecs.errors import UnsupportedError
from stages.codecs.picture import DEFAULT_QUALITY, Edit, Encoded, as_pillow
from stages.codecs.pillow_io import open_image, refreshed, save_image
from stages.codecs.stale.policy import C2PA_MANIFEST, StaleDataPolicy

#: Chunks that are written again, or dropped with a specific note.
_KNOWN = frozenset(b"VP8  VP8L VP8X ALPH ICCP EXIF XMP  C2PA"[i : i + 4] for i in range(0, 40, 5))

#: An empty chunk costs a reader as much as a long one; photos have far fewer.
_MAX_CHUNKS = 10_000


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk's name and content; the last one may be truncated.

    Raises:
        UnsupportedError: there are more than in any photo.
    """
    position, count = 12, 0
    while position + 8 <= len(data):
        count += 1
        if count > _MAX_CHUNKS:
            raise UnsupportedError(f"it has more than {_MAX_CHUNKS} chunks")
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position : position + 4], data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def encode(edit: Edit) -> Encoded:
    """Write an edited WebP.

    Raises:
        RowError: ``image.stale_preview``.
    """
    parts = dict(riff_chunks(edit.source))
    policy = StaleDataPolicy(edit)
    with open_image(edit.source) as original:
        kept = refreshed(original.info, policy)
    if b"C2PA" in parts:
        policy.note_dropped(C2PA_MANIFEST)
    for name in sorted(parts.keys() - _KNOWN):
        policy.note_left_out(parts[name], f"chunk {name.decode('latin-1')}")
    if behind := edit.source[8 + int.from_bytes(edit.source[4:8], "little") + 1 :]:
        policy.note_left_out(behind, "data after the end of the image")
    is_lossless = b"VP8 " not in parts
    quality = 100 if is_lossless else edit.quality or DEFAULT_QUALITY
    try:
        data = save_image(
            as_pillow(edit.pixels, edit.space.model),
            format="WEBP",
            lossless=is_lossless,
            exact=True,  # keep the colour under transparent pixels
            quality=quality,
            **kept,
        )
    except ValueError as error:
        if str(error) == "encoding error 1":  # VP8_ENC_ERROR_OUT_OF_MEMORY
            raise MemoryError from error
        raise
    if is_lossless:
        return Encoded(data, "lossless", "", policy.notes)
    return Encoded(data, "reencoded", f"lossy WebP, quality {quality}", policy.notes)


def _declared_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that the header claims, px; None if it is truncated."""
    if len(data) < 30:
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
    """Whether the picture, or the first frame of an animation, is lossy."""
    for name, content in riff_chunks(data):
        if name == b"ANMF":  # a frame: 16 bytes of position and duration, then its chunks
            return is_lossy(bytes(12) + content[16:])
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
    return True


CODEC = Codec(
    suffix="webp",
    recognises=lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP",
    size=pillow_io.size,
    decode=pillow_io.decode,
    encode=encode,
    metadata=pillow_io.metadata,
    writer=Writer(write=partial(pillow_io.write_lossy, "WEBP"), holds_grey=False),
    walk=riff_chunks,
    declared_size=_declared_size,
    is_truncated=lambda data: int.from_bytes(data[4:8], "little") + 8 > len(data),
)
