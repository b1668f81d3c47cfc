"""Code a photo into another format than its own, as ``output.format`` asks for."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from stages.codecs import heif, pillow_io
from stages.codecs.blocks import Blocks
from stages.codecs.jpeg.header import envelope
from stages.codecs.orientation import upright_exif, upright_xmp
from stages.codecs.picture import (
    DEFAULT_QUALITY,
    Edit,
    Encoded,
    Samples,
    Space,
    as_pillow,
    to_8_bits,
    to_displayed,
)
from stages.codecs.png import codec as png
from stages.codecs.png.chunks import chunks, raw_profile, with_chunks, xmp_of
from stages.codecs.stale.exif import NAME as EXIF_NAME
from stages.codecs.tiff import codec as tiff
from stages.codecs.webp.riff import riff_chunks
from stages.pixels.colour import as_seen, view

#: The formats that can hold CMYK; those that lose no sample, and hold 16 bits.
_CMYK = ("jpeg", "tiff")
_LOSSLESS = ("png", "tiff")

#: EXIF tags of a TIFF that tell of the photo, not of how the file is laid out.
_TELLING = (270, 271, 272, 274, 305, 306, 315, 316, 33432)
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_ORIENTATION, _PREDICTOR, _XMP = 274, 317, 700

#: Chunks that another format has something of, or that tell of the coding alone.
_PNG_CARRIED = {"iCCP", "pHYs", "sRGB", "gAMA", "cHRM", "sBIT", "bKGD"}
_WEBP_CARRIED = {"VP8X", "VP8 ", "VP8L", "ALPH", "ICCP", "XMP "}
_TIFF_LEFT = {33723: "IPTC", 34377: "Photoshop resources", 37724: "Photoshop layers"}

#: Bytes, the name that goes before XMP taken off.
_MAX_SEGMENT = 65_500


@dataclass(frozen=True, slots=True)
class _Carried:
    """The metadata that is carried over; empty where there is none."""

    exif: bytes
    xmp: bytes
    icc: bytes
    dpi: tuple[float, float] | None


def convert(edit: Edit, own: str, wanted: str) -> Encoded:
    """Code an edited photo into another format, upright: not every format can state a turn.

    Args:
        edit: the photo.
        own: format of its source.
        wanted: ``jpeg``, ``png``, ``webp``, ``tiff`` or ``avif``.

    Raises:
        RowError: ``image.stale_preview``.
    """
    notes = [f"converted from {own} to {wanted}"]
    edit = _upright(edit)
    pixels, space = _as_target_can_hold(edit.pixels, edit.space, wanted, notes)
    blocks = Blocks(edit)
    carried = _carried(edit, own, blocks, space)
    if wanted == "jpeg":
        carried = _as_segments_can_hold(carried, blocks)
    blocks.notes += _left_behind(edit.source, own, carried)
    lossless = wanted in _LOSSLESS and len(notes) == 1
    if wanted not in _LOSSLESS:
        quality = edit.output.quality or DEFAULT_QUALITY
        notes.append(f"quality {quality}")
        data = pillow_io.saved(
            as_pillow(pixels, space.model),
            format=wanted.upper(),
            quality=quality,
            **_pillow_options(carried),
        )
    elif wanted == "png":
        data = _png(pixels, carried)
    elif pixels.dtype == np.uint8:
        data = _tiff(pixels, space, carried)
        if any(_telling_tags(carried.exif).get_ifd(number) for number in (_EXIF_IFD, _GPS_IFD)):
            # Pillow writes no directories into a compressed TIFF.
            blocks.notes.append("EXIF not carried over, but for what TIFF has tags of its own for")
    else:
        data = _deep_tiff(pixels, space, carried)
        if carried.exif:
            blocks.notes.append("EXIF not carried over")
    return Encoded(data, "lossless" if lossless else "reencoded", ", ".join(notes), blocks.notes)


def _upright(edit: Edit) -> Edit:
    """The same edit, its stored frame being the displayed one."""
    turn = edit.orientation
    pixels, changed = to_displayed(edit.pixels, turn), to_displayed(edit.changed, turn)
    return replace(edit, pixels=pixels, changed=changed, orientation=1)


def _as_target_can_hold(
    pixels: Samples, space: Space, wanted: str, notes: list[str]
) -> tuple[Samples, Space]:
    """Bring samples to the depth, colours and opacity that a format has; notes what was lost."""
    if space.premultiplied:
        straight = np.concatenate([as_seen(pixels, space), pixels[..., -1:]], axis=2)
        pixels, space = straight, replace(space, premultiplied=False)
        notes.append("colours divided by alpha")
    if pixels.dtype == np.uint16 and (wanted not in _LOSSLESS or _loses_ink(space, wanted)):
        pixels = to_8_bits(pixels)
        notes.append("16 bits reduced to 8")
    if _loses_ink(space, wanted):
        alpha = pixels[..., space.channels :]
        pixels, space = np.concatenate([view(pixels, space), alpha], axis=2), Space("rgb")
        notes.append("CMYK turned into sRGB")
    if wanted == "jpeg" and pixels.shape[2] > space.channels:
        top = 0 if space.model == "cmyk" else 255
        alpha = pixels[..., -1:].astype(np.uint32)
        laid = pixels[..., :-1] * alpha + top * (255 - alpha)
        pixels = ((laid + 127) // 255).astype(np.uint8)
        notes.append("transparency laid on white")
    return pixels, space


def _as_segments_can_hold(carried: _Carried, blocks: Blocks) -> _Carried:
    """A JPEG's segments hold 64 KB; what is larger is left out, with a note."""
    large = {name for name in ("exif", "xmp") if len(getattr(carried, name)) > _MAX_SEGMENT}
    blocks.notes += [f"{name.upper()} over 64 KB left out" for name in sorted(large)]
    return replace(
        carried,
        exif=b"" if "exif" in large else carried.exif,
        xmp=b"" if "xmp" in large else carried.xmp,
    )


