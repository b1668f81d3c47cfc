"""JPEG: the coefficients of every block that the mask does not touch are kept.

Where that cannot be done the file is coded again with its own quantisation tables, subsampling and
kind, and the lineage says so.
"""

from __future__ import annotations

from PIL import JpegImagePlugin

from manifests.errors import RowError
from stages.codecs.errors import DamagedError, RefusedError
from stages.codecs.jpeg import libjpeg
from stages.codecs.jpeg.header import envelope, is_adobe, read_header
from stages.codecs.jpeg.splice import VerificationError, splice
from stages.codecs.picture import Edit, Encoded, as_pillow, to_8_bits
from stages.codecs.pillow_io import opened, saved
from stages.codecs.stale.jpeg import settle_jpeg


def encode(edit: Edit) -> Encoded:
    """Write an edited JPEG.

    Raises:
        RowError: ``image.corrupt``, for damage that only shows in the coefficients, or
            ``image.stale_preview``.
    """
    note = ""
    try:
        coded = splice(edit.source, to_8_bits(edit.pixels), edit.changed)
    except (RefusedError, VerificationError) as error:
        coded, note = _coded_again(edit), str(error)
    except DamagedError as error:
        raise _corrupt(error) from None
    data, notes = _with_metadata(edit, coded, anew=bool(note))
    return Encoded(data, "reencoded" if note else "coefficients", note, notes)


def check_samples(jpeg: bytes) -> None:
    """Read all coefficients, of which Pillow passes over missing ones and makes up their samples.

    Raises:
        RowError: ``image.corrupt``.
    """
    try:
        libjpeg.visit(jpeg, read_header(jpeg), lambda *_: None)
    except RefusedError:
        return  # of a kind that only Pillow reads
    except DamagedError as error:
        raise _corrupt(error) from None


def _corrupt(error: DamagedError) -> RowError:
    return RowError("image.corrupt", f"The image's data are damaged: {error}.")


def _coded_again(edit: Edit) -> bytes:
    with opened(edit.source) as original:
        assert isinstance(original, JpegImagePlugin.JpegImageFile)
        subsampling = JpegImagePlugin.get_sampling(original)
        return saved(
            as_pillow(edit.pixels, edit.space.model),
            format="JPEG",
            qtables=original.quantization,
            subsampling=subsampling if subsampling >= 0 else "4:4:4",
            progressive=bool(original.info.get("progressive")),
        )


def _with_metadata(edit: Edit, coded: bytes, *, anew: bool) -> tuple[bytes, list[str]]:
    """Put the coded picture between the source's settled segments and trailer."""
    made = read_header(coded)
    segments, trailer = envelope(edit.source)
    if anew:  # how the samples make colours is the coder's to say
        segments = [s for s in segments if not is_adobe(s)]
        segments += [s for s in made.segments if is_adobe(s)]
    settled = settle_jpeg(
        segments,
        trailer,
        edit.as_pillow,
        edit.metadata,
        trailer_start=len(edit.source) - len(trailer),
        generative=edit.generative,
    )
    return settled.assemble(coded[made.body_start : made.body_end]), settled.notes
