"""Edit a file's pixels without a fill, for the tests of formats."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from stages.arrays import BoolMask, Samples
from stages.codecs.decode import decode_photo
from stages.codecs.encode import encode
from stages.codecs.picture import Decoded, Encoded, to_displayed
from stages.recipe import Recipe

Pixels = npt.NDArray[np.uint8]


def edited(source: bytes, spot: BoolMask, *options: str) -> tuple[Decoded, Encoded]:
    """The photo as it was decoded, and the file with the spot's colours turned to their opposite;
    alpha is left alone."""
    recipe = Recipe.load("telea", options)
    decoded = decode_photo(source, 100, "x")
    pixels, colours = decoded.pixels.copy(), decoded.space.channels
    top = np.iinfo(pixels.dtype).max
    here = to_displayed(spot, decoded.orientation)
    pixels[here, :colours] = top - pixels[here, :colours]
    new = Decoded(pixels, decoded.orientation, decoded.space)
    return decoded, written(source, new, here, recipe)


def written(source: bytes, new: Decoded, changed: BoolMask, recipe: Recipe) -> Encoded:
    """The file as a recipe's options have it written."""
    return encode(
        source,
        new,
        changed,
        "x",
        output=recipe.output,
        metadata=recipe.metadata,
        is_generative=recipe.is_generative,
    )


def tiff(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, metadata=None, **options)
    return buffer.getvalue()


def with_alpha(pixels: Samples) -> Samples:
    ramp = np.linspace(0, np.iinfo(pixels.dtype).max, pixels.shape[1]).astype(pixels.dtype)
    alpha = np.broadcast_to(ramp[:, None], (*pixels.shape[:2], 1))
    return np.concatenate([pixels, alpha], axis=2)


def read_tiff(data: bytes) -> Samples:
    return np.asarray(tifffile.imread(io.BytesIO(data), key=0))
