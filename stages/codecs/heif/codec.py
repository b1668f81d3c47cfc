"""AVIF and HEIC, 8 bits: always encoded again, since no part of such a picture can be kept.

Pillow reads and writes both, HEIC by its plugin pillow-heif. A HEIC is rotated
when it is decoded, and stored upright; an AVIF keeps its stored frame and orientation.
"""

from __future__ import annotations

import importlib.util
from functools import partial

from stages.codecs import pillow_io
from stages.codecs.base import Codec, Format, Writer
from stages.codecs.errors import DamagedError, UnsupportedError
from stages.codecs.picture import DEFAULT_QUALITY, Decoded, Edit, Encoded, as_pillow
from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp

#: The boxes that describe the picture come first, within this many bytes.
_HEAD = 65_536
#: Types of references and items that only exist for further pictures, and what these are.
_DERIVED = {b"thmb": "thumbnail", b"tmap": "gain map"}

#: By format: the brands of its files, and Pillow's name.
_BRANDS: dict[Format, set[bytes]] = {
    "avif": {b"avif", b"avis"},
    "heic": {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc", b"hevx"},
}
_NAMES: dict[Format, str] = {"avif": "AVIF", "heic": "HEIF"}


def decode(data: bytes) -> Decoded:
    """Decode an AVIF, or a HEIC's primary picture.

    Raises:
        UnsupportedError: it is animated or has more than 8 bits a sample, which Pillow would reduce
            to 8.
    """
    with pillow_io.open_image(data) as picture:
        if _is_deep(data) or picture.info.get("bit_depth", 8) > 8:
            raise UnsupportedError("its samples have more than 8 bits")
    return pillow_io.decode(data)


def _is_deep(avif: bytes) -> bool:
    """Whether any AV1 configuration record (``av1C``) in the file's head has ``high_bitdepth``."""
    head, at = avif[:_HEAD], -1
    while (at := head.find(b"av1C", at + 1)) >= 0:
        if len(head) > at + 6 and head[at + 6] & 0x40:
            return True
    return False


def encode(format_: Format, edit: Edit) -> Encoded:
    """Write an edited AVIF or HEIC.

    Raises:
        RowError: ``image.stale_preview``.
    """
    policy = StaleDataPolicy(edit)
    with pillow_io.open_image(edit.source) as original:
        info, further = original.info, getattr(original, "n_frames", 1) - 1
    kept = {key: info.get(key) or b"" for key in ("icc_profile", "exif", "xmp")}
    kept["exif"], kept["xmp"] = refresh_exif(kept["exif"], policy), refresh_xmp(kept["xmp"], policy)
    options = {key: value for key, value in kept.items() if value}
    if "chroma" in info:
        options["chroma"] = info["chroma"]
    if further:
        policy.drop(f"{further} further picture{'s' * (further > 1)}")
    if info.get("depth_images") or info.get("aux"):
        policy.drop("depth and gain maps")
    for kind, what in _DERIVED.items():
        if kind in edit.source[:_HEAD]:
            policy.drop(what)
    quality = edit.quality or DEFAULT_QUALITY
    picture = as_pillow(edit.pixels, edit.space.model)
    data = pillow_io.save_image(picture, format=_NAMES[format_], quality=quality, **options)
    return Encoded(data, "reencoded", f"{format_.upper()}, quality {quality}", policy.notes)


def _recognises(format_: Format, data: bytes) -> bool:
    """Whether the ``ftyp`` box of an ISO base media file has a brand of a format."""
    if data[4:8] != b"ftyp":
        return False
    size = min(int.from_bytes(data[:4], "big"), 256)
    return not _BRANDS[format_].isdisjoint(
        {data[8:12], *(data[i : i + 4] for i in range(16, size, 4))}
    )


def _diagnose(data: bytes) -> None:
    if not _recognises("avif", data) and not importlib.util.find_spec("pillow_heif"):
        raise UnsupportedError("reading HEIC requires pillow-heif: pip install pillow-heif")
    raise DamagedError("truncated: its header is cut off")


def _codec(format_: Format, writer: Writer | None) -> Codec:
    return Codec(
        suffix=format_,
        recognises=partial(_recognises, format_),
        size=pillow_io.size,
        decode=decode,
        encode=partial(encode, format_),
        metadata=pillow_io.metadata,
        writer=writer,
        diagnose=_diagnose,
    )


AVIF = _codec("avif", Writer(write=partial(pillow_io.write_lossy, "AVIF")))
HEIC = _codec("heic", None)
