"""JPEG: the coefficients of every block that the mask does not touch are kept.

Where that is not possible, the file is re-encoded with its own quantisation tables, subsampling
and mode (baseline or progressive), and the lineage records it.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from PIL import JpegImagePlugin

from stages.codecs import pillow_io
from stages.codecs.base import Codec, Writer
from stages.codecs.errors import UnsupportedError, VerificationError
from stages.codecs.jpeg.libjpeg import open_coefficients
from stages.codecs.jpeg.markers import ADOBE, check_kind, segments, split_metadata
from stages.codecs.jpeg.splice import splice
from stages.codecs.picture import Edit, Encoded, as_pillow
from stages.codecs.pillow_io import open_image, save_image
from stages.codecs.stale.jpeg import refresh_jpeg
from stages.codecs.stale.policy import StaleDataPolicy
from stages.pixels.samples import to_8_bits


def encode(edit: Edit) -> Encoded:
    """Write an edited JPEG.

    Raises:
        RowError: ``image.stale_preview``.
        DamagedError: there is damage that only shows in the coefficients.
    """
    note = ""
    try:
        coded = splice(edit.source, to_8_bits(edit.pixels), edit.changed)
    except (UnsupportedError, VerificationError) as error:
        coded, note = _reencode(edit), str(error)
    data, notes = _with_metadata(edit, coded, is_reencoded=bool(note))
    return Encoded(data, "reencoded" if note else "coefficients", note, notes)


def check_samples(jpeg: bytes) -> None:
    """Decode all coefficients: Pillow ignores missing ones and invents their samples.

    Raises:
        DamagedError: some are missing.
    """
    # Kinds that only Pillow reads are not checked.
    with suppress(UnsupportedError), open_coefficients(jpeg):
        pass


def _reencode(edit: Edit) -> bytes:
    with open_image(edit.source) as original:
        assert isinstance(original, JpegImagePlugin.JpegImageFile)
        subsampling = JpegImagePlugin.get_sampling(original)
        return save_image(
            as_pillow(edit.pixels, edit.space.model),
            format="JPEG",
            qtables=original.quantization,
            subsampling=subsampling if subsampling >= 0 else "4:4:4",
            progressive=bool(original.info.get("progressive")),
        )


def _with_metadata(edit: Edit, coded: bytes, *, is_reencoded: bool) -> tuple[bytes, list[str]]:
    """Join the source's updated segments, the encoded picture, and the updated trailer."""
    own, body, _ = split_metadata(coded)
    kept, _, trailer = split_metadata(edit.source)
    if is_reencoded:  # the encoder chose the colour transform
        kept = [s for s in kept if not ADOBE.matches(s)]
        kept += [s for s in own if ADOBE.matches(s)]
    policy = StaleDataPolicy(edit)
    kept, trailer = refresh_jpeg(kept, trailer, policy)
    return b"".join([b"\xff\xd8", *kept, body, trailer]), policy.notes


CODEC = Codec(
    suffix="jpg",
    recognises=lambda data: data.startswith(b"\xff\xd8\xff"),
    size=pillow_io.size,
    decode=pillow_io.decode,
    encode=encode,
    metadata=pillow_io.metadata,
    writer=Writer(
        write=partial(pillow_io.write_lossy, "JPEG"),
        holds_cmyk=True,
        holds_alpha=False,
        max_metadata_bytes=65_500,  # bytes of a segment, less the name before XMP
    ),
    walk=segments,
    check_samples=check_samples,
    diagnose=check_kind,
)
