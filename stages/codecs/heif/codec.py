"""AVIF and HEIC, 8 bits: always re-encoded, since no part of such a picture can be kept.

Pillow reads and writes both, HEIC by its plugin pillow-heif. A HEIC is rotated
when it is decoded, and stored upright; an AVIF keeps its stored frame and orientation. Colours are
read from ICC profile and ``colr`` box: an AVIF that states them in its AV1 stream alone, which few
encoders do, is read and written as sRGB.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from stages.codecs import pillow_io
from stages.codecs.base import Codec, Format, Metadata, Writer
from stages.codecs.errors import DamagedError, UnsupportedError
from stages.codecs.picture import DEFAULT_QUALITY, Decoded, Edit, Encoded, as_pillow
from stages.codecs.stale.policy import StaleDataPolicy

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

#: Pillow's names of chroma subsampling, by three bits of an ``av1C`` record: monochrome,
#: chroma_subsampling_x and chroma_subsampling_y (AV1-ISOBMFF 2.3.3).
_SUBSAMPLING = {0x0: "4:4:4", 0x8: "4:2:2", 0xC: "4:2:0", 0x1C: "4:0:0"}

#: The box that states colours by numbers, before colour primaries and transfer characteristics
#: (ITU-T H.273), 16 bits each; and the numbers that viewers show as sRGB: BT.709, sRGB, BT.601,
#: and 2, unspecified.
_NCLX, _SRGB_PRIMARIES, _SRGB_TRANSFERS = b"colrnclx", (1, 2), (1, 2, 6, 13)


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
    """Whether any AV1 configuration record in the file's head has ``high_bitdepth``."""
    return any(flags & 0x40 for flags in _av1_flags(avif))


def _av1_flags(avif: bytes) -> Iterator[int]:
    """Yield the third byte of each AV1 configuration record (``av1C``) in the file's head."""
    head, at = avif[:_HEAD], -1
    while (at := head.find(b"av1C", at + 1)) >= 0:
        if len(head) > at + 6:
            yield head[at + 6]


def _sampling(source: bytes, info: Mapping[Any, Any]) -> dict[str, Any]:
    """Save arguments that keep the chroma subsampling, and the colours that a HEIC's nclx states.

    A monochrome record beside another one is that of the alpha.
    """
    kept = {key: info[key] for key in ("chroma", "nclx_profile") if info.get(key)}
    sampling = min((flags & 0x1C for flags in _av1_flags(source)), default=-1)
    if name := _SUBSAMPLING.get(sampling):
        kept["subsampling"] = name
    return kept


def _nclx(data: bytes) -> bytes:
    """Colour primaries and transfer characteristics as stored, 4 bytes; empty: none are stated."""
    at = data.find(_NCLX, 0, _HEAD)
    return data[at + len(_NCLX) : at + len(_NCLX) + 4] if at >= 0 else b""


def _with_nclx(avif: bytes, stated: bytes) -> bytes:
    """The file with these colour primaries and transfer characteristics.

    Pillow always writes those of sRGB or none. No sample depends on them.
    """
    own = _nclx(avif)
    return avif.replace(_NCLX + own, _NCLX + stated, 1) if own and len(stated) == 4 else avif


def encode(format_: Format, edit: Edit) -> Encoded:
    """Write an edited AVIF or HEIC.

    Raises:
        RowError: ``image.stale_preview``.
    """
    policy = StaleDataPolicy(edit)
    with pillow_io.open_image(edit.source) as original:
        info, further = original.info, getattr(original, "n_frames", 1) - 1
    options = pillow_io.refreshed(info, policy) | _sampling(edit.source, info)
    if further:
        policy.note_dropped(f"{further} further picture{'s' * (further > 1)}")
    if info.get("depth_images") or info.get("aux"):
        policy.note_dropped("depth and gain maps")
    for kind, what in _DERIVED.items():
        if kind in edit.source[:_HEAD]:
            policy.note_dropped(what)
    quality = edit.quality or DEFAULT_QUALITY
    picture = as_pillow(edit.pixels, edit.space.model)
    data = pillow_io.save_image(picture, format=_NAMES[format_], quality=quality, **options)
    if format_ == "avif":
        data = _with_nclx(data, _nclx(edit.source))
    return Encoded(data, "reencoded", f"{format_.upper()}, quality {quality}", policy.notes)


def metadata(data: bytes) -> Metadata:
    """Read the metadata that other formats can hold."""
    found, colour_tags = pillow_io.metadata(data), ""
    if len(stated := _nclx(data)) == 4:
        primaries, transfer = struct.unpack(">HH", stated)
        if primaries not in _SRGB_PRIMARIES or transfer not in _SRGB_TRANSFERS:
            colour_tags = f"nclx (colour primaries {primaries}, transfer {transfer})"
    return replace(found, colour_tags=colour_tags)


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
        metadata=metadata,
        writer=writer,
        diagnose=_diagnose,
    )


AVIF = _codec("avif", Writer(write=partial(pillow_io.write_lossy, "AVIF"), holds_grey=False))
HEIC = _codec("heic", None)
