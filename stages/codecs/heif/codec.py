"""AVIF and HEIC: always encoded again, since no part of such a picture can be kept as it is.

Pillow reads and writes AVIF; pillow-heif (the extra ``heic``) HEIC of 8 bits or more. A HEIC is
rotated when it is decoded, and stored upright; an AVIF keeps its stored frame and orientation.
"""

from __future__ import annotations

import io
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from stages.codecs import pillow_io
from stages.codecs.base import Codec, Metadata, Writer
from stages.codecs.errors import DamagedError, UnsupportedError, library_errors
from stages.codecs.picture import DEFAULT_QUALITY, Decoded, Edit, Encoded, as_pillow
from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp
from stages.pixels.samples import Space

#: The boxes that describe the picture come first, within this many bytes.
_HEAD = 65_536
#: Types of references and items that only exist for further pictures, and what these are.
_DERIVED = {b"thmb": "thumbnail", b"tmap": "gain map"}

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc", b"hevx"}

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_METADATA = ("icc_profile", "exif", "xmp")


def decode_avif(data: bytes) -> Decoded:
    """Decode an AVIF.

    Raises:
        UnsupportedError: it is animated or has more than 8 bits a sample, which Pillow would reduce
            to 8.
    """
    if _is_deep(data):
        raise UnsupportedError("its samples have more than 8 bits")
    return pillow_io.decode(data)


def _is_deep(avif: bytes) -> bool:
    """Whether any AV1 configuration record (``av1C``) in the file's head has ``high_bitdepth``."""
    head, at = avif[:_HEAD], -1
    while (at := head.find(b"av1C", at + 1)) >= 0:
        if len(head) > at + 6 and head[at + 6] & 0x40:
            return True
    return False


def encode_avif(edit: Edit) -> Encoded:
    """Write an edited AVIF.

    Raises:
        RowError: ``image.stale_preview``.
        UnsupportedError: the encoder rejects the picture.
    """
    with pillow_io.open_image(edit.source) as original:
        policy, kept = _updated(edit, original.info)
    _drop_derived(edit.source, policy)
    quality = edit.quality or DEFAULT_QUALITY
    picture = as_pillow(edit.pixels, edit.space.model)
    try:
        with library_errors():
            data = pillow_io.save_image(picture, format="AVIF", quality=quality, **kept)
    except (
        DamagedError
    ) as error:  # from the encoder, which does not report a lack of memory as such
        raise UnsupportedError(str(error)) from None
    return Encoded(data, "reencoded", f"AVIF, quality {quality}", policy.notes)


def heic_size(data: bytes) -> tuple[int, int]:
    """Width and height as displayed, px."""
    width, height = _open_heic(data).size
    return width, height


def decode_heic(data: bytes) -> Decoded:
    """Decode a HEIC's primary picture; more than 8 bits become 16.

    Raises:
        UnsupportedError: pillow-heif is not installed.
    """
    picture = _open_heic(data)
    pixels = np.ascontiguousarray(picture)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    icc = picture.info.get("icc_profile") or b""
    return Decoded(pixels, 1, Space("grey" if pixels.shape[2] <= 2 else "rgb", icc))


def encode_heic(edit: Edit) -> Encoded:
    """Write an edited HEIC; raises as :func:`encode_avif` does."""
    original = _open_heic(edit.source)
    policy, kept = _updated(edit, original.info)
    height, width, channels = edit.pixels.shape
    mode = _MODES[channels] + (";16" if edit.pixels.itemsize == 2 else "")
    picture = _pillow_heif().from_bytes(
        mode,
        (width, height),
        np.ascontiguousarray(edit.pixels).tobytes(),
    )
    quality = edit.quality or DEFAULT_QUALITY
    target = io.BytesIO()
    try:
        with library_errors():
            picture.save(target, quality=quality, chroma=original.info.get("chroma", 420), **kept)
    except DamagedError as error:
        raise UnsupportedError(str(error)) from None
    dropped = _count(edit.source) - 1
    if dropped:
        policy.drop(f"{dropped} further picture{'s' * (dropped > 1)}")
    if original.info.get("depth_images") or original.info.get("aux"):
        policy.drop("depth and gain maps")
    _drop_derived(edit.source, policy)
    return Encoded(target.getvalue(), "reencoded", f"HEIC, quality {quality}", policy.notes)


def _drop_derived(source: bytes, policy: StaleDataPolicy) -> None:
    """Note further forms of the old picture in the source, which the new file does not have."""
    for kind, what in _DERIVED.items():
        if kind in source[:_HEAD]:
            policy.drop(what)


def _updated(edit: Edit, info: Any) -> tuple[StaleDataPolicy, dict[str, bytes]]:
    policy = StaleDataPolicy.of(edit)
    kept = {key: info.get(key) or b"" for key in _METADATA}
    kept["exif"], kept["xmp"] = refresh_exif(kept["exif"], policy), refresh_xmp(kept["xmp"], policy)
    return policy, {key: value for key, value in kept.items() if value}


def _heic_metadata(data: bytes) -> Metadata:
    info = _open_heic(data).info
    exif, xmp = info.get("exif") or b"", info.get("xmp") or b""
    return Metadata(exif, xmp, further_pictures=_count(data) - 1)


def _count(data: bytes) -> int:
    """Count the pictures in a HEIC."""
    return len(_pillow_heif().open_heif(data))


def _open_heic(data: bytes) -> Any:
    library = _pillow_heif()
    picture = library.open_heif(data, convert_hdr_to_8bit=False)
    library.set_orientation(picture.info)  # it is upright already; the tag would rotate it again
    return picture


def _pillow_heif() -> ModuleType:
    try:
        import pillow_heif
    except ImportError:
        raise UnsupportedError(
            "reading HEIC requires pillow-heif: pip install pillow-heif"
        ) from None
    return pillow_heif


def _brands(data: bytes) -> set[bytes]:
    """The brands in the ``ftyp`` box of an ISO base media file; none for any other file."""
    if data[4:8] != b"ftyp":
        return set()
    size = min(int.from_bytes(data[:4], "big"), 256)
    return {data[8:12], *(data[i : i + 4] for i in range(16, size, 4))}


def _diagnose_avif(_: bytes) -> None:
    raise DamagedError(
        "truncated: its header is cut off"
    )  # which Pillow does not recognise as a picture


AVIF = Codec(
    suffix="avif",
    recognises=lambda data: bool(_brands(data) & _AVIF_BRANDS),
    size=pillow_io.size,
    decode=decode_avif,
    encode=encode_avif,
    metadata=pillow_io.metadata,
    writer=Writer(write=partial(pillow_io.write_lossy, "AVIF")),
    diagnose=_diagnose_avif,
)
HEIC = Codec(
    suffix="heic",
    recognises=lambda data: bool(_brands(data) & _HEIC_BRANDS),
    size=heic_size,
    decode=decode_heic,
    encode=encode_heic,
    metadata=_heic_metadata,
)
