"""A JPEG's coefficients and header, for the tests of what keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.codecs.jpeg.header import JpegHeader
from stages.codecs.jpeg.libjpeg import Coefficients, OnRow, reading


def header_of(jpeg: bytes) -> JpegHeader:
    with reading(jpeg) as found:
        return found.header


def recoded(jpeg: bytes, on_row: OnRow = lambda *_: None, **changes: Any) -> bytes:
    """The file from its own coefficients, with another header."""
    with reading(jpeg) as found:
        found.visit(on_row)
        for name, value in changes.items():
            setattr(found.header, name, value)
        return found.write()


def coefficients_of(jpeg: bytes) -> list[npt.NDArray[np.int16]]:
    """All quantised coefficients: for each component ``(rows, columns, 64)`` int16."""
    with reading(jpeg) as source:
        header = source.header
        numbers = range(len(header.components))
        found = [np.zeros((*header.blocks(number), 64), np.int16) for number in numbers]

        def take(component: int, row: int, coefficients: Coefficients) -> None:
            found[component][row] = coefficients

        source.visit(take)
    return found
