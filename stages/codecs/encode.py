"""Write an edited photo: into its source's format, or into the one the recipe names."""

from __future__ import annotations

from manifests.errors import RowError
from stages.codecs.convert import convert
from stages.codecs.errors import DamagedError, library_errors
from stages.codecs.formats import CODECS, format_of
from stages.codecs.jpeg.codec import check_samples
from stages.codecs.picture import Decoded, Edit, Encoded, UnsupportedError, to_stored
from stages.pixels.masks import Bits
from stages.recipe import Recipe


def encode(
    source: bytes,
    edited: Decoded,
    changed: Bits,
    recipe: Recipe,
    uri: str,
) -> Encoded:
    """Encode edited pixels, with the source's metadata.

    Args:
        source: the original file, for what is kept of it.
        edited: the whole photo, displayed frame; the stored frame is written and the tag kept.
        changed: ``(h, w)`` bool in the displayed frame, True wherever ``edited`` was edited.
        recipe: its ``output`` and ``metadata``.
        uri: names the photo in errors.

    Raises:
        RowError: ``image.corrupt``, for damage that only shows in a JPEG's coefficients;
            ``image.stale_preview``; ``image.unsupported``, for a file that can be read but not
            written.
    """
    edit = Edit(
        source,
        to_stored(edited.pixels, edited.orientation),
        to_stored(changed, edited.orientation),
        edited.orientation,
        edited.space,
        recipe.output,
        recipe.metadata,
        recipe.is_generative,
    )
    own = format_of(source)
    assert own is not None
    try:
        if converts(source, recipe):
            return _converted(edit, own)
        return CODECS[own].encode(edit)
    except UnsupportedError as error:
        raise RowError(
            "image.unsupported", f"The image {uri} cannot be written: {error}."
        ) from None


def _converted(edit: Edit, own: str) -> Encoded:
    if own == "jpeg":  # else libjpeg finds missing samples when it copies blocks
        check_samples(edit.source)
    try:
        with library_errors():
            return convert(edit, own, edit.output.format)
    except DamagedError as error:
        # What an encoder cannot hold: more pixels a side than it has bits for, above all.
        raise UnsupportedError(f"as {edit.output.format}: {error}") from None


def converts(source: bytes, recipe: Recipe) -> bool:
    """Whether the result has another format than the source."""
    return recipe.output.format not in ("source", format_of(source))


def suffix_of(source: bytes, uri: str, recipe: Recipe) -> str:
    """File suffix of the result, without the dot; the URI's for a format that is not ours."""
    wanted = recipe.output.format
    name = format_of(source) if wanted == "source" else wanted
    return CODECS[name].suffix if name else uri.rpartition(".")[2].lower()
