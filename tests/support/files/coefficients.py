"""A JPEG's coefficients and header, for the tests of what keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stages.codecs.jpeg.libjpeg import Coefficients, JpegHeader, open_coefficients

#: Called with each component's number and one of its rows of blocks, which it may change.
OnRow = Callable[[int, Coefficients], None]


def header_of(jpeg: bytes) -> JpegHeader:
    with open_coefficients(jpeg) as found:
        return found.header


def reencoded(jpeg: bytes, on_row: OnRow = lambda *_: None, **changes: Any) -> bytes:
    """The file from its own coefficients, with another header."""
    with open_coefficients(jpeg) as found:
        for number, rows in enumerate(found.planes):
            for row in rows:
                on_row(number, row)
        for name, value in changes.items():
            setattr(found.header, name, value)
        return found.write()


def coefficients_of(jpeg: bytes) -> list[Coefficients]:
    """All quantised coefficients: for each component ``(rows, columns, 64)`` int16."""
    with open_coefficients(jpeg) as source:
        return [np.stack(rows) for rows in source.planes]
