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
from stages.codecs.orientation import displayed
from stages.codecs.picture import Decoded, Edit, Encoded, as_pillow, to_displayed
from stages.codecs.png.chunks import (
    WITHOUT_PICTURES,
    check_samples,
    chunks,
    is_kept,
    text_of,
    trailer_of,
    with_chunks,
    xmp_content,
    xmp_of,
)
from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.policy import MANIFEST, StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp
from stages.pixels.samples import ColourModel, Space

_DEPTH, _COLOUR_TYPE = 24, 25

#: Layers and preview of Adobe Fireworks, which it opens instead of the picture.
_FIREWORKS = (b"mkBF", b"mkTS", b"mkBS", b"mkBT", b"prVW")

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
    orientation = displayed(data)
    stored = np.asarray(imagecodecs.png_decode(data))
    stored = stored.reshape(*stored.shape[:2], -1)
    model: ColourModel = "grey" if stored.shape[2] <= 2 else "rgb"
    widened = data[_COLOUR_TYPE] != _COLOUR_TYPES[stored.shape[2]]
    note = "its transparent colour widened to alpha" if widened else ""
    return Decoded(to_displayed(stored, orientation), orientation, Space(model, icc), note)


def encode(edit: Edit) -> Encoded:
    """Write an edited PNG.

    Raises:
        RowError: ``image.stale_preview``.
    """
    coded = coded_samples(edit.pixels)
    source, kind = edit.source, slice(_DEPTH, _COLOUR_TYPE + 1)
    policy = StaleDataPolicy.of(edit)
    before: list[tuple[bytes, bytes]] = []
    after: list[tuple[bytes, bytes]] = []
    seen_pixels = seen_xmp = False
    for name, content in chunks(source):
        seen_pixels |= name == b"IDAT"
        if name == b"caBX":
            policy.drop(MANIFEST)
        if not is_kept(name, same_mode=source[kind] == coded[kind]):
            if name[:1].islower() and name not in (b"tRNS", b"caBX"):
                what = f"chunk {name.decode('latin-1')}"
                (policy.drop(what) if name in _FIREWORKS else policy.lost(content, what))
            continue
        packet = xmp_of(content) if name == b"iTXt" else None
        seen_xmp |= packet is not None
        new = _updated(policy, name, content, packet)
        if new:
            (after if seen_pixels else before).append((name, new))
    if not seen_xmp and (label := refresh_xmp(b"", policy)):
        before.append((b"iTXt", xmp_content(label)))
    if behind := trailer_of(source):
        policy.lost(behind, "bytes behind the picture")
    return Encoded(with_chunks(coded, before, after), "lossless", "", policy.notes)


def _updated(policy: StaleDataPolicy, name: bytes, content: bytes, packet: bytes | None) -> bytes:
    """Return a chunk's new content; empty if the chunk is dropped."""
    if name == b"eXIf":
        return refresh_exif(content, policy)
    if packet is not None:
        new = refresh_xmp(packet, policy)
        return content if new == packet else xmp_content(new) if new else b""
    is_dropped = name not in WITHOUT_PICTURES and policy.drops(
        text_of(name, content), f"chunk {name.decode('latin-1')}"
    )
    return b"" if is_dropped else content


def _write(pixels: Samples, space: Space, metadata: Metadata, _: int) -> tuple[bytes, list[str]]:
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
    recognises=lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"),
    size=pillow_io.size,
    decode=decode,
    encode=encode,
    metadata=pillow_io.metadata,
    writer=Writer(write=_write, is_lossless=True),
    walk=chunks,
)
