"""Convert an edited photo to another format, as ``output.format`` requires."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stages.arrays import Samples
from stages.codecs.base import Codec, Format, Metadata, Writer
from stages.codecs.errors import UnsupportedError
from stages.codecs.formats import CODECS
from stages.codecs.jpeg.markers import EXIF
from stages.codecs.orientation import upright_exif, upright_xmp
from stages.codecs.picture import DEFAULT_QUALITY, Edit, Encoded, Fidelity
from stages.codecs.stale.exif import refresh_exif
from stages.codecs.stale.policy import StaleDataPolicy
from stages.codecs.stale.xmp import refresh_xmp
from stages.pixels.colour import grey_to_srgb8, to_srgb8, unpremultiplied
from stages.pixels.samples import ColourSpace, composite_on, to_8_bits


def convert(edit: Edit, own: Format, wanted: Format) -> Encoded:
    """Encode an edited photo in another format.

    Args:
        edit: the edited photo, in the displayed frame.
        own: the format of its source.
        wanted: the target format; it has a writer.

    Raises:
        RowError: ``image.stale_preview``.
        UnsupportedError: the source states colours in a way that other formats cannot hold.
    """
    writer = CODECS[wanted].writer
    assert writer is not None
    notes = [f"converted from {own} to {wanted}"]
    pixels, space = _as_target_can_hold(edit.pixels, edit.space, writer, notes)
    policy = StaleDataPolicy(edit)
    metadata = _carried(edit.source, CODECS[own], writer, policy)
    if metadata.colour_tags and not edit.space.icc:
        raise UnsupportedError(
            f"its colours are stated by {metadata.colour_tags}, without an ICC profile; embed one, "
            "or use output.format = source"
        )
    if metadata.further_samples:
        notes.append("samples besides colours and alpha left out")
    is_lossless = writer.is_lossless and len(notes) == 1
    quality = edit.quality or DEFAULT_QUALITY
    if not writer.is_lossless:
        notes.append(f"quality {quality}")
    data, left = writer.write(pixels, space, metadata, quality)
    fidelity: Fidelity = "lossless" if is_lossless else "reencoded"
    return Encoded(data, fidelity, ", ".join(notes), policy.notes + left)


def _as_target_can_hold(
    pixels: Samples, space: ColourSpace, writer: Writer, notes: list[str]
) -> tuple[Samples, ColourSpace]:
    """Convert samples to a depth and colours that the writer supports; note each loss."""
    if space.premultiplied:
        straight = np.concatenate([unpremultiplied(pixels, space), pixels[..., -1:]], axis=2)
        pixels, space = straight, replace(space, premultiplied=False)
        notes.append("colours divided by alpha")
    loses_ink = space.model == "cmyk" and not writer.holds_cmyk
    is_laid = pixels.shape[2] > space.channels and not writer.holds_alpha  # in colours as shown
    if space.model == "grey" and space.icc and (is_laid or not writer.holds_grey):
        alpha, converted = pixels[..., 1:], grey_to_srgb8(pixels[..., :1], space.icc)
        if converted is None:  # viewers ignore the profile
            space = ColourSpace("grey")
            notes.append("ICC profile that is not one of grey dropped")
        else:
            pixels, space = (
                np.concatenate([converted, to_8_bits(alpha)], axis=2),
                ColourSpace("rgb"),
            )
            notes.append("grey converted to sRGB by its profile")
    if pixels.dtype == np.uint16 and (loses_ink or not writer.is_lossless):
        pixels = to_8_bits(pixels)
        notes.append("16 bits reduced to 8")
    if loses_ink:
        alpha = pixels[..., space.channels :]
        pixels, space = np.concatenate([to_srgb8(pixels, space), alpha], axis=2), ColourSpace("rgb")
        notes.append("CMYK turned into sRGB")
    if is_laid:
        top = 0 if space.model == "cmyk" else 255
        pixels = composite_on(top, to_8_bits(pixels[..., :-1]), to_8_bits(pixels[..., -1:]))
        notes.append("transparency laid on white")
    return pixels, space


def _carried(source: bytes, own: Codec, writer: Writer, policy: StaleDataPolicy) -> Metadata:
    """Collect the metadata for the new file; note what is left out."""
    found = own.metadata(source)
    exif = found.exif
    if exif and not exif.startswith(EXIF.name):
        exif = EXIF.name + exif  # Pillow requires it for JPEG, and removes it for other formats
    exif = refresh_exif(upright_exif(exif), policy)
    xmp = refresh_xmp(upright_xmp(found.xmp), policy)
    too_large = {
        name
        for name, block in (("EXIF", exif), ("XMP", xmp))
        if writer.max_metadata_bytes and len(block) > writer.max_metadata_bytes
    }
    policy.notes += [f"{name} over 64 KB left out" for name in sorted(too_large)]
    exif, xmp = b"" if "EXIF" in too_large else exif, b"" if "XMP" in too_large else xmp
    policy.notes.append("only EXIF, XMP, ICC profile and resolution carried over")
    if found.further_pictures:
        policy.notes.append(f"{found.further_pictures} further pictures not carried over")
    return replace(found, exif=exif, xmp=xmp)