def _loses_ink(space: Space, wanted: str) -> bool:
    return space.model == "cmyk" and wanted not in _CMYK


def _carried(edit: Edit, own: str, blocks: Blocks, space: Space) -> _Carried:
    if own == "tiff":
        exif, xmp, dpi = _of_tiff(edit.source)
        if edit.source[2:4] in (b"+\0", b"\0+"):
            blocks.notes.append("EXIF not carried over")
    elif own == "heic":
        found = heif.metadata_of(edit.source)
        exif, xmp, dpi = found.get("exif") or b"", found.get("xmp") or b"", None
    else:
        with pillow_io.opened(edit.source) as original:
            info = original.info
            exif = info.get("exif") or _raw_exif(edit.source, own)
            xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
            dpi = info.get("dpi")
    packet = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    if exif and not exif.startswith(EXIF_NAME):
        exif = EXIF_NAME + exif  # Pillow wants it for JPEG, and takes it off for the others
    exif, packet = blocks.exif(upright_exif(exif)), blocks.xmp(upright_xmp(packet))
    return _Carried(exif, packet, space.icc, dpi)


def _of_tiff(source: bytes) -> tuple[bytes, bytes, tuple[float, float] | None]:
    """EXIF, XMP and resolution of the page that is edited."""
    with tifffile.TiffFile(io.BytesIO(source)) as reader:
        page = tiff.main_page(reader)
        xmp = page.tags.valueof(_XMP, b"")
        dpi = page.get_resolution(tifffile.RESUNIT.INCH)
        told = 282 in page.tags and page.tags.valueof(296, 2) in (2, 3)
        if reader.is_bigtiff:  # which Pillow does not read as EXIF
            return b"", xmp, dpi if told else None
    # The tags of the page, as if it were the first.
    order: Literal["little", "big"] = "little" if source[:2] == b"II" else "big"
    block = source[:4] + page.offset.to_bytes(4, order) + source[8:]
    return _telling_tags(block).tobytes(), xmp, dpi if told else None


def _raw_exif(source: bytes, own: str) -> bytes:
    """EXIF that a PNG keeps as hex in a text chunk."""
    raws = (raw_profile(*chunk) for chunk in chunks(source)) if own == "png" else ()
    kinds = (EXIF_NAME, b"II*\0", b"MM\0*")
    return next((raw.content for raw in raws if raw and raw.content.startswith(kinds)), b"")


def _left_behind(source: bytes, own: str, carried: _Carried) -> list[str]:
    """A note for all that the new file does not hold."""
    left = sorted(_others(source, own) - ({"EXIF"} if carried.exif else set()))
    notes = [f"not carried over: {', '.join(left)}"] if left else []
    further = _further_pictures(source, own)
    return notes + ([f"{further} further pictures left behind"] if further else [])


