"""PNG, 8 or 16 bits: samples outside the mask and the chunks with metadata are kept."""

from __future__ import annotations

from dataclasses import replace

import imagecodecs
import numpy as np
from PIL import Image, PngImagePlugin

from stages.arrays import Samples
from stages.codecs import pillow_io
from stages.codecs.base import Codec, Metadata, Writer
from stages.codecs.errors import UnsupportedError
from stages.codecs.orientation import display_orientation
from stages.codecs.picture import Decoded, Edit, Encoded, as_pillow, to_displayed
from stages.codecs.png.chunks import (
    SIGNATURE,
    XMP_KEYWORD,
    check_samples,
    chunks,
    colour_tags,
    is_kept,
    raw_chunks,
    text_of,
    with_chunks,
    xmp_content,
)
from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.policy import C2PA_MANIFEST, StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp
from stages.pixels.samples import ColourModel, ColourSpace

_DEPTH, _COLOUR_TYPE = 24, 25

#: Colour types by the number of channels: grey, grey with alpha, RGB, RGB with alpha.
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}

#: zlib level: files of photos are 2 to 5 % larger than at the default of 6, and encoding, which is
#: most of the time spent on a PNG, is twice as fast.
_COMPRESSION = 4


def decode(data: bytes) -> Decoded:
    """Decode a PNG.

    Raises:
        UnsupportedError: it is animated.
    """
    check_samples(data)
    if data[_DEPTH] != 16:
        return pillow_io.decode(data)
    with pillow_io.open_image(data) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            raise UnsupportedError("it is animated")
        picture.load()  # also reads the chunks after the pixels
        icc = picture.info.get("icc_profile") or b""
    orientation = display_orientation(data)
    stored = np.asarray(imagecodecs.png_decode(data))
    stored = stored.reshape(*stored.shape[:2], -1)
    model: ColourModel = "grey" if stored.shape[2] <= 2 else "rgb"
    expanded = data[_COLOUR_TYPE] != _COLOUR_TYPES[stored.shape[2]]
    note = "transparent colour expanded to alpha" if expanded else ""
    return Decoded(to_displayed(stored, orientation), orientation, ColourSpace(model, icc), note)


def encode(edit: Edit) -> Encoded:
    """Write an edited PNG.

    Raises:
        RowError: ``image.stale_preview``.
    """
    coded = coded_samples(edit.pixels)
    source, kind = edit.source, slice(_DEPTH, _COLOUR_TYPE + 1)
    policy = StaleDataPolicy(edit)
    before: list[tuple[bytes, bytes]] = []
    after: list[tuple[bytes, bytes]] = []
    end, seen_pixels, seen_xmp = len(SIGNATURE), False, False
    for chunk in raw_chunks(source):
        name, content, end = chunk.name, chunk.content, chunk.end
        seen_pixels |= name == b"IDAT"
        seen_xmp |= _is_xmp(name, content)
        what = f"chunk {name.decode('latin-1')}"
        if name[:1].isupper() or name == b"tRNS":
            continue  # they are those of the new picture
        if name == b"caBX":
            policy.note_dropped(C2PA_MANIFEST)
        elif not is_kept(name, same_mode=source[kind] == coded[kind]):
            policy.note_left_out(content, what)
        elif new := _updated(policy, name, content, what):
            (after if seen_pixels else before).append((name, new))
    if not seen_xmp and (label := refresh_xmp(b"", policy)):
        before.append((b"iTXt", xmp_content(label)))
    if behind := source[end:]:
        policy.note_left_out(behind, "data after the end of the image")
    return Encoded(with_chunks(coded, before, after), "lossless", "", policy.notes)


def _is_xmp(name: bytes, content: bytes) -> bool:
    return name == b"iTXt" and content.startswith(XMP_KEYWORD)


def _updated(policy: StaleDataPolicy, name: bytes, content: bytes, what: str) -> bytes:
    """Return a chunk's new content; empty if the chunk is dropped."""
    if name == b"eXIf":
        return refresh_exif(content, policy)
    text = text_of(name, content)
    if _is_xmp(name, content):
        new = refresh_xmp(text, policy)
        return content if new == text else xmp_content(new) if new else b""
    return b"" if policy.must_drop(text, what) else content


def _metadata(data: bytes) -> Metadata:
    """Read the metadata that other formats can hold."""
    return replace(pillow_io.metadata(data), colour_tags=colour_tags(data))


def _write(
    pixels: Samples, space: ColourSpace, metadata: Metadata, _: int
) -> tuple[bytes, list[str]]:
    """Let Pillow write the chunks around one pixel, since it does not support 16-bit colours."""
    texts = PngImagePlugin.PngInfo()
    if metadata.xmp:
        texts.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    options = pillow_io.writing_options(replace(metadata, xmp=b""), space)
    around = pillow_io.save_image(Image.new("RGB", (1, 1)), format="PNG", pnginfo=texts, **options)
    kept = [chunk for chunk in chunks(around) if chunk[0][:1].islower()]
    return with_chunks(coded_samples(pixels), kept, []), []


def coded_samples(pixels: Samples) -> bytes:
    """``(h, w, c)`` uint8 or uint16, grey or RGB, perhaps with alpha, as a PNG without metadata."""
    if pixels.dtype == np.uint8:
        model: ColourModel = "grey" if pixels.shape[2] <= 2 else "rgb"
        return pillow_io.save_image(
            as_pillow(pixels, model), format="PNG", compress_level=_COMPRESSION
        )
    plain = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(plain), level=_COMPRESSION))


CODEC = Codec(
    suffix="png",
    recognises=lambda data: data.startswith(SIGNATURE),
    size=pillow_io.size,
    decode=decode,
    encode=encode,
    metadata=_metadata,
    writer=Writer(write=_write, is_lossless=True),
    walk=chunks,
)
