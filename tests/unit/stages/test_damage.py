"""Damaged photos of every format end in an error of their own or in a picture: never in a crash."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import RowError
from stages.codecs.decode import decode_mask, decode_photo
from stages.codecs.picture import Decoded
from stages.recipe import Recipe
from tests.support.files import corpus
from tests.support.files.editing import written

RECIPE = Recipe.load("telea")

#: One or two of each kind of reader and writer.
KINDS = [
    *("jpeg-exif-thumbnail-big-endian", "jpeg-photoshop", "jpeg-further-picture", "jpeg-cmyk"),
    *("png-rgb", "png-16-bit-rgba", "png-interlaced", "png-palette-alpha"),
    *("webp-lossless", "webp-lossy-alpha"),
    *("tiff-lzw", "tiff-16-bit-big-endian", "tiff-zstd-tiles", "tiff-pages-and-copies"),
    *("tiff-photoshop-and-xmp", "tiff-packbits"),
    *("avif-alpha", "heic-alpha"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_photo_is_refused_or_edited(kind: str) -> None:
    source = corpus.small_files()[kind]

    @settings(database=None)
    @given(
        keep=st.floats(0.05, 1.2),
        changes=st.lists(
            st.tuples(st.floats(0, 0.9999), st.integers(1, 255)), min_size=1, max_size=6
        ),
        only_head=st.booleans(),
    )
    def damage(keep: float, changes: list[tuple[float, int]], only_head: bool) -> None:
        data = bytearray(source)
        reach = min(len(data), 600) if only_head else len(data)
        for position, change in changes:
            data[int(position * reach)] ^= change
        mutant = bytes(data[: int(keep * len(data))])
        with contextlib.suppress(RowError):
            decode_mask(mutant, 1, "x")
        try:
            decoded = decode_photo(mutant, 1, "x")
            changed = np.zeros(decoded.pixels.shape[:2], np.bool_)
            changed[: len(changed) // 2] = True
            pixels = decoded.pixels.copy()
            pixels[changed] = 77
            edited = Decoded(pixels, decoded.orientation, decoded.space)
            result = written(mutant, edited, changed, RECIPE)
        except RowError:
            return
        again = decode_photo(result.data, 1, "x")
        assert again.pixels.shape == pixels.shape
        if result.fidelity == "lossless":
            assert np.array_equal(again.pixels, pixels)

    damage()