def _others(source: bytes, own: str) -> set[str]:
    """What a file holds beside its picture, XMP, profile and resolution, by names for people."""
    if own == "jpeg":
        segments, trailer = envelope(source)
        found = {_name_of_segment(segment) for segment in segments}
        return found - {""} | ({"bytes behind the picture"} if trailer else set())
    if own == "png":
        names = {name.decode("latin-1") for name, _ in chunks(source) if name[:1].islower()}
        texts = {xmp_of(content) is None for name, content in chunks(source) if name == b"iTXt"}
        names -= {"iTXt"} if texts == {False} else set()
        return {{"eXIf": "EXIF"}.get(name, f"chunk {name}") for name in names - _PNG_CARRIED}
    if own == "webp":
        names = {name.decode("latin-1") for name in dict(riff_chunks(source))}
        return {{"EXIF": "EXIF"}.get(name, f"chunk {name}") for name in names - _WEBP_CARRIED}
    if own == "tiff":
        with tifffile.TiffFile(io.BytesIO(source)) as reader:
            tags = tiff.main_page(reader).tags
            return {name for tag, name in _TIFF_LEFT.items() if tag in tags}
    return set()


def _name_of_segment(segment: bytes) -> str:
    """Of a JPEG's segment that is not carried over; empty for one that is."""
    if segment[4:].startswith((b"http://ns.adobe.com/x", b"ICC_PROFILE\0", b"JFIF\0", b"Adobe")):
        return ""
    known = ((EXIF_NAME, "EXIF"), (b"Photoshop 3.0", "IPTC and Photoshop resources"))
    name = next((name for start, name in known if segment.startswith(start, 4)), "")
    return name or ("comment" if segment[1] == 0xFE else f"APP{segment[1] - 0xE0}")


def _further_pictures(source: bytes, own: str) -> int:
    if own == "tiff":
        with tifffile.TiffFile(io.BytesIO(source)) as reader:
            return sum(not page.aspage().is_reduced for page in reader.pages) - 1
    if own == "heic":
        return heif.count(source) - 1
    with pillow_io.opened(source) as picture:
        return int(getattr(picture, "n_frames", 1)) - 1


def _telling_tags(block: bytes) -> Image.Exif:
    """The tags of an EXIF block, or of a whole TIFF, that hold for the same photo elsewhere."""
    tags = Image.Exif()
    tags.load(block)
    made = Image.Exif()
    for tag in _TELLING:
        if tag in tags:
            made[tag] = tags[tag]
    for number in (_EXIF_IFD, _GPS_IFD):
        if below := tags.get_ifd(number):
            made.get_ifd(number).update(below)
    return made


def _pillow_options(carried: _Carried) -> dict[str, Any]:
    found = {"exif": carried.exif, "xmp": carried.xmp, "icc_profile": carried.icc}
    options: dict[str, Any] = {name: value for name, value in found.items() if value}
    return options | ({"dpi": carried.dpi} if carried.dpi else {})


def _png(pixels: Samples, carried: _Carried) -> bytes:
    """Pillow writes the chunks, around a picture of one pixel, and knows no samples of 16 bits."""
    texts = PngImagePlugin.PngInfo()
    if carried.xmp:
        texts.add_itxt("XML:com.adobe.xmp", carried.xmp.decode("utf-8", "replace"))
    options = _pillow_options(carried)
    options.pop("xmp", None)
    around = pillow_io.saved(Image.new("RGB", (1, 1)), format="PNG", pnginfo=texts, **options)
    kept = [chunk for chunk in chunks(around) if chunk[0][:1].islower()]
    return with_chunks(png.coded_samples(pixels), kept, [])


def _tiff(pixels: Samples, space: Space, carried: _Carried) -> bytes:
    """8 bits, through Pillow, which knows EXIF."""
    tags = _telling_tags(carried.exif)
    tags[_PREDICTOR] = 2
    if carried.xmp:
        tags[_XMP] = carried.xmp
    options = _pillow_options(replace(carried, exif=b"", xmp=b""))
    picture = as_pillow(pixels, space.model)
    return pillow_io.saved(
        picture, format="TIFF", compression="tiff_adobe_deflate", tiffinfo=tags, **options
    )


def _deep_tiff(pixels: Samples, space: Space, carried: _Carried) -> bytes:
    """16 bits, through tifffile, which knows all samples."""
    buffer = io.BytesIO()
    alpha = pixels.shape[2] > space.channels
    extra: list[tuple[Any, ...]] = [(_ORIENTATION, 3, 1, 1, True)]
    if carried.xmp:
        extra.append((_XMP, 1, len(carried.xmp), carried.xmp, True))
    tifffile.imwrite(
        buffer,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        photometric={"grey": "minisblack", "rgb": "rgb", "cmyk": "separated"}[space.model],
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        extrasamples=["unassalpha"] if alpha else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=64,
        iccprofile=carried.icc or None,
        resolution=carried.dpi,
        resolutionunit="INCH" if carried.dpi else None,
        metadata=None,
        software="",
        extratags=extra,
    )
    return buffer.getvalue()
