"""Encode an edited photo, in its source's format or in another one."""

from __future__ import annotations

from typing import Literal

from manifests.errors import RowError
from stages.arrays import BoolMask
from stages.codecs.base import Format
from stages.codecs.convert import convert
from stages.codecs.errors import DamagedError, UnsupportedError, library_errors
from stages.codecs.formats import CODECS, detect_format
from stages.codecs.picture import Decoded, Edit, Encoded, to_stored
from stages.libraries import configure_libraries
from stages.recipe.options import MetadataOptions, OutputOptions

#: The format of the result; ``source``: that of the source.
Target = Format | Literal["source"]


def encode(
    source: bytes,
    edited: Decoded,
    changed: BoolMask,
    uri: str,
    *,
    output: OutputOptions,
    metadata: MetadataOptions,
    is_generative: bool = False,
) -> Encoded:
    """Encode edited pixels, with the source's metadata.

    Args:
        source: the original file, from which metadata and untouched samples are kept.
        edited: the edited photo in the displayed frame; it is written in the stored frame, and the
            orientation tag is kept, unless the format changes: not every format has an orientation.
        changed: ``(h, w)`` bool in the displayed frame, True wherever ``edited`` was edited.
        uri: the name of the photo in errors.
        output: the options for format and quality.
        metadata: the options for previews and for labelling the edit.
        is_generative: whether a generative model filled the hole.

    Raises:
        RowError: ``image.corrupt``, for damage that only shows in a JPEG's coefficients;
            ``image.stale_preview``; ``image.unsupported``, for a file that can be read but not
            written.
    """
    configure_libraries()
    own = detect_format(source)
    assert own is not None
    wanted = own if output.format == "source" else output.format
    orientation = edited.orientation if wanted == own else 1
    edit = Edit(
        source,
        to_stored(edited.pixels, orientation),
        to_stored(changed, orientation),
        edited.space,
        output.quality,
        metadata,
        is_generative,
    )
    try:
        with library_errors():
            if wanted == own:
                return CODECS[own].encode(edit)
            CODECS[own].check_samples(source)
            return convert(edit, own, wanted)
    except (UnsupportedError, DamagedError) as error:
        # A library's error mostly means a side that is longer than the format supports.
        is_damaged = isinstance(error, DamagedError) and not error.__cause__
        raise RowError(
            "image.corrupt" if is_damaged else "image.unsupported",
            f"The image {uri} cannot be written as {wanted}: {error}.",
        ) from None


def changes_format(source: bytes, wanted: Target) -> bool:
    """Whether the result has another format than the source."""
    return wanted not in ("source", detect_format(source))


def suffix_of(source: bytes, uri: str, wanted: Target) -> str:
    """File suffix of the result, without the dot; the URI's for a format without a codec."""
    name = detect_format(source) if wanted == "source" else wanted
    return CODECS[name].suffix if name else uri.rpartition(".")[2].lower()
